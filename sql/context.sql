-- Defines the functions that say what the context is, in one of two forms: sealed where
-- multigres_seal() has stored a key, and plain otherwise. Of the tenant (app.current_tenant_id)
-- current_tenant_id() answers the name, and multigres_own() {"<name>": {}}, which a policy can
-- subscript; of any variable multigres_context(variable) and multigres_own(variable) do.
--
-- They answer NULL when there is no context. A variable that was set once and then reset is ''
-- and not NULL: both are no tenant, and NULL equals no row's tenant column.


-- PostgreSQL lets a session SET such a variable. Multigres binds it so that nobody forgets to; a
-- session that runs SQL of an attacker's choice can set another one, until multigres_seal() ends
-- that.
--
-- No SET search_path in any of them: a function that has one is not inlined. Every name is
-- qualified and every type exact instead, so that no object of another role fits better.
create or replace function multigres.define_plain() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $define$
begin
    create or replace function public.multigres_context(variable text) returns text
    language sql stable parallel safe
    as $context$
        select case
            when pg_catalog.current_setting(variable, true) operator(pg_catalog.<>) ''
            then pg_catalog.current_setting(variable, true)
        end
    $context$;

    create or replace function public.multigres_own(variable text) returns jsonb
    language sql stable parallel safe
    as $context$
        select case
            when pg_catalog.current_setting(variable, true) operator(pg_catalog.<>) ''
            then pg_catalog.jsonb_build_object(
                pg_catalog.current_setting(variable, true), '{}'::pg_catalog.jsonb)
        end
    $context$;

    -- It does not call those two: they would be inlined, and parsed, once more per query.
    create or replace function public.current_tenant_id() returns text
    language sql stable parallel safe
    as $context$
        select case
            when pg_catalog.current_setting('app.current_tenant_id', true)
                operator(pg_catalog.<>) ''
            then pg_catalog.current_setting('app.current_tenant_id', true)
        end
    $context$;

    create or replace function public.multigres_own() returns jsonb
    language sql stable parallel safe
    as $context$
        select case
            when pg_catalog.current_setting('app.current_tenant_id', true)
                operator(pg_catalog.<>) ''
            then pg_catalog.jsonb_build_object(
                pg_catalog.current_setting('app.current_tenant_id', true),
                '{}'::pg_catalog.jsonb)
        end
    $context$;

    if to_regclass('multigres.sealed') is not null then
        drop view multigres.sealed;
        drop function multigres.context_1(text);
    end if;
end
$define$;


-- The value, if the seal beside it is an HMAC-SHA256 of it by one of the keys: see
-- multigres_seal().
--
-- The seal covers version, how the key is bound, variable, value, database and role, each with
-- \x01 behind it, which Multigres accepts in none of them, and where the key is bound to
-- 'address' the client's address and port. A name is taken as it is stored: convert_to() to
-- SQL_ASCII changes no byte. concat_ws() leaves out NULL, so address and port stand outside it:
-- where one is missing, all is. Where the value is missing, so is the answer.
--
-- The keys are never variables of a function: PostgreSQL would plan with their values, and a
-- session may have its plans printed (debug_print_plan). Both sides are hashed once more, so that
-- the time of a comparison tells nothing about the right seal. They are compared as hexadecimal
-- digits: anything else is never decoded, and raises no error.
--
-- Every query pays for this, and most of it is the number of functions that the executor makes
-- ready. The tenant's is a view: its names are bound when it is made, so that nothing a caller
-- plants can take the place of one. PL/pgSQL keeps the plan for the session. The functions have
-- no SET search_path, which costs a fifth more (measured on PostgreSQL 15): the caller's is
-- harmless as long as every name and operator() is qualified and nothing here (CASE x WHEN, IN,
-- NULLIF, IS DISTINCT FROM) looks for an operator of its own. A view cannot know the variable of
-- multigres_context(), which has the same condition written out.
--
-- Parallel workers have no client, and so no address.
create or replace function multigres.define_sealed() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $define$
declare
    sealed constant text := $view$
        select nullif(current_setting('app.current_tenant_id', true), '') as value
        from multigres.seal_keys as k
        where sha256(convert_to(encode(sha256(k.outer_pad || sha256(k.inner_pad
                || convert_to(concat_ws(chr(1), 'multigres-seal-2', k.bind,
                        'app.current_tenant_id', current_setting('app.current_tenant_id', true),
                        current_database(), session_user, ''), 'SQL_ASCII')
                || case k.bind when 'none' then ''::bytea when 'address'
                    then inet_send(inet_client_addr()) || int4send(inet_client_port())
                end)), 'hex'), 'SQL_ASCII'))
            = sha256(convert_to(current_setting('app.current_tenant_id_seal', true), 'SQL_ASCII'))
    $view$;
begin
    -- Not replaced by what it is already, see multigres.take().
    execute 'create view multigres.sealed_now with (security_barrier) as ' || sealed;
    if (
        select pg_get_viewdef(c.oid) = pg_get_viewdef('multigres.sealed_now'::regclass)
            and c.reloptions = '{security_barrier=true}'
        from pg_class as c where c.oid = to_regclass('multigres.sealed')) is not true
    then
        execute 'create or replace view multigres.sealed with (security_barrier) as ' || sealed;
    end if;
    drop view multigres.sealed_now;
    perform multigres.take('multigres.sealed');
    perform multigres.withhold('multigres.sealed');

    create or replace function public.current_tenant_id() returns text
    language plpgsql stable parallel restricted security definer
    as $context$
    declare
        value pg_catalog.text;
    begin
        select s.value into value from multigres.sealed as s;
        if value is null then
            return multigres.context_1('app.current_tenant_id'::pg_catalog.text);
        end if;
        return value;
    end
    $context$;

    create or replace function public.multigres_own() returns jsonb
    language plpgsql stable parallel restricted security definer
    as $context$
    declare
        own pg_catalog.jsonb;
    begin
        select pg_catalog.jsonb_build_object(s.value, '{}'::pg_catalog.jsonb) into own
        from multigres.sealed as s where s.value is not null;
        if own is null then
            select pg_catalog.jsonb_build_object(s.value, '{}'::pg_catalog.jsonb) into own
            from multigres.context_1('app.current_tenant_id'::pg_catalog.text) as s(value)
            where s.value is not null;
        end if;
        return own;
    end
    $context$;

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
        from multigres.seal_keys as k
        where pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.encode(
                pg_catalog.sha256(k.outer_pad operator(pg_catalog.||)
                    pg_catalog.sha256(k.inner_pad operator(pg_catalog.||)
                        pg_catalog.convert_to(pg_catalog.concat_ws(pg_catalog.chr(1),
                            'multigres-seal-2', k.bind,
                            pg_catalog.lower(variable collate pg_catalog."C"),
                            pg_catalog.current_setting(variable, true),
                            pg_catalog.current_database(), session_user, ''), 'SQL_ASCII')
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
        if value is null then
            return multigres.context_1(variable);
        end if;
        return value;
    end
    $context$;

    create or replace function public.multigres_own(variable text) returns jsonb
    language plpgsql stable parallel restricted
    as $context$
    declare
        value pg_catalog.text := public.multigres_context(variable);
    begin
        if value is null then
            return null;
        end if;
        return pg_catalog.jsonb_build_object(value, '{}'::pg_catalog.jsonb);
    end
    $context$;
end
$define$;


-- Seals of version 1, which an older Multigres makes: setup.sql is run before its successor is
-- started. Called with the rights of the owner of the keys alone, by the functions above.
create or replace function multigres.define_version_1() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $define$
begin
    create or replace function multigres.context_1(variable text) returns text
    language plpgsql stable parallel restricted
    as $context$
    declare
        value pg_catalog.text;
    begin
        select case
                when pg_catalog.current_setting(variable, true) operator(pg_catalog.<>) ''
                then pg_catalog.current_setting(variable, true)
            end
        into value
        from multigres.seal_keys as k
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

    alter function multigres.context_1(text) owner to current_user;
    revoke all on function multigres.context_1(text) from public;
end
$define$;


create or replace function multigres.define_context() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    keys regclass := to_regclass('multigres.seal_keys');
begin
    -- Somebody who knows the keys in it may have created a table of that name.
    if keys is not null and exists (
        select from pg_class as c join pg_roles as r on r.oid = c.relowner
        where c.oid = keys and (c.relkind <> 'r' or r.rolname <> current_user and not r.rolsuper))
    then
        raise exception '% belongs to another role', keys
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Run this as its owner, or drop it if multigres_seal() did not create it.';
    end if;
    if keys is null then
        perform multigres.define_plain();
    else
        perform multigres.take(keys);
        perform multigres.define_version_1();
        perform multigres.define_sealed();
    end if;
    alter function public.multigres_context(text) owner to current_user;
    alter function public.multigres_own(text) owner to current_user;
    alter function public.current_tenant_id() owner to current_user;
    alter function public.multigres_own() owner to current_user;
    grant execute on function public.multigres_context(text), public.multigres_own(text),
        public.current_tenant_id(), public.multigres_own() to public;
end
$$;

alter function multigres.define_context() owner to current_user;
revoke all on function multigres.define_context(), multigres.define_plain(),
    multigres.define_sealed(), multigres.define_version_1() from public;

do $$
begin
    perform multigres.define_context();
end
$$;
