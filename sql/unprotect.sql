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
            and multigres.is_context_default(pg_get_expr(f.adbin, f.adrelid)))
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
