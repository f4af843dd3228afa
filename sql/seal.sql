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
    perform multigres.forget_context();
    perform public.multigres_define_context();
    perform multigres.remember_context();
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
    if to_regclass('public.multigres_seal_keys') is not null then
        drop table public.multigres_seal_keys;
    end if;
    perform multigres.forget_context();
    perform public.multigres_define_context();
    perform multigres.remember_context();
    perform multigres.renew_policies();
end
$$;

alter function public.multigres_unseal() owner to current_user;
revoke all on function public.multigres_unseal() from public;
