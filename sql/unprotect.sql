-- Undoes what multigres_protect() did to a table and its family, for one column or for all of
-- them: what it added goes, what was there before stays, and what is not remembered (a table that
-- was restored without its record) stays too. USAGE on the schema remains granted.
create or replace function public.multigres_unprotect(
    table_name regclass, column_name name default null)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    parent regclass;
    family regclass[];
    part regclass;
    dimension record;
begin
    if table_name is null then
        raise exception 'multigres_unprotect needs the name of a table'
            using errcode = 'null_value_not_allowed';
    end if;
    select i.inhparent into parent
    from pg_inherits as i
    where i.inhrelid = table_name
        and exists (select from multigres.isolations(i.inhparent))
    limit 1;
    if parent is not null then
        raise exception '% is a part of %, and protected with it', table_name, parent
            using errcode = 'wrong_object_type',
                hint = 'Unprotect that table, and its partitions and child tables with it.';
    end if;
    execute format('lock table %s in access exclusive mode', table_name);
    family := array(select multigres.family(table_name));
    foreach part in array family loop
        perform multigres.suspend(part);
        perform multigres.adopt(part);
    end loop;

    foreach part in array family loop
        for dimension in
            select * from multigres.parts(part) as p
            where p.recorded and (multigres_unprotect.column_name is null
                or p.column_name = multigres_unprotect.column_name)
        loop
            if dimension.column_number is not null then
                perform multigres.restore_column(part, dimension.column_name,
                    dimension.undo);
            end if;
            delete from multigres.dimensions as d
            where d.relation = part and d.variable = dimension.variable;
        end loop;
        if exists (select from multigres.dimensions as d where d.relation = part) then
            -- Of several columns that are gone, the last call writes the policies.
            if multigres.condition(part, false) is not null then
                perform multigres.isolate(part);
            end if;
        elsif multigres_unprotect.column_name is null
            or exists (select from multigres.tables as t where t.relation = part)
        then
            perform multigres.release(part);
        end if;
    end loop;
    foreach part in array family loop
        if exists (select from multigres.dimensions as d where d.relation = part) then
            perform multigres.remember(part);
        else
            perform multigres.forget(part);
        end if;
    end loop;
end
$$;

alter function public.multigres_unprotect(regclass, name) owner to current_user;
revoke all on function public.multigres_unprotect(regclass, name) from public;


-- Takes the policies off a table that has no dimension left, and gives it back what it was.
create or replace function multigres.release(table_name regclass) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    undo jsonb := (select t.undo from multigres.tables as t where t.relation = table_name);
    policy name;
    dropped boolean := false;
begin
    for policy in
        select p.polname from pg_policy as p
        where p.polrelid = table_name and (p.polname = 'multigres_access'
            or starts_with(p.polname::text, 'multigres_isolation'))
    loop
        execute format('drop policy %I on %s', policy, table_name);
        dropped := true;
    end loop;
    if dropped or undo is not null then
        perform multigres.restore_table(table_name, undo);
    end if;
    delete from multigres.tables as t where t.relation = table_name;
end
$$;

revoke all on function multigres.release(regclass) from public;


create or replace function multigres.restore_column(
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
            select f from multigres.family(table_name) as f
            join pg_attribute as a on a.attrelid = f
            cross join lateral multigres.parts(f) as p
            where a.attname = restore_column.column_name and a.attnotnull
                and p.column_name = a.attname and p.undo -> 'not_null' is null);
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

alter function multigres.restore_column(regclass, name, jsonb) owner to current_user;
revoke all on function multigres.restore_column(regclass, name, jsonb) from public;


-- Row-level security stays on, and forced, under policies that somebody has added since the table
-- was protected: disabled, they would apply to nobody.
create or replace function multigres.restore_table(table_name regclass, memory jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    privilege text;
    sequence regclass;
    others text := (
        select string_agg(quote_ident(p.polname), ', ' order by p.polname)
        from pg_policy as p
        where p.polrelid = table_name
            and not coalesce(memory -> 'policies' ? p.polname::text, false));
begin
    if others is not null
        and not coalesce(memory ->> 'enabled' = 'true' and memory ->> 'forced' = 'true', false)
    then
        raise warning 'row-level security remains enabled on %: policies were added to it',
            table_name
            using detail = format('Not made by multigres_protect(): %s.', others),
                hint = 'Drop them, or use ALTER TABLE ... DISABLE ROW LEVEL SECURITY, NO FORCE ROW '
                    'LEVEL SECURITY if they need not apply.';
    else
        if not coalesce(memory ->> 'enabled' = 'true', false) then
            execute format('alter table %s disable row level security', table_name);
        end if;
        if not coalesce(memory ->> 'forced' = 'true', false) then
            execute format('alter table %s no force row level security', table_name);
        end if;
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
    for sequence in select multigres.sequences(table_name) loop
        if memory -> 'sequences' ? sequence::text then
            execute format('revoke usage on sequence %s from app_user', sequence);
        end if;
    end loop;
end
$$;

alter function multigres.restore_table(regclass, jsonb) owner to current_user;
revoke all on function multigres.restore_table(regclass, jsonb) from public;
