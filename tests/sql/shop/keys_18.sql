-- What PostgreSQL has since 18. Periods need btree_gist.
create extension if not exists btree_gist;
create table apart (tenant_id text not null, room int, body text,
    constraint one_tenant exclude using gist (room with =, tenant_id with <>));
select public.multigres_protect('apart');
create table stays (
    id int, tenant_id text not null, span int4range,
    constraint stays_pkey primary key (id, span without overlaps));
create table nights (
    tenant_id text not null, stay int, span int4range, again int,
    constraint during foreign key (stay, period span) references stays (id, period span),
    constraint twice foreign key (again, period span) references stays (id, period span));
create table loose (
    tenant_id text not null, person int,
    constraint not_enforced foreign key (person) references people not enforced);
select public.multigres_protect('stays'), public.multigres_protect('nights'),
    public.multigres_protect('loose');
