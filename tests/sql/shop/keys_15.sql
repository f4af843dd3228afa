-- What PostgreSQL has since 15.
create table modern (
    tenant_id text not null, id int, name text, born date,
    constraint one_of_two foreign key (name, born) references staff (name, born)
        on delete set null (born),
    constraint no_nulls unique nulls not distinct (born));
select public.multigres_protect('modern');
