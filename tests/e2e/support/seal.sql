-- What a sealed database needs: multigres_context(), plain until multigres_seal() stores a key.
create function public.multigres_context(variable text) returns text
language sql stable parallel safe
as $$ select nullif(current_setting(variable, true), '') $$;

create function public.current_tenant_id() returns text
language sql stable parallel restricted
as $$ select public.multigres_context('app.current_tenant_id') $$;

create function public.multigres_seal_part(part bytea) returns bytea
language sql immutable strict
as $$ select int4send(octet_length(part)) || part $$;

create function public.multigres_seal_pad(key bytea, pad int) returns bytea
language plpgsql immutable strict as $$
declare
    padded bytea := decode(repeat(lpad(to_hex(pad), 2, '0'), 64), 'hex');
begin
    for at in 0..octet_length(key) - 1 loop
        padded := set_byte(padded, at, get_byte(key, at) # pad);
    end loop;
    return padded;
end $$;

create function public.multigres_seal(key_hex text, bind text default 'address') returns void
language plpgsql as $seal$
begin
    create table if not exists public.multigres_seal_keys (
        id int generated always as identity,
        inner_pad bytea not null, outer_pad bytea not null,
        bind text not null, added timestamptz not null default now());
    delete from public.multigres_seal_keys where id not in (
        select id from public.multigres_seal_keys order by id desc limit 1);
    insert into public.multigres_seal_keys (inner_pad, outer_pad, bind) values (
        public.multigres_seal_pad(decode(key_hex, 'hex'), 54),
        public.multigres_seal_pad(decode(key_hex, 'hex'), 92), bind);
    create or replace function public.multigres_context(variable text) returns text
    language plpgsql stable parallel restricted
    security definer set search_path = pg_catalog, pg_temp as $$
    declare
        value text := nullif(current_setting(variable, true), '');
        given text := current_setting(variable || '_seal', true);
        key record;
        message bytea;
        expected text;
    begin
        for key in select * from public.multigres_seal_keys loop
            message := public.multigres_seal_part('multigres-seal-1')
                || public.multigres_seal_part(convert_to(lower(variable), 'UTF8'))
                || public.multigres_seal_part(convert_to(value, 'UTF8'))
                || public.multigres_seal_part(convert_to(current_database(), 'UTF8'))
                || public.multigres_seal_part(convert_to(session_user, 'UTF8'))
                || case when key.bind = 'none' then '\x0000000000000000'::bytea
                else public.multigres_seal_part(inet_send(inet_client_addr()))
                    || public.multigres_seal_part(convert_to(inet_client_port()::text, 'UTF8'))
                end;
            expected := encode(sha256(key.outer_pad || sha256(key.inner_pad || message)), 'hex');
            if sha256(convert_to(expected, 'UTF8')) = sha256(convert_to(given, 'UTF8')) then
                return value;
            end if;
        end loop;
        return null;
    end $$;
end $seal$;
