-- Adds a key, which counts from now on.
create or replace function multigres.add_key(key_hex text, bind text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    key bytea;
    new_inner_pad bytea := decode(repeat('36', 64), 'hex');
    new_outer_pad bytea := decode(repeat('5c', 64), 'hex');
    byte int;
    reached text;
begin
    if coalesce(key_hex, '') = '' then
        raise exception 'no seal key was given'
            using errcode = 'invalid_parameter_value',
                hint = 'Start psql with PGOPTIONS="-c multigres.seal_key=$(cat seal.key)"; sudo '
                    'drops PGOPTIONS unless it is told to keep it.';
    end if;
    if (key_hex ~ '^[0-9A-Fa-f]{64}$') is not true then
        raise exception 'a seal key must be 64 hexadecimal digits'
            using errcode = 'invalid_parameter_value',
                hint = 'multigres seal-key prints a new one. Give it in the setting '
                    'multigres.seal_key.';
    end if;
    if (bind in ('address', 'none')) is not true then
        raise exception 'a seal must be bound to ''address'' or to ''none'''
            using errcode = 'invalid_parameter_value',
                hint = 'Use the value of seal_bind in the settings of Multigres.';
    end if;
    key := decode(key_hex, 'hex');
    for i in 0..31 loop
        byte := get_byte(key, i);
        new_inner_pad := set_byte(new_inner_pad, i, byte # 54);
        new_outer_pad := set_byte(new_outer_pad, i, byte # 92);
    end loop;

    perform pg_advisory_xact_lock(hashtextextended('multigres setup.sql', 0));
    perform multigres.make_keys();
    perform multigres.forget_context();
    perform multigres.define_context();
    perform multigres.remember_context();
    reached := multigres.keys_reached();
    if reached is not null then
        raise exception '% could read or change the seal keys', reached
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Revoke the privilege or the membership that allows it.';
    end if;

    -- The older of two makes room; a key that is there already does not drive out the other.
    delete from multigres.seal_keys as k
    where not exists (
            select from multigres.seal_keys as same
            where same.inner_pad = new_inner_pad)
        and k.number <> (select max(newest.number) from multigres.seal_keys as newest);
    insert into multigres.seal_keys as k (number, inner_pad, outer_pad, bind)
    select coalesce(max(newest.number), 0) + 1, new_inner_pad, new_outer_pad, add_key.bind
    from multigres.seal_keys as newest
    on conflict on constraint seal_keys_once do update set bind = excluded.bind;
    perform multigres.renew_policies();
end
$$;

revoke all on function multigres.add_key(text, text) from public;


-- Seals the context: from now on a variable counts only with a seal beside it, in the setting
-- `<variable>_seal`, that Multigres made with this key (seal_key_file) for this login: for its
-- database, its role and, where bind is 'address', for the address and port that it comes from.
-- `multigres seal-key` prints a key: 64 hexadecimal digits.
--
--     PGOPTIONS="-c multigres.seal_key=$(cat seal.key)" psql -d DB -c 'select multigres_seal()'
--
-- The key is taken from that setting, so that no statement contains it: PostgreSQL writes a
-- statement that fails into its log. A driver may pass it as a bound parameter, which log_statement
-- and log_min_duration_statement log. If the statement does contain it, this function keeps that
-- out of the log if it may (superusers); for others a failure is reported as INFO, and not as
-- ERROR. A failure before it runs is logged.
--
-- Two keys are good at a time. To change the key: call this with the new one, give it to
-- Multigres, and when all sessions of the old one have ended, call multigres_unseal() and this
-- again, or leave the old one until the next change drives it out.
--
-- The owner of this function reads the keys, and so does anybody who reads a dump of the database.
create or replace function public.multigres_seal(
    key_hex text default null, bind text default 'address')
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    key text := lower(coalesce(key_hex, current_setting('multigres.seal_key', true), ''));
    is_hidden boolean := true;
begin
    if key = '' or strpos(lower(current_query()), key) = 0 then
        perform multigres.add_key(key, bind);
    else
        -- Until the transaction ends: what follows in the same string would be logged with it.
        begin
            perform set_config('log_min_error_statement', 'panic', true);
            -- A block that calls this would be in the CONTEXT of the error.
            perform set_config('log_error_verbosity', 'terse', true);
        exception when insufficient_privilege then
            is_hidden := false;
        end;
        if is_hidden then
            perform multigres.add_key(key, bind);
        else
            begin
                perform multigres.add_key(key, bind);
            exception when others or query_canceled then
                -- What every client is told, and what is not logged.
                raise info 'NOT SEALED: the database does not accept the key: %', sqlerrm
                    using hint = 'This is not raised as an error, because PostgreSQL would log the '
                        'statement with the key in it. Give the key in the setting '
                        'multigres.seal_key: '
                        'PGOPTIONS="-c multigres.seal_key=$(cat seal.key)" psql ...';
            end;
        end if;
    end if;
    if key_hex is null then
        perform set_config('multigres.seal_key', '', false);
    end if;
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
    if to_regclass('multigres.seal_keys') is null then
        return;
    end if;
    perform multigres.forget_context();
    -- The view first needs to go; the functions that read it are made anew.
    perform multigres.define_plain();
    drop table multigres.seal_keys;
    perform multigres.define_context();
    perform multigres.remember_context();
    perform multigres.renew_policies();
end
$$;

alter function public.multigres_unseal() owner to current_user;
revoke all on function public.multigres_unseal() from public;
