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
    reached text;
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
    perform multigres.make_keys();
    perform multigres.forget_context();
    perform public.multigres_define_context();
    perform multigres.remember_context();
    reached := multigres.keys_reached();
    if reached is not null then
        raise exception '% would reach the seal keys', reached
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Revoke that, or take the role out of those that let it read or write '
                    'multigres.seal_keys.';
    end if;

    -- The older of two makes room; a key that is there already does not drive out the other.
    delete from multigres.seal_keys as k
    where not exists (
            select from multigres.seal_keys as same
            where same.inner_pad = new_inner_pad)
        and k.number <> (select max(newest.number) from multigres.seal_keys as newest);
    insert into multigres.seal_keys as k (number, inner_pad, outer_pad, bind)
    select coalesce(max(newest.number), 0) + 1, new_inner_pad, new_outer_pad, multigres_seal.bind
    from multigres.seal_keys as newest
    on conflict on constraint seal_keys_once do update set bind = excluded.bind;
    perform multigres.renew_policies();
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
    perform public.multigres_define_context();
    perform multigres.remember_context();
    perform multigres.renew_policies();
end
$$;

alter function public.multigres_unseal() owner to current_user;
revoke all on function public.multigres_unseal() from public;
