-- Which roles app_user can become, what it may create, and what is set for it.
create or replace function multigres.check_role()
returns table (lint text, object text, problem text, fix text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with roles as (
        select r.*, r.rolname = 'app_user' as itself,
            (
                select string_agg(format('revoke %I from app_user', g.rolname), '; ')
                from pg_auth_members as m
                join pg_roles as g on g.oid = m.roleid
                where m.member = to_regrole('app_user')
                    and (g.oid = r.oid or pg_has_role(g.oid, r.oid, 'member') and not g.rolsuper)
            ) as leave
        from pg_roles as r
        where r.oid in (select multigres.app_roles())
    ),
    setup as (
        select p.proowner as owner from pg_proc as p
        where p.oid = 'public.current_tenant_id()'::text::regprocedure
    ),
    flags as (
        select r.*, f.flag, f.fix from roles as r, lateral (values
            (r.rolsuper, 'is a superuser', 'nosuperuser'),
            (r.rolbypassrls, 'has BYPASSRLS', 'nobypassrls'),
            (r.rolcreaterole, 'has CREATEROLE', 'nocreaterole'),
            (r.rolreplication, 'has REPLICATION', 'noreplication'),
            (r.rolname in ('pg_read_server_files', 'pg_write_server_files',
                'pg_execute_server_program'), 'reaches the server''s files', null)
        ) as f(is_set, flag, fix)
        where f.is_set
    )
    select 'role_missing', 'role app_user', 'does not exist',
        '-- run setup.sql again'
    where to_regrole('app_user') is null
    union all
    select 'role_bypasses_policies', 'role app_user',
        case when f.itself then f.flag
            else format('can become %I, which %s', f.rolname, f.flag) end,
        case when f.itself then 'alter role app_user ' || f.fix else f.leave end
    from flags as f
    union all
    select 'role_owns_multigres', 'role app_user',
        format('can become %I, which owns the functions of Multigres', r.rolname), r.leave
    from roles as r, setup where r.oid = setup.owner and not r.itself
    union all
    select case when r.rolname in ('pg_read_all_data', 'pg_write_all_data') and multigres.sealed()
            then 'role_reaches_seal_keys' else 'role_predefined' end,
        'role app_user',
        format('is a member of %I, which may see or do more than one tenant should', r.rolname),
        r.leave
    from roles as r
    where r.rolname in ('pg_read_all_data', 'pg_write_all_data', 'pg_maintain', 'pg_monitor',
        'pg_read_all_stats', 'pg_read_all_settings', 'pg_stat_scan_tables', 'pg_signal_backend',
        'pg_create_subscription', 'pg_checkpoint', 'pg_use_reserved_connections')
    union all
    -- A grant to anybody at all, as at each login: see multigres.reaches_keys().
    select 'seal_keys_granted', 'table multigres.seal_keys',
        'others than its owner may read or change the keys: '
            || multigres.reaches_keys(to_regrole('app_user'), c.oid),
        concat_ws('; ', case when x.owned
                then format('alter table multigres.seal_keys owner to %I', current_user) end,
            format('select multigres.withhold(%L)', c.oid::regclass))
    from setup, pg_class as c
    cross join lateral (
        select c.relowner in (select r.oid from roles as r) and c.relowner <> setup.owner as owned,
            c.relacl is not null or exists (
                select from pg_attribute as t where t.attrelid = c.oid and t.attacl is not null)
                as granted
    ) as x
    where c.oid = to_regclass('multigres.seal_keys') and (x.owned or x.granted)
        and multigres.reaches_keys(to_regrole('app_user'), c.oid) is not null
    union all
    -- What a tenant creates there runs in the sessions of the next one, with that one's rows.
    select 'schema_create_granted', format('schema %I', n.nspname),
        'app_user may create objects in it, which the sessions of other tenants would use',
        multigres.revoke(format('schema %I', n.nspname), n.nspacl, '{CREATE}')
    from pg_namespace as n
    where n.nspname !~ '^pg_' and exists (
        select from aclexplode(n.nspacl) as a
        where a.privilege_type = 'CREATE' and a.grantee <> n.nspowner
            and a.grantee in (select multigres.app_roles()))
    union all
    select 'schema_owned_by_tenants', format('schema %I', n.nspname),
        'app_user owns it, and may drop or replace what is in it',
        case when r.rolname = 'pg_database_owner'
            then format('alter database %I owner to %I', current_database(), current_user)
            else format('alter schema %I owner to %I', n.nspname, current_user) end
    from pg_namespace as n join roles as r on r.oid = n.nspowner
    where n.nspname !~ '^pg_' and not r.rolsuper
    union all
    select 'database_create_granted', format('database %I', d.datname),
        'app_user may create schemas in it, which the search_path of other tenants would find',
        multigres.revoke(format('database %I', d.datname), d.datacl, '{CREATE}')
    from pg_database as d
    where d.datname = current_database() and exists (
        select from aclexplode(d.datacl) as a
        where a.privilege_type = 'CREATE' and a.grantee <> d.datdba
            and a.grantee in (select multigres.app_roles()))
    union all
    select s.lint, s.object, format('%I is set for every login', s.name) || s.effect, s.fix
    from multigres.login_settings() as s
    union all
    select 'default_privileges', format('default privileges of %I', pg_get_userbyid(d.defaclrole)),
        'app_user gets ' || string_agg(distinct a.privilege_type, ', ')
            || ' on tables that are not protected yet',
        string_agg(distinct concat_ws(' ',
            format('alter default privileges for role %I', pg_get_userbyid(d.defaclrole)),
            case when d.defaclnamespace <> 0
                then format('in schema %I', n.nspname) end,
            'revoke all on tables from',
            case a.grantee when 0 then 'public'
                else quote_ident(pg_get_userbyid(a.grantee)) end), '; ')
    from pg_default_acl as d
    left join pg_namespace as n on n.oid = d.defaclnamespace,
        aclexplode(d.defaclacl) as a
    where d.defaclobjtype = 'r' and a.grantee in (select multigres.app_roles())
        and a.grantee <> d.defaclrole
    group by d.oid, d.defaclrole;
end
$$;

revoke all on function multigres.check_role() from public;
