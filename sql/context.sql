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

    -- The verified value as the key of an object, for the policies of a sealed database.
    create or replace function public.multigres_own(variable text) returns jsonb
    language plpgsql stable parallel restricted
    as $context$
    declare
        value pg_catalog.text := public.multigres_context(variable);
    begin
        return case when value is null then '{}'::pg_catalog.jsonb
            else pg_catalog.jsonb_build_object(value, '{}'::pg_catalog.jsonb) end;
    end
    $context$;

    create or replace function public.multigres_own() returns jsonb
    language plpgsql stable parallel restricted
    as $context$
    begin
        return public.multigres_own('app.current_tenant_id'::pg_catalog.text);
    end
    $context$;

    alter function public.multigres_own(text) owner to current_user;
    alter function public.multigres_own() owner to current_user;
    alter function public.multigres_context(text) owner to current_user;
    alter function public.current_tenant_id() owner to current_user;
    grant execute on function public.multigres_context(text), public.current_tenant_id(),
        public.multigres_own(text), public.multigres_own()
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
