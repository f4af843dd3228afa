-- The database side of Multigres: tenants held apart by row-level security.
--
--     psql -U postgres -d DB -v ON_ERROR_STOP=1 -f sql/setup.sql
--     psql -U postgres -d DB -c "select multigres_protect('contacts', 'tenant_id')"
--     psql -U postgres -d DB -c "select * from multigres_status()"
--
-- PostgreSQL 13 to 18. Once per database, by a superuser, or by a role with CREATEROLE that owns
-- the tables and may create functions in schema public. It is one transaction and plain SQL; run
-- again, it brings an older version up to date, and a sealed database stays sealed.
-- sql/teardown.sql takes it all out.
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


-- Who may create in schema public could have laid something there for this to run or to read: a
-- function that fits a call better than the one that is made here, or a table of changes to undo.
do $$
declare
    found record;
begin
    select o.name, r.rolname as owner into found
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
    ) as o(name, owner)
    join pg_roles as r on r.oid = o.owner
    where r.rolname <> current_user and not r.rolsuper
    order by o.name limit 1;
    if found.name is not null then
        raise exception '% belongs to %', found.name, quote_ident(found.owner)
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Run this as that role, if it ran setup.sql before; or drop what it has '
                    'laid there.';
    end if;
end
$$;


-- Functions that an older version had with other arguments or another result: CREATE OR REPLACE
-- would leave them beside the new ones, or fail.
do $$
declare
    old text;
begin
    foreach old in array array['public.multigres_protect(regclass, name)',
        'public.multigres_isolate(regclass, name)', 'public.multigres_predicate(regclass, name)',
        'public.multigres_dimensions()', 'public.multigres_lost()']
    loop
        if to_regprocedure(old) is not null then
            execute 'drop function ' || old;
        end if;
    end loop;
    if pg_get_function_result(to_regprocedure('public.multigres_status()'))
        not like '%variable text%'
    then
        drop function public.multigres_status();
    end if;
end
$$;


-- Defines multigres_context(), and current_tenant_id() upon it, in one of two forms: sealed where
-- multigres_seal() has stored a key, and plain otherwise.
--
-- Both answer NULL when there is no context. A variable that was set once and then reset is ''
-- and not NULL: both are no tenant, and NULL equals no row's tenant column.
create or replace function public.multigres_define_context() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $define$
declare
    keys regclass := to_regclass('public.multigres_seal_keys');
begin
    -- A table of that name may have been laid there by somebody who knows the keys in it.
    if keys is not null and exists (
        select from pg_class as c join pg_roles as r on r.oid = c.relowner
        where c.oid = keys and (c.relkind <> 'r' or r.rolname <> current_user and not r.rolsuper))
    then
        raise exception '% belongs to another role', keys
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Run this as its owner; or drop it, if it was not made by '
                    'multigres_seal().';
    end if;

    if keys is null then
        -- PostgreSQL lets a session SET such a variable. Multigres binds it so that nobody
        -- forgets to; a session that runs SQL of an attacker's choice can set another one, until
        -- multigres_seal() ends that.
        --
        -- No SET search_path here: a function that has one is not inlined. Every name is
        -- qualified and every type exact instead, so that nothing planted beside them fits better.
        create or replace function public.multigres_context(variable text) returns text
        language sql stable parallel safe
        as $context$
            select case
                when pg_catalog.current_setting(variable, true) operator(pg_catalog.<>) ''
                then pg_catalog.current_setting(variable, true)
            end
        $context$;

        -- Not upon multigres_context(): that would be inlined, and parsed, once more per query.
        create or replace function public.current_tenant_id() returns text
        language sql stable parallel safe
        as $context$
            select case
                when pg_catalog.current_setting('app.current_tenant_id', true)
                    operator(pg_catalog.<>) ''
                then pg_catalog.current_setting('app.current_tenant_id', true)
            end
        $context$;
    else
        -- The value, if the seal beside it is an HMAC-SHA256 of it by one of the keys: see
        -- multigres_seal(). Whatever is missing makes the comparison NULL, hence no row.
        --
        -- What is sealed: the version, then variable, value, database and role, each behind its
        -- length in bytes, and where bind is 'address' the client's address and port. A name is
        -- taken as it is stored: convert_to() to SQL_ASCII changes no byte. format() writes
        -- nothing for NULL, so address and port stay outside it: where one is missing, all is.
        --
        -- The keys are never variables of this function: PostgreSQL would plan with their values,
        -- and a session may have its plans printed (debug_print_plan). Both sides are hashed once
        -- more, so that the time of a comparison tells nothing about the right seal. They are
        -- compared as hexadecimal digits: what is no seal is never decoded, and is no error.
        --
        -- Every query pays for this. One statement, for PL/pgSQL prepares each expression anew in
        -- every transaction; its plan is kept for the session. And no SET search_path, which
        -- costs a fifth more (measured on PostgreSQL 15): the caller's search_path is harmless
        -- as long as every name and operator() is qualified and nothing here (CASE x WHEN, IN,
        -- NULLIF, IS DISTINCT FROM) looks for an operator of its own.
        --
        -- Parallel workers have no client, and so no address.
        create or replace function public.multigres_context(variable text) returns text
        language plpgsql stable parallel restricted security definer
        as $context$
        declare
            value pg_catalog.text;
        begin
            select case
                    when pg_catalog.current_setting(variable, true) operator(pg_catalog.<>) ''
                    then pg_catalog.current_setting(variable, true)
                end
            into value
            from public.multigres_seal_keys as k
            where pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.encode(
                    pg_catalog.sha256(k.outer_pad operator(pg_catalog.||)
                        pg_catalog.sha256(k.inner_pad operator(pg_catalog.||)
                            pg_catalog.convert_to(pg_catalog.format(
                                'multigres-seal-1 %s:%s%s:%s%s:%s%s:%s',
                                pg_catalog.octet_length(variable),
                                pg_catalog.lower(variable collate pg_catalog."C"),
                                pg_catalog.octet_length(
                                    pg_catalog.current_setting(variable, true)),
                                pg_catalog.current_setting(variable, true),
                                pg_catalog.octet_length(
                                    pg_catalog.current_database()::pg_catalog.text),
                                pg_catalog.current_database(),
                                pg_catalog.octet_length(session_user::pg_catalog.text),
                                session_user), 'SQL_ASCII')
                            operator(pg_catalog.||) case
                                when k.bind operator(pg_catalog.=) 'none' then ''
                                when k.bind operator(pg_catalog.=) 'address'
                                then pg_catalog.inet_send(pg_catalog.inet_client_addr())
                                    operator(pg_catalog.||)
                                    pg_catalog.int4send(pg_catalog.inet_client_port())
                            end)), 'hex'), 'SQL_ASCII'))
                operator(pg_catalog.=) pg_catalog.sha256(pg_catalog.convert_to(
                    pg_catalog.current_setting(variable operator(pg_catalog.||) '_seal', true),
                    'SQL_ASCII'));
            return value;
        end
        $context$;

        create or replace function public.current_tenant_id() returns text
        language sql stable parallel restricted
        as $context$
            select public.multigres_context('app.current_tenant_id'::pg_catalog.text)
        $context$;

        execute format('alter table %s owner to %I', keys, current_user);
    end if;

    alter function public.multigres_context(text) owner to current_user;
    alter function public.current_tenant_id() owner to current_user;
    grant execute on function public.multigres_context(text), public.current_tenant_id()
        to public;
end
$define$;

alter function public.multigres_define_context() owner to current_user;
revoke all on function public.multigres_define_context() from public;

do $$
begin
    perform public.multigres_define_context();
end
$$;


-- Seals the context: from now on a variable counts only with a seal beside it, in the setting
-- `<variable>_seal`, that Multigres made with this key (seal_key_file) for this login: for its
-- database, its role and, where bind is 'address', for the address and port that it comes from.
-- `multigres seal-key` prints a key: 64 hexadecimal digits.
--
-- Two keys are good at a time. To change the key: call this with the new one, give it to
-- Multigres, and when all sessions of the old one have ended, call multigres_unseal() and this
-- again, or leave the old one until the next change drives it out.
--
-- Who owns this function reads the keys, and so does whoever reads a dump of the database, or a
-- log of its statements.
create or replace function public.multigres_seal(key_hex text, bind text default 'address')
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    key bytea;
    new_inner_pad bytea := decode(repeat('36', 64), 'hex');
    new_outer_pad bytea := decode(repeat('5c', 64), 'hex');
    byte int;
    grantee text;
begin
    if (key_hex ~ '^[0-9a-f]{64}$') is not true then
        raise exception 'a seal key is 64 hexadecimal digits in lower case'
            using errcode = 'invalid_parameter_value',
                hint = 'multigres seal-key prints a fresh one.';
    end if;
    if (bind in ('address', 'none')) is not true then
        raise exception 'a seal is bound to ''address'' or to ''none'''
            using errcode = 'invalid_parameter_value',
                hint = 'It must be what seal_bind is in Multigres'' settings.';
    end if;
    key := decode(key_hex, 'hex');
    for i in 0..31 loop
        byte := get_byte(key, i);
        new_inner_pad := set_byte(new_inner_pad, i, byte # 54);
        new_outer_pad := set_byte(new_outer_pad, i, byte # 92);
    end loop;

    perform pg_advisory_xact_lock(hashtextextended('multigres setup.sql', 0));
    if to_regclass('public.multigres_seal_keys') is null then
        create table public.multigres_seal_keys (
            id int generated always as identity primary key,
            inner_pad bytea not null unique,
            outer_pad bytea not null,
            bind text not null check (bind in ('address', 'none')),
            added timestamptz not null default now());
        -- ALTER DEFAULT PRIVILEGES may have granted it to anybody.
        for grantee in
            select distinct case when a.grantee = 0 then 'public'
                else format('%I', pg_get_userbyid(a.grantee)) end
            from pg_class as c, aclexplode(c.relacl) as a
            where c.oid = 'public.multigres_seal_keys'::regclass and a.grantee <> c.relowner
        loop
            execute format('revoke all on public.multigres_seal_keys from %s', grantee);
        end loop;
    end if;
    perform public.multigres_define_context();
    if has_any_column_privilege('app_user', 'public.multigres_seal_keys',
            'select, insert, update')
        or has_table_privilege('app_user', 'public.multigres_seal_keys', 'delete, truncate')
        or pg_has_role('app_user', current_user, 'member')
    then
        raise exception 'app_user would reach the seal keys'
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Take it out of the roles that let it read or write this table: '
                    'pg_read_all_data, pg_write_all_data, or the one that runs this.';
    end if;

    -- The older of two makes room; a key that is there already does not drive out the other.
    delete from public.multigres_seal_keys as k
    where not exists (
            select from public.multigres_seal_keys as same
            where same.inner_pad = new_inner_pad)
        and k.id <> (select max(newest.id) from public.multigres_seal_keys as newest);
    insert into public.multigres_seal_keys as k (inner_pad, outer_pad, bind)
    values (new_inner_pad, new_outer_pad, multigres_seal.bind)
    on conflict on constraint multigres_seal_keys_inner_pad_key
        do update set bind = excluded.bind;
end
$$;

alter function public.multigres_seal(text, text) owner to current_user;
revoke all on function public.multigres_seal(text, text) from public;


-- Forgets the keys: a variable counts without a seal again. Nothing else changes.
create or replace function public.multigres_unseal() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('multigres setup.sql', 0));
    if to_regclass('public.multigres_seal_keys') is not null then
        drop table public.multigres_seal_keys;
    end if;
    perform public.multigres_define_context();
end
$$;

alter function public.multigres_unseal() owner to current_user;
revoke all on function public.multigres_unseal() from public;


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
-- does not own the schema cannot revoke it.
do $$
begin
    if not exists (
        select
        from pg_namespace as n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) as a
        where n.nspname = 'public' and a.grantee = 0 and a.privilege_type = 'CREATE'
    ) then
        return;
    end if;
    if not pg_has_role(
        (select n.nspowner from pg_namespace as n where n.nspname = 'public'), 'usage')
    then
        raise notice 'CREATE on schema public remains granted to PUBLIC: % does not own it',
            current_user
            using hint = 'Let its owner run: REVOKE CREATE ON SCHEMA public FROM PUBLIC';
    else
        revoke create on schema public from public;
        raise notice 'CREATE on schema public is no longer granted to PUBLIC'
            using hint = 'Grant it to the roles that need it: GRANT CREATE ON SCHEMA public TO '
                'the role that runs your migrations.';
    end if;
end
$$;


-- What the policies of a table compare, written as PostgreSQL prints it, so that
-- multigres_status() can tell a policy that was changed. NULL where no comparison is safe: a
-- type not in the list, or a collation that takes two tenants' names for one. citext does that
-- too: its own comparison serves its index, and one as text beside it tells Acme from acme.
--
-- The cast stands on the function's side: an index on the column remains usable. The function is
-- in a subquery of its own: it runs once per query, and not for every row.
--
-- This and what else is asked for each table is PL/pgSQL, which keeps its plans for the session.
-- Before PostgreSQL 18, each statement that calls a function in SQL plans it anew, which took most
-- of the time.
create or replace function public.multigres_predicate(
    table_name regclass, column_name name, variable text)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
begin
    return (
        with recursive types(id, base) as (
            select t.oid, t.typbasetype
            from pg_attribute as a
            join pg_type as t on t.oid = a.atttypid
            left join pg_collation as c on c.oid = a.attcollation
            where a.attrelid = table_name and a.attname = column_name
                and a.attnum > 0 and not a.attisdropped
                and coalesce(c.collisdeterministic, true)
            union all
            select t.oid, t.typbasetype
            from types
            -- OFFSET 0: found by its index, and not in a hash of all types.
            cross join lateral (select * from pg_type where oid = types.base offset 0) as t
        ),
        base(id, is_domain, citext_schema) as materialized (
            select types.id, (select count(*) from types) > 1,
                (
                    select n.nspname
                    from pg_type as t
                    join pg_namespace as n on n.oid = t.typnamespace
                    join pg_depend as d on d.classid = 'pg_type'::regclass and d.objid = t.oid
                        and d.deptype = 'e' and d.refclassid = 'pg_extension'::regclass
                    join pg_extension as e on e.oid = d.refobjid
                    where t.oid = types.id and t.typname = 'citext' and e.extname = 'citext'
                )
            from types where types.base = 0
        ),
        context(call) as materialized (
            select case variable
                when 'app.current_tenant_id'
                then '( SELECT public.current_tenant_id() AS current_tenant_id)'
                else format('( SELECT public.multigres_context(%L::text) AS multigres_context)',
                    variable)
            end
        )
        select case
            when base.id = 'text'::regtype and not base.is_domain
            then format('(%I = %s)', column_name, context.call)
            when base.id in ('text'::regtype, 'varchar'::regtype)
            then format('((%I)::text = %s)', column_name, context.call)
            else format(
                case when base.citext_schema is null then '%s'
                    else '(%s AND ((%I)::text = %s))' end,
                format(case when base.is_domain then '((%1$I)::%2$s %3$s (%4$s)::%2$s)'
                        else '(%1$I %3$s (%4$s)::%2$s)' end,
                    column_name, format_type(base.id, null),
                    case when base.citext_schema is null then '='
                        else format('OPERATOR(%I.=)', base.citext_schema) end,
                    context.call),
                column_name, context.call)
        end
        from base, context
        where base.citext_schema is not null
            or base.id in ('text'::regtype, 'varchar'::regtype, 'uuid'::regtype,
                'smallint'::regtype, 'integer'::regtype, 'bigint'::regtype));
end
$$;

alter function public.multigres_predicate(regclass, name, text) owner to current_user;
revoke all on function public.multigres_predicate(regclass, name, text) from public;


-- What a policy's comment remembers; anybody's comment may say anything.
create or replace function public.multigres_memory(comment text) returns jsonb
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return case when jsonb_typeof(comment::jsonb) = 'object' then comment::jsonb end;
exception when invalid_text_representation then
    return null;
end
$$;

alter function public.multigres_memory(text) owner to current_user;
revoke all on function public.multigres_memory(text) from public;


-- Every policy that isolates, of one relation or of all: one for each dimension of a table, its
-- partitions and its heirs.
--
-- Column and variable are read from what the policy says, and `intact` is whether that is what
-- multigres_protect() made it say. `memory` is what it has to undo: the policy's comment, so that
-- a dump holds it, and a table that is dropped takes it along. Who owns the table can write it,
-- hence it holds no SQL.
create or replace function public.multigres_dimensions(table_name regclass default null)
returns table (relation regclass, policy name, column_name name, variable text, intact boolean,
    memory jsonb)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
begin
    return query
        select p.polrelid::regclass, p.polname,
            coalesce(a.attname, (m.memory ->> 'column')::name), v.variable,
            not p.polpermissive and p.polcmd = '*' and p.polroles = '{0}'
                and coalesce(e.using_text = w.predicate and e.check_text = e.using_text, false),
            m.memory
        from (
            -- Not one condition with OR, which would read every policy to find those of a relation.
            select one.* from pg_policy as one where one.polrelid = table_name
            union all
            select each.* from pg_policy as each where table_name is null
        ) as p
        cross join lateral (
            -- OFFSET 0: once for each policy, and not wherever the text is asked for.
            select pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)
            offset 0
        ) as e(using_text, check_text)
        cross join lateral (
            select case
                when strpos(e.using_text, 'public.current_tenant_id()') > 0
                then 'app.current_tenant_id'
                else substring(e.using_text
                    from 'public[.]multigres_context[(]''([a-z0-9_.$]+)''::text[)]')
            end
        ) as v(variable)
        cross join lateral (
            select public.multigres_memory(obj_description(p.oid, 'pg_policy')) offset 0
        ) as m(memory)
        left join lateral (
            select a.attname
            from pg_depend as d
            join pg_attribute as a on a.attrelid = p.polrelid and a.attnum = d.refobjsubid
            where d.classid = 'pg_policy'::regclass and d.objid = p.oid
                and d.refclassid = 'pg_class'::regclass and d.refobjid = p.polrelid
                and d.refobjsubid > 0
            order by a.attnum limit 1
        ) as a on true
        cross join lateral (
            select public.multigres_predicate(p.polrelid::regclass, a.attname, v.variable)
        ) as w(predicate)
        where starts_with(p.polname::text, 'multigres_isolation');
end
$$;

alter function public.multigres_dimensions(regclass) owner to current_user;
revoke all on function public.multigres_dimensions(regclass) from public;


-- A table, then its partitions and all tables that inherit from it, parents first. Mostly it is
-- alone: ROWS lets what is joined to it be found by an index.
create or replace function public.multigres_family(table_name regclass) returns setof regclass
language plpgsql stable rows 10
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
        with recursive family(id, depth) as (
            select table_name, 0
            union all
            select i.inhrelid::regclass, depth + 1
            from pg_inherits as i join family on i.inhparent = family.id
        )
        select id from family group by id order by max(depth), id;
end
$$;

alter function public.multigres_family(regclass) owner to current_user;
revoke all on function public.multigres_family(regclass) from public;


-- Sequences that a row of the table takes its numbers from.
create or replace function public.multigres_sequences(table_name regclass)
returns setof regclass
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select d.objid::regclass
    from pg_depend as d join pg_class as c on c.oid = d.objid and c.relkind = 'S'
    where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
        and d.refobjid = table_name and d.deptype in ('a', 'i')
    union
    select d.refobjid::regclass
    from pg_depend as d join pg_class as c on c.oid = d.refobjid and c.relkind = 'S'
    where d.classid = 'pg_attrdef'::regclass and d.refclassid = 'pg_class'::regclass
        and d.objid = any (array(select f.oid from pg_attrdef as f where f.adrelid = table_name))
$$;

alter function public.multigres_sequences(regclass) owner to current_user;
revoke all on function public.multigres_sequences(regclass) from public;


-- Dimensions, of one relation or of all, whose policy was dropped, and not by
-- multigres_unprotect(): the comment of each policy of a table has all dimensions in it, so that
-- those that stand know of one that is gone.
create or replace function public.multigres_lost(table_name regclass default null)
returns table (relation regclass, policy name, column_name name, variable text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
        select distinct p.polrelid::regclass, d.key::name, (d.value ->> 'column')::name,
            d.value ->> 'variable'
        from (
            select one.* from pg_policy as one where one.polrelid = table_name
            union all
            select each.* from pg_policy as each where table_name is null
        ) as p
        cross join lateral (
            select public.multigres_memory(obj_description(p.oid, 'pg_policy')) -> 'dimensions'
            offset 0
        ) as m(dimensions)
        cross join lateral jsonb_each(
            case when jsonb_typeof(m.dimensions) = 'object' then m.dimensions end) as d
        where starts_with(p.polname::text, 'multigres_')
            and d.value ->> 'column' is not null and d.value ->> 'variable' is not null
            and d.key::name <> all (array(
                select same.polname from pg_policy as same where same.polrelid = p.polrelid));
end
$$;

alter function public.multigres_lost(regclass) owner to current_user;
revoke all on function public.multigres_lost(regclass) from public;


-- Writes the dimensions of a table into the comments of its policies: those that stand, and of
-- those that are lost all but the `forgotten` ones.
create or replace function public.multigres_record(
    table_name regclass, forgotten name[] default '{}')
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    dimensions jsonb;
    note record;
begin
    select jsonb_object_agg(d.policy,
        jsonb_build_object('column', d.column_name, 'variable', d.variable))
    into dimensions
    from (
        select d.relation, d.policy, d.column_name,
            coalesce(d.variable, d.memory ->> 'variable') as variable
        from public.multigres_dimensions(table_name) as d
        union all
        select * from public.multigres_lost(table_name) as l where l.policy <> all (forgotten)
    ) as d;
    for note in
        select p.polname as policy, m.memory || jsonb_build_object('dimensions', dimensions) as new
        from pg_policy as p
        cross join lateral (
            select coalesce(
                public.multigres_memory(obj_description(p.oid, 'pg_policy')), '{}') as memory
        ) as m
        where p.polrelid = table_name and p.polname ~ '^multigres_(isolation|access$)'
            and m.memory -> 'dimensions' is distinct from dimensions
    loop
        execute format('comment on policy %I on %s is %L', note.policy, table_name, note.new);
    end loop;
end
$$;

alter function public.multigres_record(regclass, name[]) owner to current_user;
revoke all on function public.multigres_record(regclass, name[]) from public;


-- Restrictive policies alone let nobody in, hence a permissive one beside them, which says the
-- same as that of the tenant, or of the table's first dimension where none is the tenant, and so
-- does not open that one should its own policy be dropped. PostgreSQL leaves out a condition that
-- equals another one; had this one all dimensions in it, every query would ask for each context
-- twice. The policy of a further dimension that is dropped by hand leaves that dimension open,
-- and multigres_status() and multigres_check() say so.
--
-- A table with permissive policies of its own keeps them instead: they say who sees what inside a
-- tenant, and another one would overrule them.
create or replace function public.multigres_admit(table_name regclass) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    predicate text;
begin
    if exists (
        select from pg_policy as p
        where p.polrelid = table_name and p.polname = 'multigres_access')
    then
        execute format('drop policy multigres_access on %s', table_name);
    end if;
    if exists (select from pg_policy as p where p.polrelid = table_name and p.polpermissive) then
        return;
    end if;
    select pg_get_expr(p.polqual, p.polrelid) into predicate
    from public.multigres_dimensions(table_name) as d
    join pg_policy as p on p.polrelid = table_name and p.polname = d.policy
    order by d.variable is distinct from 'app.current_tenant_id', p.polname limit 1;
    if predicate is not null then
        execute format(
            'create policy multigres_access on %s to public using (%s) with check (%s)',
            table_name, predicate, predicate);
        perform public.multigres_record(table_name);
    end if;
end
$$;

alter function public.multigres_admit(regclass) owner to current_user;
revoke all on function public.multigres_admit(regclass) from public;


-- Puts the policies on one table. The restrictive one of each dimension is the isolation: whatever
-- other policies a table has or gets, a row must satisfy this one too.
create or replace function public.multigres_isolate(
    table_name regclass, column_name name, variable text, memory jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    predicate text := public.multigres_predicate(table_name, column_name, variable);
    found record;
    policy_name name := 'multigres_isolation';
    replaced name[] := '{}';
begin
    if predicate is null then
        raise exception 'column "%" of % cannot hold tenants', column_name, table_name
            using errcode = 'datatype_mismatch',
                detail = 'A tenant column is text, varchar, citext, uuid, smallint, integer, '
                    'bigint or a domain over one of them, and its collation tells all strings '
                    'apart.';
    end if;

    for found in
        select d.policy, d.column_name = multigres_isolate.column_name as same, true as stands
        from public.multigres_dimensions(table_name) as d
        union all
        select l.policy, l.column_name = multigres_isolate.column_name, false
        from public.multigres_lost(table_name) as l
    loop
        -- One whose column cannot be told was changed beyond that, and isolates nothing.
        if found.same is not false then
            if found.stands then
                execute format('drop policy %I on %s', found.policy, table_name);
            end if;
            replaced := replaced || found.policy;
        elsif found.policy = policy_name then
            policy_name := 'multigres_isolation_' || case
                when octet_length(column_name) > 43 then md5(column_name) else column_name end;
        end if;
    end loop;
    execute format(
        'create policy %I on %s as restrictive to public using (%s) with check (%s)',
        policy_name, table_name, predicate, predicate);
    execute format('comment on policy %I on %s is %L', policy_name, table_name, memory);
    -- First, for it may be that the permissive policy alone has them.
    perform public.multigres_record(table_name, replaced);
    perform public.multigres_admit(table_name);
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

alter function public.multigres_isolate(regclass, name, text, jsonb) owner to current_user;
revoke all on function public.multigres_isolate(regclass, name, text, jsonb) from public;


-- What protecting a table changes in its column and in its rights, beside the policies; answers
-- what multigres_unprotect() must undo. `remembered` is the answer of an earlier call.
create or replace function public.multigres_prepare(
    table_name regclass, column_name name, variable text, remembered jsonb)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
declare
    found record;
    memory jsonb := coalesce(remembered, '{}')
        || jsonb_build_object('column', column_name, 'variable', variable);
    made name;
begin
    select c.relkind, a.attnum, a.attidentity, a.attgenerated, a.atthasdef, t.typdefault,
        case when t.typtype = 'd' then t.typbasetype else t.oid end as type,
        pg_get_expr(f.adbin, f.adrelid) as column_default
    into found
    from pg_attribute as a
    join pg_class as c on c.oid = a.attrelid
    join pg_type as t on t.oid = a.atttypid
    left join pg_attrdef as f on f.adrelid = a.attrelid and f.adnum = a.attnum
    where a.attrelid = table_name and a.attname = column_name;

    if memory ->> 'default' = 'true'
        and found.column_default ~ '^[(]*public[.](current_tenant_id|multigres_context)[(]'
        or not found.atthasdef and found.typdefault is null
            and found.attidentity = '' and found.attgenerated = ''
    then
        execute format('alter table only %s alter column %I set default '
                '(public.multigres_context(%L))::%s',
            table_name, column_name, variable, format_type(found.type, null));
        memory := memory || '{"default": true}';
    end if;

    -- An index on a partitioned table would take those of its partitions for its own, and take
    -- them along when it is dropped.
    if not exists (
        select from public.multigres_family(table_name) as f
        join pg_index as i on i.indrelid = f
        join pg_class as c on c.oid = i.indexrelid
        join pg_am as m on m.oid = c.relam
        join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
        where (f = table_name or found.relkind = 'p') and a.attname = column_name
            and i.indisvalid and i.indpred is null and m.amname = 'btree')
    then
        made := format('multigres_%s_%s', table_name::oid, found.attnum);
        execute format('create index %I on %s (%I)', made, table_name, column_name);
        execute format('comment on index %I.%I is %L',
            (select n.nspname from pg_class as c join pg_namespace as n
                on n.oid = c.relnamespace where c.oid = table_name),
            made, 'made by multigres_protect()');
    end if;
    return memory;
end
$$;

alter function public.multigres_prepare(regclass, name, text, jsonb) owner to current_user;
revoke all on function public.multigres_prepare(regclass, name, text, jsonb) from public;


-- Holds the tenants of a table apart, and those of its partitions and of all tables that inherit
-- from it: each of them can be read by its own name, past the policies of its parent. Called
-- again, it protects the partitions that have come since.
--
-- Called for a second column, with the variable that is its context, it adds a dimension: a row
-- must then fit both.
--
-- A column gets NOT NULL, the context as its default, and an index, where it has none; large
-- tables better have the index before, built CONCURRENTLY. app_user gets SELECT, INSERT, UPDATE
-- and DELETE when a table is first protected; what is taken from it afterwards is not given back
-- when this is called again.
create or replace function public.multigres_protect(
    table_name regclass, column_name name default 'tenant_id',
    variable text default 'app.current_tenant_id')
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    parent record;
    first_time boolean;
    part regclass;
    nullable regclass[];
    granted text[] := '{}';
    sequences text[] := '{}';
    privilege text;
    old jsonb;
    inherited jsonb;
    shared jsonb;
begin
    if table_name is null or column_name is null or variable is null then
        raise exception 'multigres_protect needs the name of a table and of its tenant column'
            using errcode = 'null_value_not_allowed';
    end if;
    variable := lower(variable collate "C");
    if variable !~ '^[a-z_][a-z0-9_$]*([.][a-z_][a-z0-9_$]*)+$' then
        raise exception '"%" cannot be the name of a context variable', variable
            using errcode = 'invalid_parameter_value',
                hint = 'Name one of context_variables in Multigres'' settings, as '
                    'app.current_user_id.';
    end if;
    select c.relkind, c.relowner, n.nspname into parent
    from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
    where c.oid = table_name;
    if parent.relkind is null or parent.relkind not in ('r', 'p') then
        raise exception '% is not a table: row-level security cannot protect it', table_name
            using errcode = 'wrong_object_type',
                hint = case parent.relkind
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
    for part in
        select f from public.multigres_family(table_name) as f
        join pg_class as c on c.oid = f where c.relkind not in ('r', 'p')
    loop
        raise exception '% is a part of %, and row-level security cannot protect it',
            part, table_name
            using errcode = 'wrong_object_type',
                hint = 'Keep foreign tables out of it: ALTER TABLE ... DETACH PARTITION ..., or '
                    'ALTER FOREIGN TABLE ... NO INHERIT ...';
    end loop;
    if pg_has_role('app_user', parent.relowner, 'member') then
        raise exception 'app_user owns %, and an owner can switch row-level security off',
            table_name
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Give the table to a role that app_user is not a member of: ALTER TABLE '
                    '... OWNER TO ...';
    end if;

    first_time := not exists (select from public.multigres_dimensions(table_name));
    if first_time then
        if not has_schema_privilege('app_user', parent.nspname, 'usage') then
            execute format('grant usage on schema %I to app_user', parent.nspname);
        end if;
        foreach privilege in array array['select', 'insert', 'update', 'delete'] loop
            if not has_table_privilege('app_user', table_name, privilege) then
                execute format('grant %s on %s to app_user', privilege, table_name);
                granted := granted || privilege;
            end if;
        end loop;
        for part in select public.multigres_sequences(table_name) loop
            if not has_sequence_privilege('app_user', part, 'usage') then
                execute format('grant usage on sequence %s to app_user', part);
                sequences := sequences || part::text;
            end if;
        end loop;
    end if;

    nullable := array(
        select f from public.multigres_family(table_name) as f
        join pg_attribute as a on a.attrelid = f and a.attname = column_name
        where not a.attnotnull);
    begin
        foreach part in array nullable loop
            execute format('alter table %s alter column %I set not null', part, column_name);
        end loop;
    exception when not_null_violation then
        nullable := '{}';
        if first_time then
            raise notice '% has rows without a tenant: % may still be NULL', table_name,
                column_name
                using hint = 'Nobody but superusers will see them. Give them a tenant and call '
                    'multigres_protect() again.';
        end if;
    end;

    -- A partition that came since has the default and the NOT NULL of its table.
    select jsonb_object_agg(m.key, m.value) into inherited
    from public.multigres_dimensions(table_name) as d, jsonb_each(d.memory) as m
    where d.column_name = multigres_protect.column_name and m.key in ('default', 'not_null');
    for part in select public.multigres_family(table_name) loop
        old := (select d.memory from public.multigres_dimensions(part) as d
            where d.column_name = multigres_protect.column_name limit 1);
        -- What concerns the whole table is known to each of its dimensions.
        select d.memory -> 'table' into shared
        from public.multigres_dimensions(part) as d
        order by d.memory -> 'table' is null limit 1;
        if not found then
            select jsonb_build_object('enabled', c.relrowsecurity, 'forced', c.relforcerowsecurity,
                'revoked', (
                    select jsonb_agg(distinct lower(a.privilege_type))
                    from aclexplode(c.relacl) as a
                    where a.grantee = 'app_user'::regrole
                        and a.privilege_type in ('TRUNCATE', 'REFERENCES', 'TRIGGER')),
                'granted', case when c.oid = table_name then granted end,
                'sequences', case when c.oid = table_name then sequences end)
            into shared from pg_class as c where c.oid = part;
        end if;
        old := coalesce(old, inherited, '{}') || jsonb_build_object('table', shared)
            || case when part = any (nullable) then '{"not_null": true}' else '{}' end::jsonb;
        perform public.multigres_isolate(part, column_name, variable,
            public.multigres_prepare(part, column_name, variable, old));
    end loop;
end
$$;

alter function public.multigres_protect(regclass, name, text) owner to current_user;
revoke all on function public.multigres_protect(regclass, name, text) from public;


-- Undoes what multigres_protect() did to a table and its family, for one column or for all of
-- them: what it added goes, what was there before stays, and what is not remembered (an older
-- version, a dump without comments) stays too. USAGE on the schema remains granted.
create or replace function public.multigres_unprotect(
    table_name regclass, column_name name default null)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    parent regclass;
    part regclass;
    dimension record;
    forgotten name[];
    shared jsonb;
begin
    if table_name is null then
        raise exception 'multigres_unprotect needs the name of a table'
            using errcode = 'null_value_not_allowed';
    end if;
    select i.inhparent into parent
    from pg_inherits as i
    where i.inhrelid = table_name
        and exists (select from public.multigres_dimensions(i.inhparent))
    limit 1;
    if parent is not null then
        raise exception '% is a part of %, and protected with it', table_name, parent
            using errcode = 'wrong_object_type',
                hint = 'Unprotect that table: its partitions and heirs go with it.';
    end if;
    execute format('lock table %s in access exclusive mode', table_name);

    for part in select public.multigres_family(table_name) loop
        shared := (
            select d.memory -> 'table' from public.multigres_dimensions(part) as d
            where d.memory -> 'table' is not null limit 1);
        forgotten := array(
            select l.policy from public.multigres_lost(part) as l
            where multigres_unprotect.column_name is null
                or l.column_name = multigres_unprotect.column_name);
        for dimension in
            select * from public.multigres_dimensions(part) as d
            where multigres_unprotect.column_name is null
                or d.column_name = multigres_unprotect.column_name
        loop
            perform public.multigres_restore_column(part, dimension.column_name, dimension.memory);
            execute format('drop policy %I on %s', dimension.policy, part);
            forgotten := forgotten || dimension.policy;
        end loop;
        if forgotten <> '{}' then
            perform public.multigres_record(part, forgotten);
            if exists (select from public.multigres_dimensions(part)) then
                perform public.multigres_admit(part);
            elsif not exists (select from public.multigres_lost(part)) then
                perform public.multigres_admit(part);
                perform public.multigres_restore_table(part, shared);
            end if;
        end if;
    end loop;
end
$$;

alter function public.multigres_unprotect(regclass, name) owner to current_user;
revoke all on function public.multigres_unprotect(regclass, name) from public;


create or replace function public.multigres_restore_column(
    table_name regclass, column_name name, memory jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
declare
    made regclass;
    part regclass;
    not_null regclass[];
begin
    if memory ->> 'default' = 'true' and exists (
        select from pg_attrdef as f
        join pg_attribute as a on a.attrelid = f.adrelid and a.attnum = f.adnum
        where f.adrelid = table_name and a.attname = column_name
            and pg_get_expr(f.adbin, f.adrelid) ~ '^[(]*public[.]multigres_context[(]')
    then
        execute format('alter table only %s alter column %I drop default',
            table_name, column_name);
    end if;

    for made in
        select i.indexrelid::regclass
        from pg_index as i
        join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
        where i.indrelid = table_name and a.attname = column_name
            and obj_description(i.indexrelid, 'pg_class') = 'made by multigres_protect()'
    loop
        execute format('drop index %s', made);
    end loop;

    if memory ->> 'not_null' = 'true' then
        -- To drop it here drops it from partitions and heirs, from those too that had it before.
        not_null := array(
            select f from public.multigres_family(table_name) as f
            join pg_attribute as a on a.attrelid = f
            cross join lateral public.multigres_dimensions(f) as d
            where a.attname = multigres_restore_column.column_name and a.attnotnull
                and d.column_name = a.attname and d.memory -> 'not_null' is null);
        begin
            execute format('alter table %s alter column %I drop not null',
                table_name, column_name);
        exception when invalid_table_definition then
            -- It has become a part of a primary key since.
            null;
        end;
        foreach part in array not_null loop
            execute format('alter table %s alter column %I set not null', part, column_name);
        end loop;
    end if;
end
$$;

alter function public.multigres_restore_column(regclass, name, jsonb) owner to current_user;
revoke all on function public.multigres_restore_column(regclass, name, jsonb) from public;


create or replace function public.multigres_restore_table(table_name regclass, memory jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    privilege text;
    sequence regclass;
begin
    -- Policies of somebody else's making want row-level security on, if nothing is remembered.
    if not coalesce(memory ->> 'enabled' = 'true',
        exists (select from pg_policy as p where p.polrelid = table_name))
    then
        execute format('alter table %s disable row level security', table_name);
    end if;
    if not coalesce(memory ->> 'forced' = 'true', false) then
        execute format('alter table %s no force row level security', table_name);
    end if;
    if to_regrole('app_user') is null then
        return;
    end if;
    foreach privilege in array array['select', 'insert', 'update', 'delete'] loop
        if memory -> 'granted' ? privilege then
            execute format('revoke %s on %s from app_user', privilege, table_name);
        end if;
    end loop;
    foreach privilege in array array['truncate', 'references', 'trigger'] loop
        if memory -> 'revoked' ? privilege then
            execute format('grant %s on %s to app_user', privilege, table_name);
        end if;
    end loop;
    for sequence in select public.multigres_sequences(table_name) loop
        if memory -> 'sequences' ? sequence::text then
            execute format('revoke usage on sequence %s from app_user', sequence);
        end if;
    end loop;
end
$$;

alter function public.multigres_restore_table(regclass, jsonb) owner to current_user;
revoke all on function public.multigres_restore_table(regclass, jsonb) from public;


-- What is protected in this database, and what stands against it. One line per table, or per
-- dimension of a table that has several; a view, a schema or a role has a line only where it is a
-- problem. `protected` is yes where there is none: policies as multigres_protect() makes them, and
-- no way past them for app_user.
create or replace function public.multigres_status()
returns table (table_name text, tenant_column text, variable text, protected text,
    problems text)
language sql stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
    with app(id) as (
        select to_regrole('app_user')::oid
    ),
    lost as (
        select l.relation, string_agg(format('the policy of column %I is gone', l.column_name),
            '; ' order by l.column_name) as columns
        from public.multigres_lost() as l group by l.relation
    ),
    relations as (
        select c.oid::regclass as name, c.relkind, c.relrowsecurity, c.relforcerowsecurity,
            c.relkind in ('r', 'p') as is_table, d.policy,
            case when d.intact then d.column_name end as tenant_column,
            case when d.intact then d.variable end as variable,
            lost.columns as gone,
            (r.rolsuper or r.rolbypassrls) and not exists (
                select from pg_options_to_table(c.reloptions)
                where option_name = 'security_invoker' and option_value::boolean
            ) as reads_past_policies,
            has_any_column_privilege(app.id, c.oid, 'select, insert, update')
                or has_table_privilege(app.id, c.oid, 'delete') as reached,
            has_table_privilege(app.id, c.oid, 'truncate, references, trigger')
                or has_any_column_privilege(app.id, c.oid, 'references') as endangered,
            pg_has_role(app.id, c.relowner, 'member') as owned
        from app, pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        join pg_roles as r on r.oid = c.relowner
        left join public.multigres_dimensions() as d on d.relation = c.oid
        left join lost on lost.relation = c.oid
        where c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relpersistence <> 't'
            and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
            and not exists (
                select from pg_depend as d
                where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
    ),
    findings(place, rank, tenant_column, variable, listed, problems) as (
        select 'role app_user', 0, null, null, false,
            case
                when app.id is null then 'does not exist'
                else public.multigres_role_problems(app.id)
            end
        from app
        union all
        select format('schema %I', n.nspname), 1, null, null, false,
            'app_user may create objects in it'
        from app, pg_namespace as n
        where has_schema_privilege(app.id, n.oid, 'create') and n.nspname !~ '^pg_'
        union all
        select r.name::text, 2, r.tenant_column, r.variable,
            r.is_table and r.name::text <> all (
                '{public.multigres_seal_keys, public.multigres_hardening}'),
            nullif(concat_ws('; ',
                case when r.is_table and r.reached and r.policy is null
                    then 'app_user reaches all its rows' end,
                case when r.policy is not null and r.tenant_column is null
                    then format('policy %I was changed', r.policy) end,
                r.gone,
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
    select f.place, f.tenant_column, f.variable,
        case when f.tenant_column is not null and f.problems is null then 'yes' else 'no' end,
        coalesce(f.problems, '')
    from findings as f
    where f.listed or f.problems is not null
    order by f.rank, f.place, f.tenant_column
$$;

alter function public.multigres_status() owner to current_user;
revoke all on function public.multigres_status() from public;


-- Policies as an older version made them: they hold, but would run the function for every row,
-- take citext that differs in case for the same, or ask for each of several contexts twice.
do $$
declare
    old record;
begin
    for old in
        select d.relation, d.column_name, d.variable, d.memory,
            pg_has_role(c.relowner, 'usage') as owned
        from public.multigres_dimensions() as d
        join pg_class as c on c.oid = d.relation
        left join pg_policy as p on p.polrelid = d.relation and p.polname = d.policy
            and starts_with(
                public.multigres_predicate(d.relation, d.column_name, d.variable),
                '(' || pg_get_expr(p.polqual, p.polrelid) || ' AND ')
            and pg_get_expr(p.polwithcheck, p.polrelid) = pg_get_expr(p.polqual, p.polrelid)
            and not p.polpermissive and p.polcmd = '*' and p.polroles = '{0}'
        where not d.intact and (d.memory is null or p.oid is not null)
            and d.column_name is not null and d.variable is not null
    loop
        if old.owned then
            perform public.multigres_isolate(old.relation, old.column_name, old.variable,
                old.memory);
        else
            raise notice '% has policies of an older version: % does not own it',
                old.relation, current_user
                using hint = 'Let its owner call multigres_protect() once more.';
        end if;
    end loop;

    perform public.multigres_admit(access.polrelid::regclass)
    from pg_policy as access
    join pg_class as c on c.oid = access.polrelid
    where access.polname = 'multigres_access' and pg_has_role(c.relowner, 'usage')
        and pg_get_expr(access.polqual, access.polrelid) = (
            select '(' || string_agg(pg_get_expr(p.polqual, p.polrelid), ' AND '
                order by p.polname) || ')'
            from public.multigres_dimensions(access.polrelid) as d
            join pg_policy as p on p.polrelid = d.relation and p.polname = d.policy
            having count(*) > 1);

    perform public.multigres_record(unknown.relation)
    from (
        select distinct d.relation from public.multigres_dimensions() as d
        where d.memory -> 'dimensions' -> d.policy::text is null
    ) as unknown
    join pg_class as c on c.oid = unknown.relation
    where pg_has_role(c.relowner, 'usage');
end
$$;


\ir check.sql
\ir harden.sql

commit;
