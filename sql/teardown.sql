-- Takes out what setup.sql brought into a database, and leaves its tables as they were.
--
--     psql -U postgres -d DB -v ON_ERROR_STOP=1 -f sql/teardown.sql
--
-- One transaction, by the role that ran setup.sql or a superuser. It stops, and changes nothing,
-- where something else in the database uses its functions: a view, a policy or a default of
-- somebody's own making. From then on app_user sees what it is granted, and of all tenants.
--
-- Role app_user stays, for it may serve other databases and own things. Where it does neither, it
-- goes by GRANT app_user TO CURRENT_USER; DROP OWNED BY app_user; DROP ROLE app_user.
-- CREATE on schema public is not given back to PUBLIC, USAGE on schemas not taken from app_user.

begin;

set local search_path = pg_catalog, pg_temp;

do $$
declare
    name text;
begin
    perform pg_advisory_xact_lock(hashtextextended('multigres setup.sql', 0));

    -- A function that another role has put in their place must not run with the rights of this one.
    select o.name into name
    from (
        select p.oid::regprocedure::text, p.proowner
        from pg_proc as p
        where p.pronamespace = 'public'::regnamespace
            and (p.oid = to_regprocedure('public.current_tenant_id()')
                or starts_with(p.proname::text, 'multigres_'))
        union all
        select c.oid::regclass::text, c.relowner from pg_class as c
        where c.oid in (to_regclass('public.multigres_seal_keys'),
            to_regclass('public.multigres_hardening'))
        union all
        select 'schema multigres', n.nspowner from pg_namespace as n where n.nspname = 'multigres'
    ) as o(name, owner)
    join pg_roles as r on r.oid = o.owner
    where r.rolname <> current_user and not r.rolsuper
    order by o.name limit 1;
    if name is not null then
        raise exception '% belongs to another role', name
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Run this as the role that ran setup.sql, or drop what belongs to others.';
    end if;

    drop event trigger if exists multigres_guard;
    drop event trigger if exists multigres_guard_drop;
    drop event trigger if exists multigres_guard_start;
    drop event trigger if exists multigres_guard_schema;
    -- The functions of an older version would execute the texts in that table.
    if to_regclass('public.multigres_hardening') is not null then
        raise exception 'public.multigres_hardening is of an older version'
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Run setup.sql first: it moves the rows that can be trusted.';
    end if;
    if to_regprocedure('public.multigres_unharden()') is not null then
        perform public.multigres_unharden();
    end if;

    if to_regprocedure('public.multigres_unprotect(regclass, name)') is not null then
        -- An older version has no record. A partition goes with its table.
        for name in execute format('
            with known(id) as (
                select p.polrelid from pg_policy as p
                where starts_with(p.polname::text, ''multigres_isolation'') %s
            )
            select c.oid::regclass::text from known as k join pg_class as c on c.oid = k.id
            where c.relpersistence <> ''t'' and not exists (
                select from pg_inherits as i join known as parent on parent.id = i.inhparent
                where i.inhrelid = c.oid)
            order by 1',
            case when to_regclass('multigres.dimensions') is not null
                then 'union select d.relation::oid from multigres.dimensions as d' end)
        loop
            perform public.multigres_unprotect(name::regclass);
        end loop;
    end if;

    if to_regclass('public.multigres_seal_keys') is not null then
        drop table public.multigres_seal_keys;
    end if;
    -- current_tenant_id() first: nothing says that it needs multigres_context().
    for name in
        select p.oid::regprocedure::text
        from pg_proc as p
        where p.pronamespace = 'public'::regnamespace
            and (p.oid = to_regprocedure('public.current_tenant_id()')
                or starts_with(p.proname::text, 'multigres_'))
        order by 1
    loop
        execute 'drop function ' || name;
    end loop;
    -- All of it is Multigres', and no NOTICE need list it.
    set local client_min_messages = warning;
    drop schema if exists multigres cascade;
end
$$;

commit;
