-- What is protected: the record of tables and their dimensions, and the policies that follow from
-- it.
--
-- multigres.tables has a line for each protected table, partition and heir; multigres.dimensions
-- one for each of their dimensions. `undo` is what multigres_unprotect() takes back. Both go into
-- a dump and come out of it by the names of the tables. A table that was restored without its
-- lines is read from its policy, see multigres.parts().
do $$
declare
    made text;
begin
    if to_regclass('multigres.tables') is null then
        create table multigres.tables (
            relation regclass primary key,
            front boolean not null default true,
            undo jsonb not null default '{}');
    end if;
    if to_regclass('multigres.dimensions') is null then
        create table multigres.dimensions (
            relation regclass not null,
            place int not null,
            column_name name not null,
            column_number smallint not null,
            variable text not null,
            kind text not null,
            undo jsonb not null default '{}',
            primary key (relation, variable));
        create index dimensions_kinds on multigres.dimensions (variable, kind);
    end if;
    foreach made in array '{multigres.tables, multigres.dimensions}'::text[] loop
        perform multigres.take(made::regclass);
        perform multigres.withhold(made::regclass);
    end loop;
    -- A number that a dropped table had may be another table's after a restore. Temporary tables
    -- are somebody's own; an older version recorded them.
    delete from multigres.tables as t
    where not exists (
        select from pg_class as c where c.oid = t.relation and c.relpersistence <> 't');
    delete from multigres.dimensions as d
    where not exists (
        select from pg_class as c where c.oid = d.relation and c.relpersistence <> 't');
end
$$;


-- The type of a tenant column beneath its domains, and the schema of citext where it is that. No
-- row where no comparison is safe: a type not in the list, or a collation that takes two tenants'
-- names for one.
--
-- This and what else is asked for each table is PL/pgSQL, which keeps its plans for the session.
-- Before PostgreSQL 18, each statement that calls a function in SQL plans it anew, which took most
-- of the time.
create or replace function multigres.kind(
    table_name regclass, column_name name,
    out kind text, out is_domain boolean, out citext_schema name)
returns setof record
language plpgsql stable rows 1
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
        with recursive types(id, base) as (
            select t.oid, t.typbasetype
            from pg_attribute as a
            join pg_type as t on t.oid = a.atttypid
            left join pg_collation as c on c.oid = a.attcollation
            where a.attrelid = table_name and a.attname = kind.column_name
                and a.attnum > 0 and not a.attisdropped
                and coalesce(c.collisdeterministic, true)
            union all
            select t.oid, t.typbasetype
            from types
            -- OFFSET 0: found by its index, and not in a hash of all types.
            cross join lateral (select * from pg_type where oid = types.base offset 0) as t
        )
        select coalesce(c.name, types.id::regtype::text), (select count(*) from types) > 1,
            c.schema
        from types
        left join lateral (
            select 'citext', n.nspname
            from pg_type as t
            join pg_namespace as n on n.oid = t.typnamespace
            join pg_depend as d on d.classid = 'pg_type'::regclass and d.objid = t.oid
                and d.deptype = 'e' and d.refclassid = 'pg_extension'::regclass
            join pg_extension as e on e.oid = d.refobjid
            where t.oid = types.id and t.typname = 'citext' and e.extname = 'citext'
        ) as c(name, schema) on true
        where types.base = 0
            and (c.name is not null or types.id in ('text'::regtype, 'varchar'::regtype,
                'uuid'::regtype, 'smallint'::regtype, 'integer'::regtype, 'bigint'::regtype));
end
$$;


-- The comparison of a policy for one dimension, written as PostgreSQL prints it, so that
-- multigres.form() can tell a policy that was changed; one text for each condition, none where no
-- comparison is safe.
--
-- The function is in a subquery of its own, the cast with it: both run once per query, and an
-- index on the column remains usable. citext is compared by its own operator, which serves its
-- index, and as text besides, which tells Acme from acme.
create or replace function multigres.comparisons(
    table_name regclass, column_name name, variable text)
returns text[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
declare
    tenant record;
    label text := case variable when 'app.current_tenant_id'
        then 'current_tenant_id' else 'multigres_context' end;
    context text := case variable when 'app.current_tenant_id'
        then 'public.current_tenant_id()'
        else format('public.multigres_context(%L::text)', variable) end;
    value text := format('( SELECT %s AS %s)', context, label);
    bare text := quote_ident(column_name);
begin
    select * into tenant from multigres.kind(table_name, column_name);
    if not found then
        return '{}';
    end if;
    case
        when tenant.kind = 'text' and not tenant.is_domain then
            return array[format('(%s = %s)', bare, value)];
        when tenant.kind in ('text', 'character varying') then
            return array[format('((%s)::text = %s)', bare, value)];
        when tenant.kind = 'citext' then
            return array[
                format('(%s OPERATOR(%I.=) ( SELECT (%s)::%I.citext AS %s))',
                    case when tenant.is_domain
                        then format('(%s)::%I.citext', bare, tenant.citext_schema) else bare end,
                    tenant.citext_schema, context, tenant.citext_schema, label),
                format('((%s)::text = %s)', bare, value)];
        else
            return array[format('(%s = ( SELECT (%s)::%s AS %s))',
                case when tenant.is_domain then format('(%s)::%s', bare, tenant.kind) else bare end,
                context, tenant.kind, label)];
    end case;
end
$$;


-- The condition in front of the comparison, where the database is sealed: it keeps a query's own
-- conditions from other tenants' rows. PostgreSQL runs the conditions of a scan by what they cost,
-- and puts leakproof ones of the query before the comparison; EXPLAIN ANALYZE, or a subquery that
-- runs only when it is needed, then tells of whose rows they held. A subscript costs nothing, so
-- no condition runs before the first one of the policy.
--
-- Where nothing free fits the type (everything in 13, uuid, bigint and smallint before 16), the
-- comparison inside CASE costs half of an operator: conditions that cost nothing still run before
-- it, all others do not.
create or replace function multigres.front(table_name regclass, column_name name, variable text)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
declare
    tenant record;
    version int := current_setting('server_version_num')::int;
    argument text := case variable when 'app.current_tenant_id'
        then '' else format('%L::text', variable) end;
    context text := case variable when 'app.current_tenant_id' then 'current_tenant_id'
        else 'multigres_context' end;
    value text;
    bare text := quote_ident(column_name);
begin
    select * into tenant from multigres.kind(table_name, column_name);
    if tenant.kind in ('text', 'character varying', 'citext', 'integer') and version >= 140000 then
        return format('((( SELECT public.multigres_own(%s) AS multigres_own))[%s] IS NOT NULL)',
            argument, bare);
    end if;
    value := format('public.%s(%s)', context, argument);
    if tenant.kind in ('uuid', 'bigint', 'smallint') and version >= 160000 then
        -- A key must not be NULL. Once more as text: 7 and 007 are one number.
        return format(E'(\nCASE\n    WHEN (%1$s IS NOT NULL) THEN '
            '(JSON_OBJECT(%1$s : NULL::text RETURNING jsonb))'
            '[( SELECT ((%2$s)::%3$s)::text AS %4$s)]\n'
            '    ELSE NULL::jsonb\nEND IS NOT NULL)', bare, value, tenant.kind, context);
    end if;
    if tenant.kind in ('uuid', 'bigint', 'smallint', 'integer') then
        value := format('(%s)::%s', value, tenant.kind);
    end if;
    if tenant.is_domain or tenant.kind in ('character varying', 'citext') then
        bare := format('(%s)::%s', bare, case when tenant.kind in ('character varying', 'citext')
            then 'text' else tenant.kind end);
    end if;
    return format(E'(\nCASE\n    WHEN (%s = ANY (ARRAY[( SELECT %s AS %s)])) THEN true\n'
        '    ELSE NULL::boolean\nEND IS NOT NULL)', bare, value, context);
end
$$;


-- The dimensions of a relation: as recorded, or otherwise as its policy has them. A
-- column that was renamed since is found by its number, which is another one after a restore.
create or replace function multigres.parts(
    table_name regclass, out place int, out column_number smallint, out column_name name,
    out variable text, out recorded boolean, out undo jsonb)
returns setof record
language plpgsql stable rows 1
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
        select d.place, a.attnum, coalesce(a.attname, d.column_name), d.variable, true, d.undo
        from multigres.dimensions as d
        left join lateral (
            select c.attnum, c.attname from pg_attribute as c
            where c.attrelid = d.relation and c.attnum > 0 and not c.attisdropped
                and (c.attname = d.column_name or c.attnum = d.column_number)
            order by c.attname = d.column_name desc limit 1
        ) as a on true
        where d.relation = table_name;
    if found then
        return;
    end if;
    return query
        select p.at, p.attnum, p.attname, p.variable, false, '{}'::jsonb
        from (
            select strpos(e.given, (multigres.comparisons(table_name, a.attname, v.variable))[1])
                as at, a.attnum, a.attname, v.variable
            from pg_policy as p
            cross join lateral (
                select pg_get_expr(p.polwithcheck, p.polrelid) as given offset 0
            ) as e
            join pg_attribute as a on a.attrelid = p.polrelid and a.attnum > 0
            cross join lateral (
                select 'app.current_tenant_id' as variable
                where strpos(e.given, 'public.current_tenant_id()') > 0
                union
                select x[1] from regexp_matches(e.given,
                    'public[.]multigres_context[(]''([a-z0-9_.$]+)''::text[)]', 'g') as x
            ) as v
            where p.polrelid = table_name and p.polname = 'multigres_isolation'
                and exists (
                    select from pg_depend as d
                    where d.classid = 'pg_policy'::regclass and d.objid = p.oid
                        and d.refclassid = 'pg_class'::regclass and d.refobjid = p.polrelid
                        and d.refobjsubid = a.attnum)
        ) as p
        where p.at > 0;
end
$$;


-- The condition that the policies of a table must have; NULL if there is none. WITH CHECK never has
-- the fronts: it runs on the rows that the session itself writes.
create or replace function multigres.condition(table_name regclass, fronted boolean)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    part record;
    piece text[];
    fronts text[] := '{}';
    comparisons text[] := '{}';
begin
    for part in select * from multigres.parts(table_name) as p order by p.place loop
        piece := multigres.comparisons(table_name, part.column_name, part.variable);
        if piece = '{}' then
            return null;
        end if;
        comparisons := comparisons || piece;
        if fronted then
            fronts := fronts
                || multigres.front(table_name, part.column_name, part.variable);
        end if;
    end loop;
    comparisons := fronts || comparisons;
    return case cardinality(comparisons) when 0 then null when 1 then comparisons[1]
        else '(' || array_to_string(comparisons, ' AND ') || ')' end;
end
$$;


create or replace function multigres.sealed() returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return to_regclass('multigres.seal_keys') is not null;
end
$$;


-- The form that the policies of a table ought to have, see multigres.front().
create or replace function multigres.wanted_form(table_name regclass) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return case when multigres.sealed() and coalesce(
            (select t.front from multigres.tables as t where t.relation = table_name), true)
        then 'fronted' else 'plain' end;
end
$$;


-- The form that they have; NULL unless they are word for word what multigres_protect() makes. The
-- permissive one may be absent: that opens nothing.
create or replace function multigres.form(table_name regclass) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
declare
    plain text := multigres.condition(table_name, false);
    isolation record;
    access record;
begin
    select p.*, pg_get_expr(p.polqual, p.polrelid) as qual,
        pg_get_expr(p.polwithcheck, p.polrelid) as given
    into isolation from pg_policy as p
    where p.polrelid = table_name and p.polname = 'multigres_isolation';
    if isolation.polpermissive or isolation.polcmd <> '*' or isolation.polroles <> '{0}'
        or isolation.given is distinct from plain or plain is null
    then
        return null;
    end if;
    select p.*, pg_get_expr(p.polqual, p.polrelid) as qual,
        pg_get_expr(p.polwithcheck, p.polrelid) as given
    into access from pg_policy as p
    where p.polrelid = table_name and p.polname = 'multigres_access';
    if found and (access.polpermissive and access.polcmd = '*' and access.qual = isolation.qual
        and access.given = plain and access.polroles = array[to_regrole('app_user')::oid])
        is not true
    then
        return null;
    end if;
    return case isolation.qual when plain then 'plain'
        when multigres.condition(table_name, true) then 'fronted' end;
end
$$;


-- Whether the policies of a table hold its tenants apart, as they are recorded. Both forms do.
create or replace function multigres.intact(relation oid) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return multigres.form(relation) is not null;
end
$$;


-- Whether a table that has a policy with a name of Multigres is one that Multigres protects.
-- Anybody may make such a policy, word for word, on a table of their own. A table that is not
-- recorded counts only where it belongs to somebody who protects tables: to a superuser, to the
-- owner of the database, of schema multigres or of a recorded table, or to the caller; and never
-- where app_user can switch row-level security off.
create or replace function multigres.counts(table_name regclass) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (select from multigres.dimensions as d where d.relation = table_name)
        or exists (
            select from pg_class as c join pg_roles as r on r.oid = c.relowner
            where c.oid = table_name and c.relpersistence <> 't'
                and pg_has_role(to_regrole('app_user'), c.relowner, 'member') is not true
                and (r.rolsuper or r.rolname = current_user
                    or r.oid in (
                        select b.datdba from pg_database as b
                        where b.datname = current_database()
                        union all
                        select n.nspowner from pg_namespace as n where n.nspname = 'multigres')
                    or exists (
                        select from multigres.dimensions as d
                        join pg_class as known on known.oid = d.relation
                        where known.relowner = c.relowner)));
end
$$;


-- The dimensions of a protected relation, or of all: those that are recorded, and those of a
-- relation that has a policy of Multigres without a record of it, see multigres.counts().
-- `column_name` is NULL where such a policy does not tell it, `column_number` where no column has
-- that name, and `policy` where the policy is gone. Whether all of it is as it should be,
-- multigres.form() tells.
create or replace function multigres.isolations(table_name regclass default null)
returns table (relation regclass, policy oid, column_name name, column_number smallint,
    variable text, undo jsonb)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
        select r.id, q.oid, p.column_name, p.column_number,
            coalesce(p.variable, 'app.current_tenant_id'), p.undo
        from (
            select d.relation as id from multigres.dimensions as d
            where table_name is null or d.relation = table_name
            union
            select p.polrelid::regclass from pg_policy as p
            where (table_name is null or p.polrelid = table_name)
                and starts_with(p.polname::text, 'multigres_isolation')
                and multigres.counts(p.polrelid)
        ) as r
        join pg_class as c on c.oid = r.id
        left join pg_policy as q on q.polrelid = r.id and q.polname = 'multigres_isolation'
        left join lateral multigres.parts(r.id) as p on true
        order by r.id, p.place;
end
$$;


-- A table, then its partitions and all tables that inherit from it, parents first. Mostly it is
-- alone: ROWS lets what is joined to it be found by an index.
create or replace function multigres.family(table_name regclass) returns setof regclass
language plpgsql stable rows 10
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
        with recursive family(id, depth) as (
            select table_name, 0
            union all
            select i.inhrelid::regclass, depth + 1
            from pg_inherits as i join family on i.inhparent = family.id
        )
        select id from family group by id order by max(depth), id;
end
$$;

-- Sequences that a row of the table takes its numbers from.
create or replace function multigres.sequences(table_name regclass)
returns setof regclass
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select d.objid::regclass
    from pg_depend as d join pg_class as c on c.oid = d.objid and c.relkind = 'S'
    where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
        and d.refobjid = table_name and d.deptype in ('a', 'i')
    union
    select d.refobjid::regclass
    from pg_depend as d join pg_class as c on c.oid = d.refobjid and c.relkind = 'S'
    where d.classid = 'pg_attrdef'::regclass and d.refclassid = 'pg_class'::regclass
        and d.objid = any (array(select f.oid from pg_attrdef as f where f.adrelid = table_name))
$$;


-- Takes a table that was restored without its record into it, as its policies have it. Whoever
-- calls this has seen that it counts, or was asked to protect this very table.
create or replace function multigres.adopt(table_name regclass) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (select from multigres.dimensions as d where d.relation = table_name)
        and (select c.relpersistence <> 't' from pg_class as c where c.oid = table_name)
        and multigres.intact(table_name)
    then
        insert into multigres.dimensions (relation, place, column_name, column_number, variable,
            kind)
        select table_name, p.place, p.column_name, p.column_number, p.variable, k.kind
        from multigres.parts(table_name) as p
        cross join multigres.kind(table_name, p.column_name) as k;
        insert into multigres.tables (relation) values (table_name) on conflict do nothing;
    end if;
end
$$;


-- Whether some permissive policy lets app_user, or a role that it is a member of, do this to the
-- rows of a table: 'r', 'a', 'w' or 'd', as pg_policy.polcmd has it.
create or replace function multigres.admits(table_name regclass, command "char")
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from pg_policy as p
        where p.polrelid = table_name and p.polpermissive and p.polcmd in ('*', command)
            and coalesce(case when command = 'a'
                then pg_get_expr(p.polwithcheck, p.polrelid) end,
                pg_get_expr(p.polqual, p.polrelid), 'true') <> 'false'
            and exists (
                select from unnest(p.polroles) as role
                where role = 0 or pg_has_role(to_regrole('app_user'), role, 'usage')));
end
$$;


-- Writes the policies of one table as they are recorded. The restrictive one is the isolation:
-- whatever other policies a table has or gets, a row must satisfy this one too. Restrictive
-- policies alone let nobody in, hence a permissive one for app_user, which says the same:
-- PostgreSQL leaves out a condition that equals another one.
--
-- A table with permissive policies of its own for app_user keeps them instead: they say who sees
-- what inside a tenant, and another one would overrule them.
create or replace function multigres.isolate(table_name regclass) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    condition text := multigres.condition(table_name,
        multigres.wanted_form(table_name) = 'fronted');
    given text := multigres.condition(table_name, false);
    old name;
begin
    if condition is null then
        raise exception 'cannot create the policies of %: a recorded column is missing',
            table_name
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Call multigres_unprotect() with that column.';
    end if;
    for old in
        select p.polname from pg_policy as p
        where p.polrelid = table_name and (p.polname = 'multigres_access'
            or starts_with(p.polname::text, 'multigres_isolation'))
    loop
        execute format('drop policy %I on %s', old, table_name);
    end loop;
    execute format('create policy multigres_isolation on %s as restrictive to public '
        'using (%s) with check (%s)', table_name, condition, given);
    if not exists (
        select from unnest('{r,a,w,d}'::"char"[]) as c where multigres.admits(table_name, c))
    then
        execute format('create policy multigres_access on %s to app_user '
            'using (%s) with check (%s)', table_name, condition, given);
    end if;
    execute format('alter table %s enable row level security, force row level security',
        table_name);

    -- Row-level security does not cover these three.
    execute format('revoke truncate, references, trigger on %s from app_user', table_name);
    if has_table_privilege('app_user', table_name, 'truncate, references, trigger')
        or has_any_column_privilege('app_user', table_name, 'references')
    then
        raise exception 'app_user has TRUNCATE, REFERENCES or TRIGGER on %', table_name
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Revoke them from PUBLIC and from the roles that app_user is a member of.';
    end if;
end
$$;


-- Rewrites the policies of every protected table in the form that the database wants now. Each is
-- locked until the transaction ends. A table that is not the caller's, and one whose policies
-- somebody has changed, is left as it is and named.
create or replace function multigres.renew_policies() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    each record;
    form text;
begin
    for each in
        select t.relation, pg_has_role(c.relowner, 'usage') as owned
        from multigres.tables as t join pg_class as c on c.oid = t.relation
        order by t.relation
    loop
        form := multigres.form(each.relation);
        if form is null then
            raise warning 'the policies of % were changed, and remain as they are',
                each.relation
                using hint = 'Call multigres_protect() again.';
        elsif form <> multigres.wanted_form(each.relation) and not each.owned then
            raise warning 'the policies of % remain in their % form, because % does not own it',
                each.relation, form, current_user
                using hint = 'Its owner or a superuser should call multigres_protect() again.';
        elsif form <> multigres.wanted_form(each.relation) then
            perform multigres.suspend(each.relation);
            perform multigres.isolate(each.relation);
            perform multigres.remember(each.relation);
        end if;
    end loop;
end
$$;


-- Whether the policies of a table, its partitions and heirs have a front in a sealed database, see
-- multigres.front(). It costs 0.1 to 0.5 microseconds for each row that a query looks at: a table
-- whose queries read millions of rows may do without. Then a tenant who writes their own SQL can
-- find out what other tenants' rows hold, by guessing.
create or replace function public.multigres_front(table_name regclass, wanted boolean)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    part regclass;
begin
    if table_name is null or wanted is null
        or not exists (select from multigres.tables as t where t.relation = table_name)
    then
        raise exception '% is not protected', coalesce(table_name::text, 'NULL')
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Call multigres_protect() first.';
    end if;
    for part in select multigres.family(table_name) loop
        update multigres.tables as t set front = wanted
        where t.relation = part and t.front <> wanted;
        if multigres.form(part) <> multigres.wanted_form(part) then
            perform multigres.suspend(part);
            perform multigres.isolate(part);
            perform multigres.remember(part);
        end if;
    end loop;
end
$$;

alter function public.multigres_front(regclass, boolean) owner to current_user;
revoke all on function public.multigres_front(regclass, boolean) from public;


-- Whether a value names a tenant in the one way that every table has it: NULL if so, or else why
-- not. PostgreSQL reads 007 and 7 as one integer, and a uuid in capitals as the same one: each
-- would be another login of the same tenant. A value that is not of the column's type fails at
-- every query. Asked at login, hence with its owner's rights, and without a cast unless one is
-- refused.
create or replace function public.multigres_spelling(variable text, value text) returns text
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    type_name text;
    canonical text;
begin
    for type_name in
        select k from unnest('{uuid,smallint,integer,bigint}'::text[]) as k
        where exists (
            select from multigres.dimensions as d join pg_class as c on c.oid = d.relation
            where d.variable = lower(multigres_spelling.variable collate "C") and d.kind = k
                and c.relpersistence <> 't')
    loop
        continue when value is null or (case
            when type_name = 'uuid' then value collate "C"
                ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'
            when value collate "C" ~ '^(0|-?[1-9][0-9]{0,18})$' then abs(value::numeric + 0.5)
                < case type_name when 'smallint' then 32768 when 'integer' then 2147483648
                    else 9223372036854775808 end
            else false end);
        begin
            canonical := case type_name when 'uuid' then value::uuid::text
                when 'smallint' then value::smallint::text
                when 'integer' then value::integer::text else value::bigint::text end;
        exception when data_exception then
            return format('is not a value of type %s, which a column compared with %s has',
                type_name, variable);
        end;
        return format('must be spelt "%s": a column compared with %s is of type %s',
            canonical, variable, type_name);
    end loop;
    return null;
end
$$;

alter function public.multigres_spelling(text, text) owner to current_user;
grant execute on function public.multigres_spelling(text, text) to public;


do $$
declare
    helper text;
begin
    foreach helper in array array['kind(regclass, name)', 'comparisons(regclass, name, text)',
        'front(regclass, name, text)', 'parts(regclass)', 'condition(regclass, boolean)',
        'sealed()', 'wanted_form(regclass)', 'form(regclass)', 'intact(oid)', 'counts(regclass)',
        'isolations(regclass)', 'family(regclass)', 'sequences(regclass)', 'adopt(regclass)',
        'admits(regclass, "char")', 'isolate(regclass)', 'renew_policies()']
    loop
        execute format('alter function multigres.%s owner to current_user', helper);
        execute format('revoke all on function multigres.%s from public', helper);
    end loop;
end
$$;
