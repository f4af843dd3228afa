-- Privileges that PostgreSQL, or an extension, grants to no role, and somebody has granted since:
-- on the server's files, statistics that contain values of all tenants, passwords.
create or replace function multigres.check_system_privileges()
returns table (lint text, object text, problem text, fix text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with app(id) as materialized (
        select multigres.app_roles()
    ),
    granted as (
        select i.classoid, i.objoid, a.privilege_type as privilege
        from pg_init_privs as i
        cross join lateral (
            select p.proacl from pg_proc as p
            where i.classoid = 'pg_proc'::regclass and p.oid = i.objoid
            union all
            select c.relacl from pg_class as c
            where i.classoid = 'pg_class'::regclass and i.objsubid = 0 and c.oid = i.objoid
                and c.relnamespace = 'pg_catalog'::regnamespace
        ) as o(acl)
        cross join lateral aclexplode(o.acl) as a
        where a.grantee in (select app.id from app)
            and not exists (
                select from aclexplode(i.initprivs) as x
                where x.grantee = a.grantee and x.privilege_type = a.privilege_type)
        union
        select 'pg_class'::regclass, t.attrelid, a.privilege_type
        from pg_class as c
        join pg_attribute as t on t.attrelid = c.oid
        cross join lateral aclexplode(t.attacl) as a
        where c.relnamespace = 'pg_catalog'::regnamespace and t.attacl is not null
            and a.grantee in (select app.id from app)
            and not exists (
                select from pg_init_privs as i, aclexplode(i.initprivs) as x
                where i.classoid = 'pg_class'::regclass and i.objoid = t.attrelid
                    and i.objsubid in (0, t.attnum)
                    and x.grantee = a.grantee and x.privilege_type = a.privilege_type)
    )
    select case when p.proname ~ '^(pg_(read|ls|stat_file|file|logdir|current_logfile)|lo_|get_raw)'
            then 'server_files_granted' else 'system_function_granted' end,
        'function ' || p.oid::regprocedure::text,
        'app_user may execute it, and PostgreSQL grants that to no role',
        multigres.revoke('function ' || p.oid::regprocedure, p.proacl, '{EXECUTE}')
    from granted as g join pg_proc as p on p.oid = g.objoid
    where g.classoid = 'pg_proc'::regclass
        -- These have findings of their own.
        and not exists (
            select from pg_depend as d
            join pg_extension as e on e.oid = d.refobjid
            where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
                and d.refclassid = 'pg_extension'::regclass
                and e.extname in ('dblink', 'pg_stat_statements'))
    union all
    select 'system_relation_granted',
        case c.relkind when 'v' then 'view ' else 'table ' end || c.oid::regclass::text,
        format('app_user has %s on it, and PostgreSQL grants that to no role',
            string_agg(g.privilege, ', ' order by g.privilege)),
        multigres.revoke_table(c.oid, variadic array_agg(g.privilege))
    from granted as g join pg_class as c on c.oid = g.objoid
    where g.classoid = 'pg_class'::regclass
    group by c.oid, c.relkind;
end
$$;

revoke all on function multigres.check_system_privileges() from public;
