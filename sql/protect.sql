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
    perform multigres.warn_of_owned();
end
$$;

alter function public.multigres_protect(regclass, name, text) owner to current_user;
revoke all on function public.multigres_protect(regclass, name, text) from public;
