-- Schema multigres: the tables of Multigres, and the functions that it alone calls. A policy finds
-- its functions by oid and needs no USAGE here; functions that the daemon or a role calls by name
-- are in schema public.
do $$
declare
    grantee text;
begin
    if to_regnamespace('multigres') is null then
        create schema multigres;
    end if;
    if not exists (
        select from pg_namespace as n
        where n.nspname = 'multigres' and pg_get_userbyid(n.nspowner) = current_user)
    then
        alter schema multigres owner to current_user;
    end if;
    -- Default privileges may have granted it to anybody.
    for grantee in
        select distinct case a.grantee when 0 then 'public'
            else quote_ident(pg_get_userbyid(a.grantee)) end
        from pg_namespace as n, aclexplode(n.nspacl) as a
        where n.nspname = 'multigres' and a.grantee <> n.nspowner
    loop
        execute format('revoke all on schema multigres from %s', grantee);
    end loop;
end
$$;


-- Leaves a table or sequence of schema multigres, and the sequences of a table, to its owner
-- alone, whatever default privileges have granted.
create or replace function multigres.withhold(relation regclass) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    granted record;
begin
    for granted in
        select distinct c.oid::regclass as name,
            case c.relkind when 'S' then 'sequence' else 'table' end as kind,
            case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end
                as grantee
        from pg_class as c
        cross join lateral (
            select x.* from aclexplode(c.relacl) as x
            union all
            select x.* from pg_attribute as t, aclexplode(t.attacl) as x
            where t.attrelid = c.oid
        ) as a
        where a.grantee <> c.relowner
            and (c.oid = relation or c.relkind = 'S' and exists (
                select from pg_depend as d
                where d.classid = 'pg_class'::regclass and d.objid = c.oid
                    and d.refclassid = 'pg_class'::regclass and d.refobjid = relation
                    and d.deptype in ('a', 'i')))
    loop
        execute format('revoke all on %s %s from %s', granted.kind, granted.name, granted.grantee);
    end loop;
end
$$;



-- Makes a table or view of schema multigres the caller's. Without a change it takes no lock: a
-- tenant's transaction that has read it would hold this up, and all logins would wait behind this.
create or replace function multigres.take(relation regclass) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (
        select from pg_class as c
        where c.oid = relation and pg_get_userbyid(c.relowner) = current_user)
    then
        execute format('alter table %s owner to current_user', relation);
    end if;
end
$$;

revoke all on function multigres.withhold(regclass), multigres.take(regclass) from public;
