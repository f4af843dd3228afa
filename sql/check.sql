-- multigres_check(): a linter. What in this database could show app_user another tenant's rows,
-- let it write them, or tell it that they exist; with the SQL that mends it.
--
--     psql -U postgres -d DB -c "select * from multigres_check()"
--
-- error: tenants are not held apart, or one of them can make it so. warning: something leaks, or
-- is one mistake from an error. info: a choice that may be meant. Loaded by setup.sql, inside its
-- transaction.
--
-- A table counts as protected when it has a policy named multigres_isolation...; whether that
-- policy is any good is one of the questions. What extensions bring is not looked at.


-- app_user and all that it can become, 0 for PUBLIC. Empty where it does not exist. A superuser
-- is a member of every role: there it is app_user alone, for the one finding that matters.
create or replace function public.multigres_app_roles() returns setof oid
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select r.oid
    from pg_roles as app, pg_roles as r
    where app.rolname = 'app_user'
        and (r.oid = app.oid or not app.rolsuper and pg_has_role(app.oid, r.oid, 'member'))
    union all
    select 0::oid from pg_roles as app where app.rolname = 'app_user'
$$;


-- Which of these privileges app_user has on a relation of a schema that it may use; NULL for
-- none. An owner's rights and those of predefined roles are not looked at here.
create or replace function public.multigres_reached(relation oid, variadic privileges text[])
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with app(id) as materialized (
        select public.multigres_app_roles()
    )
    select string_agg(distinct a.privilege_type, ', ')
    from pg_class as c
    join pg_namespace as n on n.oid = c.relnamespace,
        lateral (
            select x.* from aclexplode(c.relacl) as x
            union all
            select x.* from pg_attribute as t, aclexplode(t.attacl) as x
            where t.attrelid = c.oid and not t.attisdropped
        ) as a
    where c.oid = relation and a.privilege_type = any (privileges)
        and a.grantee in (select app.id from app)
        and exists (
            select from aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) as x
            where x.privilege_type = 'USAGE' and x.grantee in (select app.id from app))
$$;


-- The REVOKE statements that take such privileges from app_user: one for each role, PUBLIC
-- among them, through which it has them.
create or replace function public.multigres_revoke(object text, acl aclitem[], privileges text[])
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select string_agg(format('revoke %s on %s from %s', r.list, object, r.grantee), '; ')
    from (
        select case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end
                as grantee,
            string_agg(distinct lower(a.privilege_type), ', ') as list
        from aclexplode(acl) as a
        where a.privilege_type = any (privileges)
            and a.grantee in (select public.multigres_app_roles())
        group by 1
    ) as r
$$;


create or replace function public.multigres_revoke_table(
    relation oid, variadic privileges text[])
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    -- The table's REVOKE takes those on its columns along.
    select public.multigres_revoke(relation::regclass::text, array_agg(a.acl), privileges)
    from (
        select unnest(c.relacl) as acl from pg_class as c where c.oid = relation
        union all
        select unnest(t.attacl) from pg_attribute as t
        where t.attrelid = relation and not t.attisdropped
    ) as a
$$;


-- What PostgreSQL may put into the text of such a comparison without changing it.
create or replace function public.multigres_noise() returns text
language sql immutable
as $$
    select '\mSELECT\M|\mAS\M\s+"?\w+"?|[()\s]'
        || '|::(character varying|"?\w+"?(\."?\w+"?)?)(\(\d+\))?'
$$;


-- The restrictive policies of Multigres, one line for each column that they hold. `intact` says
-- that the policy does what multigres_protect() made it for: everyone, every command, and a
-- comparison of the column with the context and nothing else.
create or replace function public.multigres_isolations()
returns table (policy oid, policy_name name, relation oid, column_number smallint,
    column_name name, variable text, intact boolean)
language sql stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
    select p.oid, p.polname, p.polrelid, a.attnum, a.attname, x.variable,
        not p.polpermissive and p.polcmd = '*' and p.polroles = '{0}'
            and coalesce(x.compares and y.compares, false)
    from pg_policy as p
    left join lateral (
        -- Of several columns the first: then the policy is not intact, and is found so.
        select t.attnum, t.attname
        from pg_depend as d
        join pg_attribute as t on t.attrelid = p.polrelid and t.attnum = d.refobjsubid
        where d.classid = 'pg_policy'::regclass and d.objid = p.oid
            and d.refclassid = 'pg_class'::regclass and d.refobjid = p.polrelid
            and d.refobjsubid > 0
        order by t.attnum limit 1
    ) as a on true
    cross join lateral (
        -- OFFSET 0: once for each policy, and not wherever the text is asked for.
        select pg_get_expr(p.polqual, p.polrelid) as qual offset 0
    ) as q
    cross join lateral (
        select e.bare in (
                e.name || '=public.current_tenant_id',
                e.name || '=public.multigres_context''' || e.variable || '''')
                -- As multigres_protect() writes it: citext is compared twice.
                or e.qual = public.multigres_predicate(p.polrelid, a.attname, e.variable)
                as compares,
            e.variable
        from (
            -- Casts, parentheses and the wrapping in a subquery are as the type wants them.
            select q.qual, regexp_replace(q.qual, r.noise, '', 'g') as bare,
                regexp_replace(quote_ident(a.attname), r.noise, '', 'g') as name,
                coalesce(
                    substring(q.qual from 'multigres_context\(''([^'']+)'''),
                    'app.current_tenant_id') as variable
            from (values (public.multigres_noise())) as r(noise)
        ) as e
    ) as x
    cross join lateral (
        select p.polwithcheck is null
            or pg_get_expr(p.polwithcheck, p.polrelid) = q.qual as compares
    ) as y
    where p.polname ~ '^multigres_isolation'
$$;


-- Whom the role can become, what it may make, and what is set for it.
create or replace function public.multigres_check_role()
returns table (severity text, object text, problem text, fix text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with variables(name) as materialized (
        select lower(i.variable) from public.multigres_isolations() as i
    ),
    roles as (
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
            and to_regclass('public.multigres_seal_keys') is not null
            then 'error' else 'warning' end,
        'role app_user',
        format('is a member of %I, which sees or does more than one tenant should', r.rolname),
        r.leave
    from roles as r
    where r.rolname in ('pg_read_all_data', 'pg_write_all_data', 'pg_maintain', 'pg_monitor',
        'pg_read_all_stats', 'pg_read_all_settings', 'pg_stat_scan_tables', 'pg_signal_backend',
        'pg_create_subscription', 'pg_checkpoint', 'pg_use_reserved_connections')
    union all
    select 'error', 'table public.multigres_seal_keys', 'app_user may use the keys of the seal',
        coalesce(
            case when pg_has_role('app_user', c.relowner, 'member')
                then format('alter table public.multigres_seal_keys owner to %I', current_user) end,
            public.multigres_revoke_table(c.oid, 'SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE',
                'REFERENCES', 'TRIGGER'))
    from pg_class as c, setup
    where c.oid = to_regclass('public.multigres_seal_keys')
        and (c.relowner in (select r.oid from roles as r) and c.relowner <> setup.owner
            or public.multigres_reached(c.oid, 'SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE',
                'REFERENCES', 'TRIGGER') is not null)
    union all
    -- Who may create where others look lays traps for them: what a tenant makes there runs in the
    -- sessions of the next one, with his rows.
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
    select case when c.name in (select v.name from variables as v)
                or c.name in ('app.current_tenant_id', 'role') or c.name ~ '_seal$'
            then 'error' else 'warning' end,
        case when s.setrole = 0 then format('database %I', current_database())
            else 'role app_user' end,
        format('%I is set for every login', c.name),
        concat_ws(' ', 'alter',
            case when s.setrole <> 0 then 'role app_user' end,
            case when s.setrole <> 0 and s.setdatabase <> 0 then 'in' end,
            case when s.setdatabase <> 0 then format('database %I', current_database()) end,
            'reset', (select string_agg(quote_ident(x.part), '.')
                from unnest(string_to_array(c.name, '.')) as x(part)))
    from pg_db_role_setting as s, unnest(s.setconfig) as x(setting),
        lateral (select lower(split_part(x.setting, '=', 1)) as name) as c
    where s.setrole in (0, to_regrole('app_user')::oid)
        and s.setdatabase in (0, (select d.oid from pg_database as d
            where d.datname = current_database()))
        and (c.name in ('role', 'row_security', 'search_path', 'session_authorization',
                'local_preload_libraries', 'session_preload_libraries')
            or c.name ~ '_seal$' or c.name = 'app.current_tenant_id'
            or c.name in (select v.name from variables as v))
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


-- Tables: what should be protected and is not, or not wholly.
create or replace function public.multigres_check_tables()
returns table (severity text, object text, problem text, fix text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with recursive isolations as materialized (
        select * from public.multigres_isolations()
    ),
    protection as (
        select i.relation, min(i.column_name) as column_name, array_agg(i.column_number) as numbers,
            string_agg(quote_ident(i.column_name), ', ' order by i.column_number) as columns,
            -- What protects a table anew, column by column.
            string_agg(format('select public.multigres_protect(%L, %L%s)', i.relation::regclass,
                i.column_name, case when i.variable <> 'app.current_tenant_id'
                    then format(', %L', i.variable) else '' end), '; ') as again
        from isolations as i group by i.relation
    ),
    family(relation, top, depth) as (
        select i.inhrelid, i.inhparent, 1 from pg_inherits as i
        union all
        select f.relation, i.inhparent, f.depth + 1
        from family as f join pg_inherits as i on i.inhrelid = f.top
    ),
    tables as (
        select c.oid as id, c.oid::regclass::text as name, c.*, p.relation is not null as protected,
            p.numbers, p.columns, p.again, above.again as again_above,
            public.multigres_reached(c.oid, 'SELECT', 'INSERT', 'UPDATE', 'DELETE') as reached,
            public.multigres_reached(c.oid, 'INSERT', 'UPDATE', 'DELETE') as written,
            (
                select t.attname from pg_attribute as t
                where t.attrelid = c.oid and t.attnum > 0 and not t.attisdropped
                    and (t.attname = 'tenant_id'
                        or t.attname in (select q.column_name from protection as q))
                order by t.attname <> 'tenant_id' limit 1
            ) as tenant_column
        from pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        left join protection as p on p.relation = c.oid
        left join lateral (
            select q.again from family as f join protection as q on q.relation = f.top
            where f.relation = c.oid order by f.depth desc limit 1
        ) as above on true
        where c.relkind in ('r', 'p') and c.relpersistence <> 't'
            and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
            and c.oid is distinct from to_regclass('public.multigres_seal_keys')
            and not exists (
                select from pg_depend as d
                where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
    )
    select 'error', 'table ' || t.name, 'row-level security is off',
        format('alter table %s enable row level security', t.name)
    from tables as t where t.protected and not t.relrowsecurity
    union all
    select 'error', 'table ' || t.name, 'row-level security is not forced upon the owner',
        format('alter table %s force row level security', t.name)
    from tables as t where t.protected and not t.relforcerowsecurity
    union all
    select case when t.reached is null then 'info' else 'error' end, 'table ' || t.name,
        'is a part of a protected table and has no policy of its own'
            || case when t.reached is null then '; app_user does not reach it by its name'
                else ': read by its name it shows all rows' end,
        t.again_above
    from tables as t where not t.protected and t.again_above is not null
    union all
    -- Someone else's policies may be right; nothing here can tell.
    select case when t.relrowsecurity then 'warning' else 'error' end, 'table ' || t.name,
        format('has a column %I and is not protected; app_user has %s', t.tenant_column, t.reached),
        format('select public.multigres_protect(%L, %L)', t.name, t.tenant_column)
    from tables as t
    where not t.protected and t.again_above is null and t.tenant_column is not null
        and t.reached is not null
    union all
    select case when t.written is null then 'info' else 'warning' end, 'table ' || t.name,
        'is not protected: all tenants ' || case when t.written is null then 'read the same rows'
            else 'write the same rows' end,
        case when t.written is null then public.multigres_revoke_table(t.id, 'SELECT')
            else public.multigres_revoke_table(t.id, 'INSERT', 'UPDATE', 'DELETE') end
    from tables as t
    where not t.protected and t.again_above is null and t.tenant_column is null
        and t.reached is not null
    union all
    select 'error', 'table ' || t.name,
        format('app_user can become its owner %I, who can switch row-level security off',
            r.rolname),
        format('alter table %s owner to %I', t.name, current_user)
    from tables as t join pg_roles as r on r.oid = t.relowner
    where (t.protected or t.tenant_column is not null) and not r.rolsuper
        and t.relowner in (select public.multigres_app_roles())
    union all
    select 'error', 'table ' || t.name,
        format('app_user has %s, which row-level security does not cover', x.privileges),
        public.multigres_revoke_table(t.id, 'TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN')
    from tables as t,
        public.multigres_reached(t.id, 'TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN')
            as x(privileges)
    where t.protected and x.privileges is not null
        and t.relowner not in (select public.multigres_app_roles())
    union all
    select 'warning', 'table ' || t.name,
        format('column %I may be NULL: such a row is no tenant''s', i.column_name),
        format('alter table %s alter column %I set not null', t.name, i.column_name)
    from tables as t
    join isolations as i on i.relation = t.id
    join pg_attribute as a on a.attrelid = t.id and a.attnum = i.column_number
    where not a.attnotnull and not t.relispartition
    union all
    select 'warning', 'table ' || t.name,
        format('no index begins with %s: each query reads every tenant''s rows', t.columns),
        format('create index on %s (%s)', t.name, t.columns)
    from tables as t
    where t.protected and not t.relispartition and t.columns is not null and not exists (
        select from pg_index as x
        where x.indrelid = t.id and x.indisvalid and x.indpred is null
            and x.indkey[0] = any (t.numbers))
$$;


-- Policies that no longer hold, or that a session can talk round.
create or replace function public.multigres_check_policies()
returns table (severity text, object text, problem text, fix text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with isolations as (
        select i.*, format('policy %I on %s', i.policy_name, i.relation::regclass) as object,
            format('drop policy %I on %s; select public.multigres_protect(%L, %L%s)',
                i.policy_name, i.relation::regclass, i.relation::regclass, t.attname,
                case when x.variable <> 'app.current_tenant_id'
                    then format(', %L', x.variable) else '' end) as again
        from public.multigres_isolations() as i
        cross join lateral (
            select public.multigres_memory(obj_description(i.policy, 'pg_policy'))
        ) as m(memory)
        cross join lateral (
            select case when i.intact then i.variable
                else coalesce(m.memory ->> 'variable', i.variable) end as variable
        ) as x
        left join lateral (
            -- A changed policy need not name its column any more: its comment does, or the policy
            -- beside it.
            select a.attname from pg_attribute as a
            where a.attrelid = i.relation and a.attnum > 0 and not a.attisdropped
            order by coalesce(a.attname = i.column_name and i.intact, false) desc,
                coalesce(a.attname = m.memory ->> 'column', false) desc,
                exists (
                    select from pg_depend as d join pg_policy as p on p.oid = d.objid
                    where p.polrelid = i.relation and p.polname = 'multigres_access'
                        and d.classid = 'pg_policy'::regclass and d.refobjid = i.relation
                        and d.refclassid = 'pg_class'::regclass and d.refobjsubid = a.attnum) desc,
                coalesce(a.attname = i.column_name, false) desc, a.attname = 'tenant_id' desc
            limit 1
        ) as t on true
    ),
    policies as (
        select p.*, format('policy %I on %s', p.polname, p.polrelid::regclass) as object,
            c.relrowsecurity, e.qual, e.given,
            p.polrelid in (select i.relation from isolations as i where i.intact) as held,
            p.polrelid in (select i.relation from isolations as i) as protected
        from pg_policy as p
        join pg_class as c on c.oid = p.polrelid
        cross join lateral (
            select pg_get_expr(p.polqual, p.polrelid) as qual,
                pg_get_expr(p.polwithcheck, p.polrelid) as given
        ) as e
        where not exists (
            select from pg_depend as d
            where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
    )
    select 'error', i.object,
        case
            when p.polpermissive then 'is permissive: any other policy widens it'
            when p.polroles <> '{0}' then 'holds only the roles '
                || (
                    select string_agg(quote_ident(r.rolname), ', ' order by r.rolname)
                    from pg_roles as r where r.oid = any (p.polroles))
            when p.polcmd <> '*' then 'does not hold every command'
            else 'does not compare a column with the context, and nothing else'
        end,
        i.again
    from isolations as i join pg_policy as p on p.oid = i.policy
    where not i.intact
    union all
    select 'warning', i.object, 'has no WITH CHECK of its own',
        format('alter policy %I on %s with check (%s)', i.policy_name, i.relation::regclass,
            pg_get_expr(p.polqual, p.polrelid))
    from isolations as i join pg_policy as p on p.oid = i.policy
    where i.intact and p.polwithcheck is null
    union all
    -- Where the restrictive policy is gone or changed, each permissive one is the whole of the
    -- isolation; but for that of multigres_protect() nothing is known about it.
    select 'error', p.object,
        'opens the table: no policy of Multigres stands beside it'
            || case when p.polroles <> '{0}' and not p.polroles && array(
                select public.multigres_app_roles()) then ' (for roles other than app_user)'
                else '' end,
        format('select public.multigres_protect(%L, %L)', p.polrelid::regclass, t.attname)
    from policies as p
    join lateral (
        select a.attname from pg_attribute as a
        where a.attrelid = p.polrelid and a.attnum > 0 and not a.attisdropped
            and (a.attname = 'tenant_id'
                or a.attname in (select i.column_name from isolations as i))
        order by a.attname <> 'tenant_id' limit 1
    ) as t on true
    where p.polpermissive and p.relrowsecurity and not p.held
        and (coalesce(p.qual, p.given) = 'true' or p.given = 'true' or p.protected)
        and p.polname !~ '^multigres_'
    union all
    select 'error', p.object, 'stands alone: the restrictive policy beside it is gone',
        format('select public.multigres_protect(%L, %L)', p.polrelid::regclass, t.attname)
    from policies as p
    join lateral (
        select a.attname from pg_depend as d
        join pg_attribute as a on a.attrelid = p.polrelid and a.attnum = d.refobjsubid
        where d.classid = 'pg_policy'::regclass and d.objid = p.oid
            and d.refclassid = 'pg_class'::regclass and d.refobjid = p.polrelid
            and d.refobjsubid > 0
        order by a.attnum limit 1
    ) as t on true
    where p.polname = 'multigres_access' and not p.protected
        and p.polrelid not in (select l.relation from public.multigres_lost() as l)
    union all
    -- The policies that are left know of it, and do not hold what it held.
    select 'error', format('table %s', l.relation),
        format('the policy of column %I is gone, and nothing compares it with %s', l.column_name,
            l.variable),
        case
            when exists (
                select from pg_attribute as a
                where a.attrelid = l.relation and a.attname = l.column_name)
            then format('select public.multigres_protect(%L, %L, %L)', t.whole, l.column_name,
                l.variable)
            else format('select public.multigres_unprotect(%L, %L)', t.whole, l.column_name)
        end
    from public.multigres_lost() as l
    cross join lateral (
        with recursive above(id, depth) as (
            select l.relation::oid, 0
            union all
            select i.inhparent, depth + 1
            from pg_inherits as i join above on i.inhrelid = above.id
        )
        select above.id::regclass from above order by above.depth desc limit 1
    ) as t(whole)
    union all
    -- A session may SET what it likes. Sealed, the whole point is that this does not help it.
    select case when to_regclass('public.multigres_seal_keys') is null
            then 'info' else 'error' end,
        p.object,
        'reads a setting that any session may SET',
        case when p.held then format('drop policy %I on %s', p.polname, p.polrelid::regclass)
            else coalesce(
                (
                    select format('drop policy %I on %s; select public.multigres_protect(%L, %L)',
                        p.polname, p.polrelid::regclass, p.polrelid::regclass, a.attname)
                    from pg_depend as d
                    join pg_attribute as a on a.attrelid = p.polrelid and a.attnum = d.refobjsubid
                    where d.classid = 'pg_policy'::regclass and d.objid = p.oid
                        and d.refclassid = 'pg_class'::regclass and d.refobjid = p.polrelid
                        and d.refobjsubid > 0
                    order by a.attname <> 'tenant_id', a.attnum limit 1
                ),
                format('drop policy %I on %s', p.polname, p.polrelid::regclass))
        end
    from policies as p
    where concat(p.qual, ' ', p.given) ~ '\mcurrent_setting\('
        or exists (
            select from pg_depend as d join pg_proc as f on f.oid = d.refobjid
            where d.classid = 'pg_policy'::regclass and d.objid = p.oid
                and d.refclassid = 'pg_proc'::regclass
                and f.prosrc ~* '\mcurrent_setting\M'
                and not (f.pronamespace = 'public'::regnamespace
                    and f.proname in ('current_tenant_id', 'multigres_context')))
    union all
    select 'info', 'table ' || i.relation::regclass::text,
        'has no permissive policy: nobody sees a row',
        i.again
    from isolations as i
    where i.intact and not exists (
        select from pg_policy as p where p.polrelid = i.relation and p.polpermissive)
$$;


-- Constraints look past policies: they answer whether another tenant has such a row.
create or replace function public.multigres_check_constraints()
returns table (severity text, object text, problem text, fix text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with tenants as (
        select i.relation, array_agg(i.column_number) as numbers,
            string_agg(quote_ident(i.column_name), ', ' order by i.column_number) as columns
        from public.multigres_isolations() as i
        join pg_class as c on c.oid = i.relation
        where i.column_number is not null and not c.relispartition
        group by i.relation
    ),
    uniques as (
        select x.indexrelid::regclass::text as name, x.indrelid::regclass::text as table_name,
            t.columns, k.conname, k.oid as "constraint", x.indexrelid, x.indisexclusion,
            -- A number or a uuid that the database makes up says nothing about a tenant, and
            -- nobody collides with it by chance: every ORM makes such a primary key.
            x.indisprimary and x.indnkeyatts = 1 and a.atttypid in ('smallint'::regtype,
                'integer'::regtype, 'bigint'::regtype, 'uuid'::regtype)
                and (a.attidentity <> '' or a.atthasdef) as surrogate
        from tenants as t
        join pg_index as x on x.indrelid = t.relation and (x.indisunique or x.indisexclusion)
        left join pg_constraint as k on k.conindid = x.indexrelid and k.contype in ('p', 'u', 'x')
        left join pg_attribute as a on a.attrelid = x.indrelid and a.attnum = x.indkey[0]
        where not (x.indkey::int2[])[0:x.indnkeyatts - 1] && t.numbers
    )
    select case when u.surrogate then 'info' else 'warning' end,
        case when u.conname is null then 'index ' || u.name
            else format('constraint %I on %s', u.conname, u.table_name) end,
        format('is unique without %s: it tells one tenant what another has', u.columns)
            || case when u.surrogate then ' (a number or uuid made by the database, so little)'
                else ', and keeps it from him' end,
        case when u."constraint" is not null
            then format('alter table %s drop constraint %I, add constraint %I %s', u.table_name,
                u.conname, u.conname, regexp_replace(pg_get_constraintdef(u."constraint"), '\(',
                    case when u.indisexclusion
                        then '(' || replace(u.columns, ',', ' with =,') || ' with =, '
                        else '(' || u.columns || ', ' end))
            else format('drop index %s; %s', u.name, regexp_replace(
                pg_get_indexdef(u.indexrelid), '( USING \w+ \()', '\1' || u.columns || ', '))
        end
    from uniques as u
    union all
    select 'warning', format('constraint %I on %s', k.conname, k.conrelid::regclass),
        format('refers to %s without %s: a row may point at another tenant''s',
            k.confrelid::regclass, other.columns)
            || case when k.confdeltype in ('c', 'n', 'd') or k.confupdtype in ('c', 'n', 'd')
                then ', and go or change with it' else '' end,
        concat(
            case when not exists (
                select from pg_index as x
                where x.indrelid = k.confrelid and x.indisunique and x.indpred is null
                    and (x.indkey::int2[])[0:x.indnkeyatts - 1] @> (k.confkey || other.numbers)
                    and (x.indkey::int2[])[0:x.indnkeyatts - 1] <@ (k.confkey || other.numbers))
                then format('alter table %s add unique (%s, %s); ', k.confrelid::regclass,
                    other.columns, keys.theirs)
            end,
            format('alter table %s drop constraint %I, add constraint %I ', k.conrelid::regclass,
                k.conname, k.conname),
            regexp_replace(
                regexp_replace(pg_get_constraintdef(k.oid), '\(',
                    '(' || replace(own.columns, '\', '\\') || ', '),
                '( REFERENCES .*?)\(([^()]*\))',
                '\1(' || replace(other.columns, '\', '\\') || ', \2'))
    from pg_constraint as k
    join tenants as own on own.relation = k.conrelid
    join tenants as other on other.relation = k.confrelid
    cross join lateral (
        select string_agg(quote_ident(a.attname), ', ' order by c.place) as theirs
        from unnest(k.confkey) with ordinality as c(number, place)
        join pg_attribute as a on a.attrelid = k.confrelid and a.attnum = c.number
    ) as keys
    where k.contype = 'f' and k.conparentid = 0 and not exists (
        select from unnest(k.conkey, k.confkey) as c(mine, theirs)
        where c.mine = any (own.numbers) and c.theirs = any (other.numbers))
$$;


-- What reads tables with other rights than those of app_user, or has no policies at all.
create or replace function public.multigres_check_detours()
returns table (severity text, object text, problem text, fix text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with recursive names(name) as (
        select 'tenant_id'::name
        union
        select i.column_name from public.multigres_isolations() as i
    ),
    holding as (
        -- Tables and foreign tables with a tenant's rows in them.
        select c.oid as id from pg_class as c
        where c.relkind in ('r', 'p', 'f') and c.relnamespace <> 'pg_catalog'::regnamespace
            and exists (select from pg_attribute as a join names as n on n.name = a.attname
                where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped)
        union
        select i.relation from public.multigres_isolations() as i
    ),
    reads(reader, relation) as (
        select r.ev_class, d.refobjid
        from pg_rewrite as r
        join pg_depend as d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
            and d.refclassid = 'pg_class'::regclass and d.refobjid <> r.ev_class
        where r.ev_type = '1'
        union
        select s.reader, d.refobjid
        from reads as s
        join pg_rewrite as r on r.ev_class = s.relation and r.ev_type = '1'
        join pg_depend as d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
            and d.refclassid = 'pg_class'::regclass and d.refobjid <> r.ev_class
    ),
    relations as (
        select c.oid as id, c.oid::regclass::text as name, c.relkind, c.relowner,
            o.rolname as owner,
            o.rolsuper or o.rolbypassrls as past_policies,
            public.multigres_reached(c.oid, 'SELECT', 'INSERT', 'UPDATE', 'DELETE') as reached,
            exists (select from holding as h where h.id = c.oid
                union all
                select from reads as s join holding as h on h.id = s.relation
                where s.reader = c.oid) as holds,
            -- A copy below it, or a table without policies that holds its reader.
            exists (
                select from reads as s join pg_class as t on t.oid = s.relation
                where s.reader = c.oid and (
                    t.relkind = 'm' and exists (
                        select from reads as u join holding as h on h.id = u.relation
                        where u.reader = t.oid)
                    or s.relation in (select h.id from holding as h)
                        and not (t.relrowsecurity and (t.relforcerowsecurity
                            or t.relowner <> c.relowner)))) as unheld,
            exists (
                select from pg_options_to_table(c.reloptions) as x
                where x.option_name = 'security_invoker' and x.option_value::boolean
            ) as invoker
        from pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        join pg_roles as o on o.oid = c.relowner
        where c.relkind in ('v', 'm', 'f')
            and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
            and not exists (
                select from pg_depend as d
                where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
    ),
    definers as (
        select p.oid::regprocedure::text as name, p.oid as id, o.rolname as owner, p.proacl,
            p.proowner, o.rolsuper or o.rolbypassrls as past_policies,
            case p.prokind when 'p' then 'procedure' else 'function' end as kind,
            exists (select from unnest(p.proconfig) as s(setting)
                where s.setting ~ '^search_path=') as pinned
        from pg_proc as p
        join pg_namespace as n on n.oid = p.pronamespace
        join pg_roles as o on o.oid = p.proowner
        where p.prosecdef and n.nspname not in ('pg_catalog', 'information_schema')
            and not (n.nspname = 'public'
                and p.proname in ('current_tenant_id', 'multigres_context')
                and p.proowner = (select f.proowner from pg_proc as f
                    where f.oid = 'public.current_tenant_id()'::regprocedure))
            and not exists (
                select from pg_depend as d
                where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
            and exists (
                select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
                where a.grantee in (select public.multigres_app_roles()))
            and exists (
                select from aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) as a
                where a.privilege_type = 'USAGE'
                    and a.grantee in (select public.multigres_app_roles()))
    )
    select case when r.past_policies or r.unheld then 'error' else 'info' end, 'view ' || r.name,
        format('reads with the rights of its owner %I', r.owner)
            || case when r.past_policies then ', whom no policy holds'
                when r.unheld then ', and what it reads has no policy that holds him'
                else '' end,
        case when current_setting('server_version_num')::int >= 150000
            then format('alter view %s set (security_invoker = true)', r.name)
            else public.multigres_revoke_table(r.id, 'SELECT', 'INSERT', 'UPDATE', 'DELETE') end
    from relations as r
    where r.relkind = 'v' and r.reached is not null and r.holds and not r.invoker
        and (r.past_policies or r.unheld
            or current_setting('server_version_num')::int >= 150000)
    union all
    select case when r.holds then 'error' else 'info' end,
        case r.relkind when 'm' then 'materialized view ' else 'foreign table ' end || r.name,
        'app_user has ' || r.reached || ' on it, and it cannot have policies',
        public.multigres_revoke_table(r.id, 'SELECT', 'INSERT', 'UPDATE', 'DELETE')
    from relations as r
    where r.relkind in ('m', 'f') and r.reached is not null
    union all
    select case when f.past_policies then 'error' else 'info' end, f.kind || ' ' || f.name,
        format('app_user may execute it, and it runs with the rights of %I', f.owner)
            || case when f.past_policies then ', whom no policy holds' else '' end,
        public.multigres_revoke(f.kind || ' ' || f.name,
            coalesce(f.proacl, acldefault('f', f.proowner)), '{EXECUTE}')
    from definers as f
    union all
    select 'warning', f.kind || ' ' || f.name,
        'is SECURITY DEFINER and finds its names by the search_path of its caller',
        format('alter %s %s set search_path = pg_catalog, public, pg_temp', f.kind, f.name)
    from definers as f where not f.pinned
$$;


-- What acts for app_user, or carries rows past it, without being called by name: rules, triggers,
-- publications, connections out of the server, and what the server keeps for all of a role's
-- sessions.
create or replace function public.multigres_check_side_doors()
returns table (severity text, object text, problem text, fix text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with links as (
        -- What dblink can do beyond a connection string with a password in it.
        select string_agg(public.multigres_revoke('function ' || p.oid::regprocedure,
                coalesce(p.proacl, acldefault('f', p.proowner)), '{EXECUTE}'), '; ') as fix,
            bool_or(p.proname = 'dblink_connect_u') as unasked
        from pg_extension as e
        join pg_depend as d on d.refclassid = 'pg_extension'::regclass and d.refobjid = e.oid
            and d.deptype = 'e' and d.classid = 'pg_proc'::regclass
        join pg_proc as p on p.oid = d.objid
        where e.extname = 'dblink' and p.proname in ('dblink', 'dblink_connect',
                'dblink_connect_u', 'dblink_exec', 'dblink_get_pkey', 'dblink_open',
                'dblink_send_query')
            and exists (
                select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
                where a.grantee in (select public.multigres_app_roles()))
    ),
    doors as (
        select 'foreign server ' || quote_ident(s.srvname) as name, s.srvacl as acl,
            'make a user mapping on it, and foreign tables where it may create' as may
        from pg_foreign_server as s
        union all
        select 'foreign data wrapper ' || quote_ident(w.fdwname), w.fdwacl,
            'make servers with it, to any address' as may
        from pg_foreign_data_wrapper as w
    ),
    rules as (
        select r.rulename, c.oid::regclass as name, o.rolname as owner,
            o.rolsuper or o.rolbypassrls as past_policies
        from pg_rewrite as r
        join pg_class as c on c.oid = r.ev_class
        join pg_roles as o on o.oid = c.relowner
        where r.rulename <> '_RETURN' and c.relnamespace <> 'pg_catalog'::regnamespace
            and public.multigres_reached(c.oid, 'SELECT', 'INSERT', 'UPDATE', 'DELETE') is not null
            and not exists (
                select from pg_depend as d
                where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
    ),
    triggers as (
        select t.tgname, c.oid::regclass as name, p.oid::regprocedure as function,
            o.rolname as owner, o.rolsuper or o.rolbypassrls as past_policies,
            exists (select from unnest(p.proconfig) as s(setting)
                where s.setting ~ '^search_path=') as pinned
        from pg_trigger as t
        join pg_class as c on c.oid = t.tgrelid
        join pg_proc as p on p.oid = t.tgfoid
        join pg_roles as o on o.oid = p.proowner
        where p.prosecdef and not t.tgisinternal and t.tgenabled <> 'D'
            and public.multigres_reached(c.oid, 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
                is not null
    ),
    published as (
        select p.pubname, i.relation::regclass as name, exists (
                select from pg_publication_rel as r
                where r.prpubid = p.oid and r.prrelid = i.relation) as alone
        from pg_publication_tables as t
        join pg_publication as p on p.pubname = t.pubname
        join (select distinct i.relation from public.multigres_isolations() as i) as i
            on i.relation = to_regclass(format('%I.%I', t.schemaname, t.tablename))
    )
    select case when l.unasked then 'error' else 'warning' end, 'extension dblink',
        'app_user may connect with it from inside the server, to this one as another role too'
            || case when l.unasked then ', without a password where pg_hba.conf asks for none'
                else '' end,
        l.fix
    from links as l where l.fix is not null
    union all
    select 'error', d.name, 'app_user may ' || d.may,
        public.multigres_revoke(d.name, d.acl, '{USAGE}')
    from doors as d
    where public.multigres_revoke(d.name, d.acl, '{USAGE}') is not null
    union all
    select 'warning', 'foreign server ' || quote_ident(m.srvname),
        format('a user mapping gives %s the name and password of somebody there', x.who),
        format('drop user mapping for %s server %I', x.who, m.srvname)
    from pg_user_mappings as m, lateral (
        select case m.umuser when 0 then 'public' else quote_ident(m.usename) end
    ) as x(who)
    where m.umuser in (select public.multigres_app_roles())
    union all
    select case when r.past_policies then 'error' else 'info' end,
        format('rule %I on %s', r.rulename, r.name),
        format('acts for app_user with the rights of %I', r.owner)
            || case when r.past_policies then ', whom no policy holds' else '' end,
        format('drop rule %I on %s', r.rulename, r.name)
    from rules as r
    union all
    -- EXECUTE is asked for when a trigger is made, and not when it fires.
    select case when t.past_policies then 'warning' else 'info' end,
        format('trigger %I on %s', t.tgname, t.name),
        format('runs %s for app_user with the rights of %I', t.function, t.owner)
            || case when t.past_policies then ', whom no policy holds' else '' end,
        format('alter function %s security invoker', t.function)
    from triggers as t
    union all
    select 'warning', format('trigger %I on %s', t.tgname, t.name),
        format('runs %s, which is SECURITY DEFINER and finds its names by the search_path of '
            'its caller', t.function),
        format('alter function %s set search_path = pg_catalog, public, pg_temp', t.function)
    from triggers as t where not t.pinned
    union all
    select 'warning', 'extension pg_stat_statements',
        'shows app_user the texts of all statements of app_user, whichever tenant''s',
        string_agg(s.fix, '; ')
    from (
        select case d.classid
            when 'pg_class'::regclass then public.multigres_revoke_table(d.objid, 'SELECT')
            else (
                select public.multigres_revoke('function ' || p.oid::regprocedure,
                    coalesce(p.proacl, acldefault('f', p.proowner)), '{EXECUTE}')
                from pg_proc as p
                where p.oid = d.objid and p.proname = 'pg_stat_statements')
            end as fix
        from pg_extension as e
        join pg_depend as d on d.refclassid = 'pg_extension'::regclass and d.refobjid = e.oid
            and d.deptype = 'e' and d.classid in ('pg_proc'::regclass, 'pg_class'::regclass)
        where e.extname = 'pg_stat_statements'
    ) as s
    having string_agg(s.fix, '; ') is not null
    union all
    select 'info', 'setting max_prepared_transactions',
        'is above 0: app_user may end a prepared transaction of another tenant by its name',
        'alter system set max_prepared_transactions = 0'
    where current_setting('max_prepared_transactions')::int > 0
    union all
    -- A choice of whoever subscribes, who is no tenant.
    select 'info', format('publication %I', p.pubname),
        'sends the rows of all tenants to its subscribers: '
            || string_agg(p.name::text, ', ' order by p.name::text),
        case when bool_and(p.alone) then string_agg(
                format('alter publication %I drop table %s', p.pubname, p.name), '; ')
            else format('drop publication %I', p.pubname) end
    from published as p
    group by p.pubname
$$;


-- What has a name of Multigres' and is somebody else's: such a function would run as a part of
-- Multigres, and with the rights of whoever calls that.
create or replace function public.multigres_check_own()
returns table (severity text, object text, problem text, fix text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with setup as (
        select p.proowner as owner from pg_proc as p
        where p.oid = 'public.multigres_protect(regclass, name, text)'::regprocedure
    ),
    own as (
        select 'function ' || p.oid::regprocedure::text as object, p.proowner as owner,
            case when p.oid in ('public.current_tenant_id()'::regprocedure,
                    'public.multigres_context(text)'::regprocedure)
                -- Policies need them. They are defined anew before anyone calls them.
                then format('alter function %s owner to %I; ', p.oid::regprocedure,
                    pg_get_userbyid(setup.owner)) || 'select public.multigres_define_context()'
                else format('drop %s %s', case p.prokind when 'p' then 'procedure'
                    when 'a' then 'aggregate' else 'function' end, p.oid::regprocedure)
            end as fix
        from setup, pg_proc as p
        where p.pronamespace = 'public'::regnamespace
            and (p.oid = 'public.current_tenant_id()'::regprocedure
                or starts_with(p.proname::text, 'multigres_'))
        union all
        select 'table ' || c.oid::regclass::text, c.relowner,
            case when c.oid = to_regclass('public.multigres_seal_keys')
                then 'select public.multigres_unseal()'
                else format('drop table %s', c.oid::regclass) end
        from pg_class as c
        where c.oid in (to_regclass('public.multigres_seal_keys'),
            to_regclass('public.multigres_hardening'))
    )
    select 'error', o.object,
        format('has a name of Multigres'' and belongs to %I, who says what it does', r.rolname),
        o.fix
    from own as o join pg_roles as r on r.oid = o.owner, setup
    where r.oid <> setup.owner and not r.rolsuper
$$;


create or replace function public.multigres_check()
returns table (severity text, object text, problem text, fix text)
language sql stable
set search_path = pg_catalog, pg_temp
set jit = off
as $$
    with findings as (
        select r.* from public.multigres_check_role() as r
        union
        select t.* from public.multigres_check_tables() as t
        union
        select p.* from public.multigres_check_policies() as p
        union
        select c.* from public.multigres_check_constraints() as c
        union
        select d.* from public.multigres_check_detours() as d
        union
        select s.* from public.multigres_check_side_doors() as s
        union
        select o.* from public.multigres_check_own() as o
    )
    select f.severity, f.object, f.problem, f.fix from findings as f
    order by array_position('{error,warning,info}'::text[], f.severity), f.object, f.problem
$$;


do $$
declare
    function regprocedure;
begin
    for function in
        select p.oid::regprocedure from pg_proc as p
        where p.pronamespace = 'public'::regnamespace
            and (p.proname ~ '^multigres_check' or p.proname in ('multigres_app_roles',
                'multigres_reached', 'multigres_revoke', 'multigres_revoke_table',
                'multigres_isolations', 'multigres_noise'))
    loop
        execute format('alter function %s owner to current_user', function);
        execute format('revoke all on function %s from public', function);
    end loop;
end
$$;
