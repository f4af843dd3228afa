-- Whom the role can become, what it may make, and what is set for it.
create or replace function public.multigres_check_role()
returns table (severity text, object text, problem text, fix text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
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
        where r.oid in (select public.multigres_app_roles())
    ),
    setup as (
        select p.proowner as owner from pg_proc as p
        where p.oid = 'public.current_tenant_id()'::regprocedure
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
    select 'error', 'role app_user', 'does not exist', 'run setup.sql again'
    where to_regrole('app_user') is null
    union all
    select 'error', 'role app_user',
        case when f.itself then f.flag
            else format('can become %I, which %s', f.rolname, f.flag) end,
        case when f.itself then 'alter role app_user ' || f.fix else f.leave end
    from flags as f
    union all
    select 'error', 'role app_user', format('can become %I, which owns the functions of Multigres',
            r.rolname), r.leave
    from roles as r, setup where r.oid = setup.owner and not r.itself
    union all
    select case when r.rolname = 'pg_read_all_data'
            and to_regclass('multigres.seal_keys') is not null
            then 'error' else 'warning' end,
        'role app_user',
        format('is a member of %I, which sees or does more than one tenant should', r.rolname),
        r.leave
    from roles as r
    where r.rolname in ('pg_read_all_data', 'pg_write_all_data', 'pg_maintain', 'pg_monitor',
        'pg_read_all_stats', 'pg_read_all_settings', 'pg_stat_scan_tables', 'pg_signal_backend',
        'pg_create_subscription', 'pg_checkpoint', 'pg_use_reserved_connections')
    union all
    select 'error', 'table multigres.seal_keys', 'app_user may use the keys of the seal',
        coalesce(
            case when pg_has_role('app_user', c.relowner, 'member')
                then format('alter table multigres.seal_keys owner to %I', current_user) end,
            public.multigres_revoke_table(c.oid, 'SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE',
                'REFERENCES', 'TRIGGER'))
    from pg_class as c, setup
    where c.oid = to_regclass('multigres.seal_keys')
        and (c.relowner in (select r.oid from roles as r) and c.relowner <> setup.owner
            -- Whatever it may do with the schema: the daemon refuses the login.
            or public.multigres_revoke_table(c.oid, 'SELECT', 'INSERT', 'UPDATE', 'DELETE',
                'TRUNCATE', 'REFERENCES', 'TRIGGER') is not null)
    union all
    -- Who may create where others look lays traps for them: what a tenant makes there runs in the
    -- sessions of the next one, with that one's rows.
    select 'error', format('schema %I', n.nspname),
        'app_user may create objects in it, which other tenants'' sessions would use',
        public.multigres_revoke(format('schema %I', n.nspname), n.nspacl, '{CREATE}')
    from pg_namespace as n
    where n.nspname !~ '^pg_' and exists (
        select from aclexplode(n.nspacl) as a
        where a.privilege_type = 'CREATE' and a.grantee <> n.nspowner
            and a.grantee in (select public.multigres_app_roles()))
    union all
    select 'error', format('schema %I', n.nspname),
        'app_user owns it, and may drop or shadow what is in it',
        case when r.rolname = 'pg_database_owner'
            then format('alter database %I owner to %I', current_database(), current_user)
            else format('alter schema %I owner to %I', n.nspname, current_user) end
    from pg_namespace as n join roles as r on r.oid = n.nspowner
    where n.nspname !~ '^pg_' and not r.rolsuper
    union all
    select 'error', format('database %I', d.datname),
        'app_user may create schemas in it, which other tenants'' search_path would find',
        public.multigres_revoke(format('database %I', d.datname), d.datacl, '{CREATE}')
    from pg_database as d
    where d.datname = current_database() and exists (
        select from aclexplode(d.datacl) as a
        where a.privilege_type = 'CREATE' and a.grantee <> d.datdba
            and a.grantee in (select public.multigres_app_roles()))
    union all
    select s.severity, s.object, format('%I is set for every login', s.name) || s.effect, s.fix
    from multigres.login_settings() as s
    union all
    select 'info', format('default privileges of %I', pg_get_userbyid(d.defaclrole)),
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
    where d.defaclobjtype = 'r' and a.grantee in (select public.multigres_app_roles())
        and a.grantee <> d.defaclrole
    group by d.oid, d.defaclrole
$$;
