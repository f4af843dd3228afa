-- Changes the column of a table that is protected, apart from the policies; returns what
-- multigres_unprotect() must undo. `remembered` is the answer of an earlier call.
create or replace function multigres.prepare(
    table_name regclass, column_name name, variable text, remembered jsonb)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
declare
    tenant record;
    memory jsonb := coalesce(remembered, '{}');
begin
    select c.relkind, a.attidentity, a.attgenerated, a.atthasdef, t.typdefault,
        pg_get_expr(f.adbin, f.adrelid) as column_default
    into tenant
    from pg_attribute as a
    join pg_class as c on c.oid = a.attrelid
    join pg_type as t on t.oid = a.atttypid
    left join pg_attrdef as f on f.adrelid = a.attrelid and f.adnum = a.attnum
    where a.attrelid = table_name and a.attname = column_name;

    if memory ->> 'default' = 'true' and multigres.is_context_default(tenant.column_default)
        or not tenant.atthasdef and tenant.typdefault is null
            and tenant.attidentity = '' and tenant.attgenerated = ''
    then
        perform multigres.set_default(table_name, column_name, variable);
        memory := memory || '{"default": true}';
    end if;

    -- An index on a partitioned table would take those of its partitions for its own, and take
    -- them along when it is dropped.
    if not exists (
        select from multigres.family(table_name) as f
        join pg_index as i on i.indrelid = f
        join pg_class as c on c.oid = i.indexrelid
        join pg_am as m on m.oid = c.relam
        join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
        where (f = table_name or tenant.relkind = 'p') and a.attname = column_name
            and i.indisvalid and i.indpred is null and m.amname = 'btree')
    then
        perform multigres.make_index(table_name, column_name);
    end if;
    return memory;
end
$$;

alter function multigres.prepare(regclass, name, text, jsonb) owner to current_user;
revoke all on function multigres.prepare(regclass, name, text, jsonb) from public;


-- Whether the default of a column is one that multigres_protect() makes, or made once.
create or replace function multigres.is_context_default(expression text) returns boolean
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return expression ~ ('^[(]*(public[.](current_tenant_id|multigres_context)[(]'
        '|NULLIF[(]current_setting[(]''[a-z0-9_.$]+''::text, true[)], ''''::text[)])');
end
$$;


-- Makes the context the default of a column. Not by the context functions, which would verify a
-- seal for each row: WITH CHECK verifies it, once per statement.
create or replace function multigres.set_default(
    table_name regclass, column_name name, variable text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    execute format('alter table only %s alter column %I set default '
            '(nullif(current_setting(%L, true), ''''))::%s',
        table_name, column_name, variable, (
            select format_type(case when t.typtype = 'd' then t.typbasetype else t.oid end, null)
            from pg_attribute as a join pg_type as t on t.oid = a.atttypid
            where a.attrelid = table_name and a.attname = set_default.column_name));
end
$$;


-- The name of our index on a column: multigres_TABLE_COLUMN, so that a schema tool can declare it;
-- with a hash in it where that is too long, and a number where another relation has it.
create or replace function multigres.index_name(table_name regclass, column_name name)
returns name
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    base text;
    candidate text;
    schema oid;
    number int := 1;
begin
    select format('multigres_%s_%s', c.relname, column_name), c.relnamespace into base, schema
    from pg_class as c where c.oid = table_name;
    if octet_length(base) > 60 then
        base := 'multigres_' || md5(base);
    end if;
    candidate := base;
    while exists (
        select from pg_class as c where c.relnamespace = schema and c.relname = candidate)
    loop
        number := number + 1;
        candidate := base || number;
    end loop;
    return candidate;
end
$$;


create or replace function multigres.make_index(table_name regclass, column_name name)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    made name := multigres.index_name(table_name, column_name);
begin
    execute format('create index %I on %s (%I)', made, table_name, column_name);
    execute format('comment on index %I.%I is %L',
        (select n.nspname from pg_class as c join pg_namespace as n
            on n.oid = c.relnamespace where c.oid = table_name),
        made, 'made by multigres_protect()');
end
$$;

revoke all on function multigres.is_context_default(text),
    multigres.set_default(regclass, name, text), multigres.index_name(regclass, name),
    multigres.make_index(regclass, name) from public;


-- Refuses a table or column in which policies cannot hold tenants apart.
create or replace function multigres.check_protectable(table_name regclass, column_name name)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    parent record;
    part regclass;
begin
    select c.relkind, c.relowner into parent from pg_class as c where c.oid = table_name;
    if parent.relkind is null or parent.relkind not in ('r', 'p') then
        raise exception '% is not a table: row-level security cannot protect it', table_name
            using errcode = 'wrong_object_type',
                hint = case parent.relkind
                    when 'v' then 'Protect the tables that it reads, and give it an owner without '
                        'SUPERUSER and BYPASSRLS.'
                    when 'm' then 'A materialized view copies the rows of all tenants: grant '
                        'app_user nothing on it.'
                    when 'f' then 'Protect the table that holds its rows, and grant app_user '
                        'nothing on the foreign table.'
                    else 'Name an ordinary or a partitioned table.'
                end;
    end if;
    if (select c.relpersistence from pg_class as c where c.oid = table_name) = 't' then
        raise exception '% is a temporary table, which no other session reads', table_name
            using errcode = 'wrong_object_type';
    end if;
    execute format('lock table %s in access exclusive mode', table_name);

    if not exists (
        select from pg_attribute as a
        where a.attrelid = table_name and a.attname = column_name
            and a.attnum > 0 and not a.attisdropped)
    then
        raise exception 'column "%" of % does not exist', column_name, table_name
            using errcode = 'undefined_column',
                hint = 'Give the column that holds the tenant as the second argument.';
    end if;
    if exists (select from pg_inherits as i where i.inhrelid = table_name) then
        raise exception '% is a part of another table, which would show its rows', table_name
            using errcode = 'wrong_object_type',
                hint = 'Protect that table: its partitions and child tables are protected with it.';
    end if;
    for part in
        select f from multigres.family(table_name) as f
        join pg_class as c on c.oid = f where c.relkind not in ('r', 'p')
    loop
        raise exception '% is a part of %, and row-level security cannot protect it',
            part, table_name
            using errcode = 'wrong_object_type',
                hint = 'Keep foreign tables out of it: ALTER TABLE ... DETACH PARTITION ..., or '
                    'ALTER FOREIGN TABLE ... NO INHERIT ...';
    end loop;
    if pg_has_role('app_user', parent.relowner, 'member') then
        raise exception 'app_user owns %, and an owner can disable row-level security',
            table_name
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Give the table to a role that app_user is not a member of: ALTER TABLE '
                    '... OWNER TO ...';
    end if;
    if exists (
        select from pg_attribute as a
        where a.attrelid = table_name and a.attname = column_name and a.attgenerated = 'v')
    then
        raise exception 'column "%" of % is virtual, and cannot be indexed or constrained',
            column_name, table_name
            using errcode = 'wrong_object_type',
                hint = 'Make it a stored generated column, or an ordinary one.';
    end if;
    if multigres.comparisons(table_name, column_name, '') = '{}' then
        raise exception 'column "%" of % cannot hold tenants', column_name, table_name
            using errcode = 'datatype_mismatch',
                detail = 'A tenant column is of type text, varchar, citext, uuid, smallint, '
                    'integer or bigint, or a domain over one of them, with a deterministic '
                    'collation.';
    end if;
end
$$;


-- Grants app_user what it lacks on a table that is protected for the first time; answers what
-- that was.
create or replace function multigres.grant_access(table_name regclass) returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    schema name := (
        select n.nspname from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
        where c.oid = table_name);
    granted text[] := '{}';
    sequences text[] := '{}';
    privilege text;
    sequence regclass;
begin
    if not has_schema_privilege('app_user', schema, 'usage') then
        execute format('grant usage on schema %I to app_user', schema);
    end if;
    foreach privilege in array array['select', 'insert', 'update', 'delete'] loop
        if not has_table_privilege('app_user', table_name, privilege) then
            execute format('grant %s on %s to app_user', privilege, table_name);
            granted := granted || privilege;
        end if;
    end loop;
    for sequence in select multigres.sequences(table_name) loop
        if not has_sequence_privilege('app_user', sequence, 'usage') then
            execute format('grant usage on sequence %s to app_user', sequence);
            sequences := sequences || sequence::text;
        end if;
    end loop;
    return jsonb_build_object('granted', granted, 'sequences', sequences);
end
$$;


-- Makes the tenant column NOT NULL in a table and its family, where their rows allow it; answers
-- those that were not.
create or replace function multigres.forbid_null(
    table_name regclass, column_name name, say boolean)
returns regclass[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    part regclass;
    nullable regclass[] := array(
        select f from multigres.family(table_name) as f
        join pg_attribute as a on a.attrelid = f and a.attname = column_name
        where not a.attnotnull);
begin
    foreach part in array nullable loop
        execute format('alter table %s alter column %I set not null', part, column_name);
    end loop;
    return nullable;
exception when not_null_violation then
    if say then
        raise notice '% has rows without a tenant, so % may still be NULL', table_name, column_name
            using hint = 'No tenant sees them. Give them a tenant and call multigres_protect() '
                'again.';
    end if;
    return '{}';
end
$$;


-- Writes one table and one dimension of it into the record. What concerns the whole table is
-- remembered when it comes first.
create or replace function multigres.note(
    table_name regclass, column_name name, variable text, table_undo jsonb, undo jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    old record;
begin
    if not exists (select from multigres.tables as t where t.relation = table_name) then
        insert into multigres.tables as t (relation, undo)
        select c.oid, table_undo || jsonb_build_object(
            'enabled', c.relrowsecurity, 'forced', c.relforcerowsecurity,
            'policies', array(select p.polname from pg_policy as p where p.polrelid = c.oid),
            'revoked', array(
                select distinct lower(a.privilege_type) from aclexplode(c.relacl) as a
                where a.grantee = 'app_user'::regrole
                    and a.privilege_type in ('TRUNCATE', 'REFERENCES', 'TRIGGER')))
        from pg_class as c where c.oid = table_name;
    end if;
    select p.place, p.variable, p.column_name into old
    from multigres.parts(table_name) as p
    where p.recorded and (p.column_name = note.column_name or p.variable = note.variable)
    order by p.column_name = note.column_name desc limit 1;
    if found then
        delete from multigres.dimensions as d
        where d.relation = table_name and d.variable in (old.variable, note.variable);
    end if;
    insert into multigres.dimensions as d
        (relation, place, column_name, column_number, variable, kind, undo)
    select table_name, coalesce(old.place, (
            select max(d.place) + 1 from multigres.dimensions as d where d.relation = table_name),
            1), a.attname, a.attnum, note.variable, k.kind, note.undo
    from pg_attribute as a
    cross join multigres.kind(table_name, note.column_name) as k
    where a.attrelid = table_name and a.attname = note.column_name;
end
$$;

revoke all on function multigres.check_protectable(regclass, name),
    multigres.grant_access(regclass), multigres.forbid_null(regclass, name, boolean),
    multigres.note(regclass, name, text, jsonb, jsonb) from public;


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
    part regclass;
    family regclass[];
    first_time boolean;
    undo jsonb;
    nullable regclass[];
    inherited jsonb;
begin
    if table_name is null or column_name is null or variable is null then
        raise exception 'multigres_protect needs the name of a table and of its tenant column'
            using errcode = 'null_value_not_allowed';
    end if;
    variable := lower(variable collate "C");
    if variable !~ '^[a-z_][a-z0-9_$]*([.][a-z_][a-z0-9_$]*)+$' then
        raise exception '"%" is not a valid name of a context variable', variable
            using errcode = 'invalid_parameter_value',
                hint = 'Give one of context_variables in the settings of Multigres, for example '
                    'app.current_user_id.';
    end if;
    perform multigres.check_protectable(table_name, column_name);
    family := array(select multigres.family(table_name));
    foreach part in array family loop
        perform multigres.suspend(part);
        perform multigres.adopt(part);
    end loop;
    if exists (
        select from multigres.parts(table_name) as p
        where p.variable = multigres_protect.variable
            and p.column_name <> multigres_protect.column_name and p.column_number is not null)
    then
        raise exception 'another column of % is compared with %', table_name, variable
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Give the variable of this column as the third argument. To move the '
                    'tenant to this column, first call multigres_unprotect() for the other one.';
    end if;

    first_time := not exists (select from multigres.tables as t where t.relation = table_name);
    nullable := multigres.forbid_null(table_name, column_name, first_time);
    undo := case when first_time then multigres.grant_access(table_name) else '{}' end;
    -- A partition that came since has the default and the NOT NULL of its table.
    inherited := (
        select p.undo from multigres.parts(table_name) as p
        where p.recorded and p.column_name = multigres_protect.column_name);
    foreach part in array family loop
        perform multigres.note(part, column_name, variable,
            case when part = table_name then undo else '{}' end,
            multigres.prepare(part, column_name, variable,
                coalesce(
                    (
                        select p.undo from multigres.parts(part) as p
                        where p.recorded and p.column_name = multigres_protect.column_name
                    ), inherited, '{}')
                || case when part = any (nullable) then '{"not_null": true}' else '{}' end::jsonb));
        perform multigres.isolate(part);
    end loop;
    foreach part in array family loop
        perform multigres.remember(part);
    end loop;
    perform multigres.warn_of_owned();
end
$$;

alter function public.multigres_protect(regclass, name, text) owner to current_user;
revoke all on function public.multigres_protect(regclass, name, text) from public;
