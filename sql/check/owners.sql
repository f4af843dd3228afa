-- Objects that a tenant may change and others run: those that app_user owns, and tables on which it
-- may create triggers.

-- The objects in this database that app_user, or a role that it can become, owns. The owner of a
-- function, domain, operator or view decides what it does in the sessions of all who use it.
-- Temporary objects are each session's own; sequences of a table go with it.
create or replace function multigres.owned_by_app()
returns table (class oid, id oid, kind text, name text, owner name, fix text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    -- Objects of other databases have no name here.
    with owned as materialized (
        select d.classid, d.objid, d.objsubid, r.rolname
        -- OFFSET 0: what all other roles own, in every database, is not read.
        from (select multigres.app_roles() offset 0) as app(id)
        cross join lateral (
            select s.* from pg_shdepend as s
            where s.refclassid = 'pg_authid'::regclass and s.refobjid = app.id offset 0
        ) as d
        join pg_roles as r on r.oid = d.refobjid
        join pg_database as b on b.datname = current_database()
        where d.deptype = 'o' and not r.rolsuper and r.oid <> (
                select p.proowner from pg_proc as p
                where p.oid = 'public.current_tenant_id()'::text::regprocedure)
            and d.classid not in ('pg_largeobject'::regclass, 'pg_default_acl'::regclass,
                'pg_statistic_ext'::regclass, 'pg_user_mapping'::regclass)
            -- From 15 on its owner is that of schema public, and is found by it.
            and (d.dbid = b.oid
                or d.classid = 'pg_database'::regclass and d.objid = b.oid and not exists (
                    select from pg_namespace as n join pg_roles as o on o.oid = n.nspowner
                    where o.rolname = 'pg_database_owner'))
            -- Sessions end at any time, and their temporary objects with them.
            and not exists (
                select from pg_depend as s join pg_namespace as n on n.oid = s.refobjid
                where s.classid = d.classid and s.objid = d.objid
                    and s.refclassid = 'pg_namespace'::regclass and n.nspname ~ '^pg_temp_')
            and not exists (
                select from pg_depend as s join pg_class as c on c.oid = s.objid
                where c.relkind = 'S' and s.classid = d.classid and s.objid = d.objid
                    and s.classid = 'pg_class'::regclass
                    and s.refclassid = 'pg_class'::regclass and s.refobjsubid > 0
                    and s.deptype in ('a', 'i'))
    )
    select o.classid, o.objid, k.kind, i.identity, o.rolname,
        case when i.type = 'extension'
            then format('reassign owned by %I to %I', o.rolname, current_user)
            else format('alter %s %s owner to %I', k.kind, i.identity, current_user) end
    from owned as o
    cross join lateral pg_identify_object(o.classid, o.objid, o.objsubid) as i
    cross join lateral (
        select case i.type when 'composite type' then 'type'
            else replace(i.type, '-', ' ') end
    ) as k(kind)
    -- Without a name: dropped just now.
    where i.identity is not null;
end
$$;


-- multigres_protect() warns of it: a policy does not help a session that runs code of a tenant.
create or replace function multigres.warn_of_owned() returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    owned text;
begin
    select string_agg(format('%s %s', o.kind, o.name), ', ' order by o.kind, o.name) into owned
    from multigres.owned_by_app() as o;
    if owned is not null then
        raise warning 'app_user owns objects that run in the sessions of others: %', owned
            using hint = 'multigres_check() gives the statements that change that.';
    end if;
end
$$;


create or replace function multigres.check_owned()
returns table (lint text, object text, problem text, fix text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    -- Tables of tenants and schemas have findings of their own.
    select 'object_owned_by_tenants', format('%s %s', o.kind, o.name),
        case when o.owner = 'app_user' then 'belongs to app_user'
            else format('belongs to %I, which app_user can become', o.owner) end
            || ': a tenant can change code that runs in the sessions of others',
        o.fix
    from multigres.owned_by_app() as o
    where o.class <> 'pg_namespace'::regclass
        and not (o.class = 'pg_class'::regclass and exists (
            select from pg_class as c join pg_attribute as a on a.attrelid = c.oid
            where c.oid = o.id and c.relkind in ('r', 'p') and not a.attisdropped
                and (a.attname = 'tenant_id' or a.attname in (
                    select i.column_name from multigres.isolations() as i))))
    union all
    -- The function may be a temporary one: CREATE on a schema is not needed.
    select 'trigger_granted_on_shared_table',
        format('%s %s', case c.relkind when 'v' then 'view'
            when 'f' then 'foreign table' else 'table' end, c.oid::regclass),
        'app_user has TRIGGER on it: a tenant''s trigger runs in every session that writes to it',
        multigres.revoke_table(c.oid, 'TRIGGER')
    from pg_class as c
    where c.relkind in ('r', 'p', 'v', 'f') and c.relacl is not null
        and c.relowner not in (select multigres.app_roles())
        and c.relnamespace not in ('pg_catalog'::regnamespace, 'multigres'::regnamespace)
        and c.oid is distinct from to_regclass('public.multigres_seal_keys')
        and c.oid not in (select i.relation from multigres.isolations() as i)
        and case when exists (
                select from aclexplode(c.relacl) as x
                where x.privilege_type = 'TRIGGER' and x.grantee <> c.relowner)
            then multigres.reached(c.oid, 'TRIGGER') is not null end;
end
$$;

-- Roles that log in as the owner of a protected table, or as a member of it.
create or replace function multigres.check_owners()
returns table (lint text, object text, problem text, fix text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with owners as (
        select c.relowner as owner, count(*) as tables, min(c.oid::regclass::text) as example
        from pg_class as c
        where c.oid in (select i.relation from multigres.isolations() as i)
            and not c.relispartition
            -- Found with the table.
            and c.relowner not in (select multigres.app_roles())
        group by c.relowner
    ),
    people as (
        select r.oid as id, r.rolname, sum(o.tables) as tables, min(o.example) as example,
            string_agg(quote_ident(pg_get_userbyid(o.owner)), ', ') as owners
        from pg_roles as r
        join owners as o on pg_has_role(r.oid, o.owner, 'member')
        where r.rolcanlogin and not r.rolsuper and not r.rolbypassrls
        group by r.oid, r.rolname
    )
    select 'owner_logs_in_as_tenant', format('role %I', p.rolname),
        format('has the rights of app_user, so it can log in as a tenant, and those of %s, so it '
            'can disable row-level security', p.owners),
        string_agg(format('revoke %I from %I', m.rolname, p.rolname), '; ')
    from people as p
    join pg_auth_members as a on a.member = p.id
    join pg_roles as m on m.oid = a.roleid
    where to_regrole('app_user') is not null and p.rolname <> 'app_user'
        and pg_has_role(p.id, 'app_user', 'usage') and pg_has_role(m.oid, 'app_user', 'usage')
        and not exists (select from pg_roles as r where r.oid = p.id and r.rolcreaterole)
    group by p.rolname, p.owners
    union all
    -- BYPASSRLS would also apply to its views and functions.
    select 'owner_sees_no_row', format('role %I', p.rolname),
        format('owns %s%s and sees no row of it, without an error: its UPDATE changes no row, and '
            'its materialized views are empty', p.example,
            case when p.tables > 1 then format(' and %s more', p.tables - 1) else '' end),
        format('alter role %I set row_security = off', p.rolname)
    from people as p
    where p.id not in (select multigres.app_roles()) and not exists (
        select from pg_db_role_setting as s, unnest(s.setconfig) as x(setting)
        where s.setrole in (0, p.id) and s.setdatabase in (0, (
                select d.oid from pg_database as d where d.datname = current_database()))
            and x.setting ~* '^row_security=(off|false|no|0)$');
end
$$;

revoke all on function multigres.check_owners() from public;
revoke all on function multigres.owned_by_app(), multigres.warn_of_owned(),
    multigres.check_owned() from public;
