-- The database side of Multigres: tenants held apart by row-level security.
--
--     psql -U postgres -d DB -v ON_ERROR_STOP=1 -f sql/setup.sql
--     psql -U postgres -d DB -c "select multigres_protect('contacts', 'tenant_id')"
--     psql -U postgres -d DB -c "select * from multigres_status()"
--
-- PostgreSQL 13 to 18. Once per database, by the owner of the tables or a superuser. It is one
-- transaction and plain SQL; run again, it brings an older version up to date.
--
-- app_user is made without a password. In psql, `\password app_user` sets one: it hashes it
-- before it is sent, so that no log and no history holds it.
--
-- Schema-qualified names, and operator(), stand wherever a function runs with its caller's
-- search_path: a caller may put a schema of his own in front of pg_catalog.

begin;

set local search_path = pg_catalog, pg_temp;

do $$
begin
    -- Two deployments at once would meet in "tuple concurrently updated".
    perform pg_advisory_xact_lock(hashtextextended('multigres setup.sql', 0));
end
$$;


-- The tenant of this session, NULL when there is none. A variable that was set once and then
-- reset is '' and not NULL: both are no tenant, and NULL equals no row's tenant column.
--
-- PostgreSQL lets a session SET such a variable. Multigres binds it so that nobody forgets to;
-- it does not stop a session that runs SQL of an attacker's choice from setting another one.
--
-- No SET search_path here: a function that has one is not inlined, and a policy would call it
-- anew for every row it looks at.
create or replace function public.current_tenant_id() returns text
language sql stable parallel safe
as $$
    select case
        when pg_catalog.current_setting('app.current_tenant_id', true) operator(pg_catalog.<>) ''
        then pg_catalog.current_setting('app.current_tenant_id', true)
    end
$$;

alter function public.current_tenant_id() owner to current_user;
grant execute on function public.current_tenant_id() to public;


-- Why row-level security would not hold this role; NULL when it does.
create or replace function public.multigres_role_problems(role_id oid) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select string_agg(
        case when r.oid = role_id then '' else format('can become %I, which ', r.rolname) end
            || case
                when r.rolsuper then 'is a superuser'
                when r.rolbypassrls then 'has BYPASSRLS'
                when r.rolcreaterole then 'has CREATEROLE'
                when r.rolreplication then 'has REPLICATION'
                else 'reaches the server''s files'
            end,
        '; ' order by r.oid = role_id desc, r.rolname)
    from pg_roles as r
    where (r.oid = role_id
            -- A superuser is a member of every role: one reason is enough.
            or pg_has_role(role_id, r.oid, 'member')
                and not (select s.rolsuper from pg_roles as s where s.oid = role_id))
        and (r.rolsuper or r.rolbypassrls or r.rolcreaterole or r.rolreplication
            or r.rolname in ('pg_read_server_files', 'pg_write_server_files',
                'pg_execute_server_program'))
$$;

alter function public.multigres_role_problems(oid) owner to current_user;
revoke all on function public.multigres_role_problems(oid) from public;


do $$
declare
    found text;
begin
    if to_regrole('app_user') is null then
        -- Roles belong to the whole cluster: a setup of another database may be faster.
        begin
            create role app_user login
                nosuperuser nobypassrls nocreatedb nocreaterole noreplication;
        exception when duplicate_object or unique_violation then
            null;
        end;
    end if;
    -- A role that is there already has a purpose. To take its rights away might break that, to
    -- accept them would break the isolation: so neither, and the owner decides.
    found := public.multigres_role_problems(to_regrole('app_user'));
    if found is not null then
        raise exception 'role "app_user" exists, but row-level security does not hold it'
            using errcode = 'object_not_in_prerequisite_state',
                detail = format('app_user %s.', found),
                hint = 'Take that from it with ALTER ROLE or REVOKE, or rename that role; then '
                    'run setup.sql again.';
    end if;
end
$$;


-- PostgreSQL 13 and 14 let everyone create objects in schema public, where most search_paths
-- look: app_user could lay a function there for a superuser to trip over. 15 ended that. Who
-- does not own the schema cannot revoke it; multigres_status() then tells.
do $$
begin
    if exists (
        select
        from pg_namespace as n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) as a
        where n.nspname = 'public' and pg_has_role(n.nspowner, 'usage')
            and a.grantee = 0 and a.privilege_type = 'CREATE'
    ) then
        revoke create on schema public from public;
        raise notice 'CREATE on schema public is no longer granted to PUBLIC'
            using hint = 'Grant it to the roles that need it: GRANT CREATE ON SCHEMA public TO '
                'the role that runs your migrations.';
    end if;
end
$$;


-- What the policies of a table compare, written as PostgreSQL prints it, so that
-- multigres_status() can tell a policy that was changed. NULL where no comparison is safe: a
-- type not in the list, or a collation that takes two tenants' names for one.
--
-- The cast stands on the function's side: an index on the column remains usable.
create or replace function public.multigres_predicate(table_name regclass, column_name name)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when a.atttypid = 'text'::regtype
        then format('(%I = public.current_tenant_id())', a.attname)
        when a.atttypid = 'varchar'::regtype
        then format('((%I)::text = public.current_tenant_id())', a.attname)
        else format('(%I = (public.current_tenant_id())::%s)', a.attname,
            format_type(a.atttypid, null))
    end
    from pg_attribute as a
    left join pg_collation as c on c.oid = a.attcollation
    where a.attrelid = table_name and a.attname = column_name
        and a.attnum > 0 and not a.attisdropped
        and a.atttypid in ('text'::regtype, 'varchar'::regtype, 'uuid'::regtype,
            'smallint'::regtype, 'integer'::regtype, 'bigint'::regtype)
        and coalesce(c.collisdeterministic, true)
$$;

alter function public.multigres_predicate(regclass, name) owner to current_user;
revoke all on function public.multigres_predicate(regclass, name) from public;


-- Puts the policies on one table. The restrictive one is the isolation: whatever other policies
-- a table has or gets, a row must satisfy this one too. Restrictive policies alone let nobody
-- in, hence the permissive one beside it, which says the same and so opens nothing should the
-- other be dropped. A table with permissive policies of its own keeps them instead: they say
-- who sees what inside a tenant, and another one would overrule them.
create or replace function public.multigres_isolate(table_name regclass, column_name name)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    predicate text := public.multigres_predicate(table_name, column_name);
    policy name;
begin
    if predicate is null then
        raise exception 'column "%" of % cannot hold tenants', column_name, table_name
            using errcode = 'datatype_mismatch',
                detail = 'A tenant column is text, varchar, uuid, smallint, integer or bigint, '
                    'and its collation tells all strings apart.';
    end if;

    for policy in
        select p.polname from pg_policy as p
        where p.polrelid = table_name and p.polname in ('multigres_isolation', 'multigres_access')
    loop
        execute format('drop policy %I on %s', policy, table_name);
    end loop;
    execute format(
        'create policy multigres_isolation on %s as restrictive to public '
            'using (%s) with check (%s)',
        table_name, predicate, predicate);
    if not exists (select from pg_policy as p where p.polrelid = table_name and p.polpermissive)
    then
        execute format(
            'create policy multigres_access on %s to public using (%s) with check (%s)',
            table_name, predicate, predicate);
    end if;
    execute format('alter table %s enable row level security, force row level security',
        table_name);

    -- Row-level security does not cover these three.
    execute format('revoke truncate, references, trigger on %s from app_user', table_name);
    if has_table_privilege('app_user', table_name, 'truncate, references, trigger')
        or has_any_column_privilege('app_user', table_name, 'references')
    then
        raise exception 'app_user may TRUNCATE %, or put a trigger or a reference on it', table_name
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Revoke TRUNCATE, REFERENCES and TRIGGER from PUBLIC and from the roles '
                    'that app_user is a member of.';
    end if;
end
$$;

alter function public.multigres_isolate(regclass, name) owner to current_user;
revoke all on function public.multigres_isolate(regclass, name) from public;


-- Holds the tenants of a table apart, and those of its partitions and of all tables that inherit
-- from it: each of them can be read by its own name, past the policies of its parent.
--
-- app_user gets SELECT, INSERT, UPDATE and DELETE when a table is first protected; what is taken
-- from it afterwards is not given back when this is called again.
create or replace function public.multigres_protect(
    table_name regclass, column_name name default 'tenant_id')
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    found record;
    first_time boolean;
    relation regclass;
begin
    if table_name is null or column_name is null then
        raise exception 'multigres_protect needs the name of a table and of its tenant column'
            using errcode = 'null_value_not_allowed';
    end if;
    select c.relkind, c.relowner, n.nspname into found
    from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
    where c.oid = table_name;
    if found.relkind is null or found.relkind not in ('r', 'p') then
        raise exception '% is not a table: row-level security cannot protect it', table_name
            using errcode = 'wrong_object_type',
                hint = case found.relkind
                    when 'v' then 'Protect the tables it reads, and give it an owner that is '
                        'neither superuser nor BYPASSRLS.'
                    when 'm' then 'A materialized view holds a copy of every tenant''s rows: '
                        'keep it from app_user.'
                    when 'f' then 'Protect the table where its rows are, and keep the foreign '
                        'table from app_user.'
                    else 'Name an ordinary or a partitioned table.'
                end;
    end if;
    execute format('lock table %s in access exclusive mode', table_name);

    if not exists (
        select from pg_attribute as a
        where a.attrelid = table_name and a.attname = column_name
            and a.attnum > 0 and not a.attisdropped)
    then
        raise exception 'column "%" of % does not exist', column_name, table_name
            using errcode = 'undefined_column',
                hint = 'Name the column that holds the tenant as the second argument; every '
                    'protected table needs one.';
    end if;
    if exists (select from pg_inherits as i where i.inhrelid = table_name) then
        raise exception '% is a part of another table, which would show its rows', table_name
            using errcode = 'wrong_object_type',
                hint = 'Protect that table: its partitions and heirs are protected with it.';
    end if;
    if pg_has_role('app_user', found.relowner, 'member') then
        raise exception 'app_user owns %, and an owner can switch row-level security off',
            table_name
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Give the table to a role that app_user is not a member of: ALTER TABLE '
                    '... OWNER TO ...';
    end if;

    first_time := not exists (
        select from pg_policy as p
        where p.polrelid = table_name and p.polname = 'multigres_isolation');
    for relation in
        with recursive family(id) as (
            select table_name
            union
            select i.inhrelid::regclass from pg_inherits as i join family on i.inhparent = family.id
        )
        select id from family
    loop
        perform public.multigres_isolate(relation, column_name);
    end loop;

    if first_time then
        if not has_schema_privilege('app_user', found.nspname, 'usage') then
            execute format('grant usage on schema %I to app_user', found.nspname);
        end if;
        execute format('grant select, insert, update, delete on %s to app_user', table_name);
        for found in
            select d.objid::regclass as sequence
            from pg_depend as d join pg_class as c on c.oid = d.objid and c.relkind = 'S'
            where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
                and d.refobjid = table_name and d.deptype = 'a'
        loop
            execute format('grant usage on sequence %s to app_user', found.sequence);
        end loop;
    end if;
end
$$;

alter function public.multigres_protect(regclass, name) owner to current_user;
revoke all on function public.multigres_protect(regclass, name) from public;


-- What is protected in this database, and what stands against it. One line per table; a view, a
-- schema or a role has a line only where it is a problem. `protected` is yes where there is
-- none: policies as multigres_protect() makes them, and no way past them for app_user.
create or replace function public.multigres_status()
returns table (table_name text, tenant_column text, protected text, problems text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with app(id) as (
        select to_regrole('app_user')::oid
    ),
    relations as (
        select c.oid::regclass as name, c.relkind, c.relrowsecurity, c.relforcerowsecurity,
            c.relkind in ('r', 'p') as is_table, p.oid as policy,
            (r.rolsuper or r.rolbypassrls) and not exists (
                select from pg_options_to_table(c.reloptions)
                where option_name = 'security_invoker' and option_value::boolean
            ) as reads_past_policies,
            has_any_column_privilege(app.id, c.oid, 'select, insert, update')
                or has_table_privilege(app.id, c.oid, 'delete') as reached,
            has_table_privilege(app.id, c.oid, 'truncate, references, trigger')
                or has_any_column_privilege(app.id, c.oid, 'references') as endangered,
            pg_has_role(app.id, c.relowner, 'member') as owned,
            (
                select a.attname from pg_attribute as a
                where a.attrelid = c.oid and not p.polpermissive and p.polcmd = '*'
                    and p.polroles = '{0}'
                    and pg_get_expr(p.polqual, c.oid)
                        = public.multigres_predicate(c.oid, a.attname)
                    and pg_get_expr(p.polwithcheck, c.oid)
                        = public.multigres_predicate(c.oid, a.attname)
            ) as tenant_column
        from app, pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        join pg_roles as r on r.oid = c.relowner
        left join pg_policy as p on p.polrelid = c.oid and p.polname = 'multigres_isolation'
        where c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relpersistence <> 't'
            and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
            and not exists (
                select from pg_depend as d
                where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
    ),
    findings(place, rank, tenant_column, listed, problems) as (
        select 'role app_user', 0, null, false,
            case
                when app.id is null then 'does not exist'
                else public.multigres_role_problems(app.id)
            end
        from app
        union all
        select format('schema %I', n.nspname), 1, null, false,
            'app_user may create objects in it'
        from app, pg_namespace as n
        where has_schema_privilege(app.id, n.oid, 'create') and n.nspname !~ '^pg_'
        union all
        select r.name::text, 2, r.tenant_column, r.is_table,
            nullif(concat_ws('; ',
                case when r.is_table and r.reached and r.policy is null
                    then 'app_user reaches all its rows' end,
                case when r.policy is not null and r.tenant_column is null
                    then 'policy multigres_isolation was changed' end,
                case when r.policy is not null and not r.relrowsecurity
                    then 'row-level security is off' end,
                case when r.policy is not null and not r.relforcerowsecurity
                    then 'row-level security is not forced upon the owner' end,
                case when r.is_table and r.endangered
                    then 'app_user may TRUNCATE it, or put a trigger or a reference on it' end,
                case when r.is_table and r.owned
                    then 'app_user owns it' end,
                case when r.relkind = 'v' and r.reached and r.reads_past_policies
                    then 'reads with the rights of its owner, whom no policy holds' end,
                case when r.relkind in ('m', 'f') and r.reached
                    then 'app_user reaches all its rows: it cannot have policies' end), '')
        from relations as r
    )
    select f.place, f.tenant_column,
        case when f.tenant_column is not null and f.problems is null then 'yes' else 'no' end,
        coalesce(f.problems, '')
    from findings as f
    where f.listed or f.problems is not null
    order by f.rank, f.place
$$;

alter function public.multigres_status() owner to current_user;
revoke all on function public.multigres_status() from public;


\ir check.sql
\ir harden.sql

commit;
