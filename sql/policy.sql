-- What the policies of a table compare, written as PostgreSQL prints it, so that
-- multigres_status() can tell a policy that was changed. NULL where no comparison is safe: a
-- type not in the list, or a collation that takes two tenants' names for one. citext does that
-- too: its own comparison serves its index, and one as text beside it tells Acme from acme.
--
-- The cast stands on the function's side: an index on the column remains usable. The function is
-- in a subquery of its own: it runs once per query, and not for every row.
--
-- This and what else is asked for each table is PL/pgSQL, which keeps its plans for the session.
-- Before PostgreSQL 18, each statement that calls a function in SQL plans it anew, which took most
-- of the time.
create or replace function public.multigres_predicate(
    table_name regclass, column_name name, variable text)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
begin
    return (
        with recursive types(id, base) as (
            select t.oid, t.typbasetype
            from pg_attribute as a
            join pg_type as t on t.oid = a.atttypid
            left join pg_collation as c on c.oid = a.attcollation
            where a.attrelid = table_name and a.attname = column_name
                and a.attnum > 0 and not a.attisdropped
                and coalesce(c.collisdeterministic, true)
            union all
            select t.oid, t.typbasetype
            from types
            -- OFFSET 0: found by its index, and not in a hash of all types.
            cross join lateral (select * from pg_type where oid = types.base offset 0) as t
        ),
        base(id, is_domain, citext_schema) as materialized (
            select types.id, (select count(*) from types) > 1,
                (
                    select n.nspname
                    from pg_type as t
                    join pg_namespace as n on n.oid = t.typnamespace
                    join pg_depend as d on d.classid = 'pg_type'::regclass and d.objid = t.oid
                        and d.deptype = 'e' and d.refclassid = 'pg_extension'::regclass
                    join pg_extension as e on e.oid = d.refobjid
                    where t.oid = types.id and t.typname = 'citext' and e.extname = 'citext'
                )
            from types where types.base = 0
        ),
        context(call) as materialized (
            select case variable
                when 'app.current_tenant_id'
                then '( SELECT public.current_tenant_id() AS current_tenant_id)'
                else format('( SELECT public.multigres_context(%L::text) AS multigres_context)',
                    variable)
            end
        )
        select case
            when base.id = 'text'::regtype and not base.is_domain
            then format('(%I = %s)', column_name, context.call)
            when base.id in ('text'::regtype, 'varchar'::regtype)
            then format('((%I)::text = %s)', column_name, context.call)
            else format(
                case when base.citext_schema is null then '%s'
                    else '(%s AND ((%I)::text = %s))' end,
                format(case when base.is_domain then '((%1$I)::%2$s %3$s (%4$s)::%2$s)'
                        else '(%1$I %3$s (%4$s)::%2$s)' end,
                    column_name, format_type(base.id, null),
                    case when base.citext_schema is null then '='
                        else format('OPERATOR(%I.=)', base.citext_schema) end,
                    context.call),
                column_name, context.call)
        end
        from base, context
        where base.citext_schema is not null
            or base.id in ('text'::regtype, 'varchar'::regtype, 'uuid'::regtype,
                'smallint'::regtype, 'integer'::regtype, 'bigint'::regtype));
end
$$;

alter function public.multigres_predicate(regclass, name, text) owner to current_user;
revoke all on function public.multigres_predicate(regclass, name, text) from public;


-- What a policy's comment remembers; anybody's comment may say anything.
create or replace function public.multigres_memory(comment text) returns jsonb
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return case when jsonb_typeof(comment::jsonb) = 'object' then comment::jsonb end;
exception when invalid_text_representation then
    return null;
end
$$;

alter function public.multigres_memory(text) owner to current_user;
revoke all on function public.multigres_memory(text) from public;


-- Every policy that isolates, of one relation or of all: one for each dimension of a table, its
-- partitions and its heirs.
--
-- Column and variable are read from what the policy says, and `intact` is whether that is what
-- multigres_protect() made it say. `memory` is what it has to undo: the policy's comment, so that
-- a dump holds it, and a table that is dropped takes it along. Who owns the table can write it,
-- hence it holds no SQL.
create or replace function public.multigres_dimensions(table_name regclass default null)
returns table (relation regclass, policy name, column_name name, variable text, intact boolean,
    memory jsonb)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
begin
    return query
        select p.polrelid::regclass, p.polname,
            coalesce(a.attname, (m.memory ->> 'column')::name), v.variable,
            not p.polpermissive and p.polcmd = '*' and p.polroles = '{0}'
                and coalesce(e.using_text = w.predicate and e.check_text = e.using_text, false),
            m.memory
        from (
            -- Not one condition with OR, which would read every policy to find those of a relation.
            select one.* from pg_policy as one where one.polrelid = table_name
            union all
            select each.* from pg_policy as each where table_name is null
        ) as p
        cross join lateral (
            -- OFFSET 0: once for each policy, and not wherever the text is asked for.
            select pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)
            offset 0
        ) as e(using_text, check_text)
        cross join lateral (
            select case
                when strpos(e.using_text, 'public.current_tenant_id()') > 0
                then 'app.current_tenant_id'
                else substring(e.using_text
                    from 'public[.]multigres_context[(]''([a-z0-9_.$]+)''::text[)]')
            end
        ) as v(variable)
        cross join lateral (
            select public.multigres_memory(obj_description(p.oid, 'pg_policy')) offset 0
        ) as m(memory)
        left join lateral (
            select a.attname
            from pg_depend as d
            join pg_attribute as a on a.attrelid = p.polrelid and a.attnum = d.refobjsubid
            where d.classid = 'pg_policy'::regclass and d.objid = p.oid
                and d.refclassid = 'pg_class'::regclass and d.refobjid = p.polrelid
                and d.refobjsubid > 0
            order by a.attnum limit 1
        ) as a on true
        cross join lateral (
            select public.multigres_predicate(p.polrelid::regclass, a.attname, v.variable)
        ) as w(predicate)
        where starts_with(p.polname::text, 'multigres_isolation');
end
$$;

alter function public.multigres_dimensions(regclass) owner to current_user;
revoke all on function public.multigres_dimensions(regclass) from public;


-- A table, then its partitions and all tables that inherit from it, parents first. Mostly it is
-- alone: ROWS lets what is joined to it be found by an index.
create or replace function public.multigres_family(table_name regclass) returns setof regclass
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

alter function public.multigres_family(regclass) owner to current_user;
revoke all on function public.multigres_family(regclass) from public;


-- Sequences that a row of the table takes its numbers from.
create or replace function public.multigres_sequences(table_name regclass)
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

alter function public.multigres_sequences(regclass) owner to current_user;
revoke all on function public.multigres_sequences(regclass) from public;


-- Dimensions, of one relation or of all, whose policy was dropped, and not by
-- multigres_unprotect(): the comment of each policy of a table has all dimensions in it, so that
-- those that stand know of one that is gone.
create or replace function public.multigres_lost(table_name regclass default null)
returns table (relation regclass, policy name, column_name name, variable text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
        select distinct p.polrelid::regclass, d.key::name, (d.value ->> 'column')::name,
            d.value ->> 'variable'
        from (
            select one.* from pg_policy as one where one.polrelid = table_name
            union all
            select each.* from pg_policy as each where table_name is null
        ) as p
        cross join lateral (
            select public.multigres_memory(obj_description(p.oid, 'pg_policy')) -> 'dimensions'
            offset 0
        ) as m(dimensions)
        cross join lateral jsonb_each(
            case when jsonb_typeof(m.dimensions) = 'object' then m.dimensions end) as d
        where starts_with(p.polname::text, 'multigres_')
            and d.value ->> 'column' is not null and d.value ->> 'variable' is not null
            and d.key::name <> all (array(
                select same.polname from pg_policy as same where same.polrelid = p.polrelid));
end
$$;

alter function public.multigres_lost(regclass) owner to current_user;
revoke all on function public.multigres_lost(regclass) from public;


-- Writes the dimensions of a table into the comments of its policies: those that stand, and of
-- those that are lost all but the `forgotten` ones.
create or replace function public.multigres_record(
    table_name regclass, forgotten name[] default '{}')
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    dimensions jsonb;
    note record;
begin
    select jsonb_object_agg(d.policy,
        jsonb_build_object('column', d.column_name, 'variable', d.variable))
    into dimensions
    from (
        select d.relation, d.policy, d.column_name,
            coalesce(d.variable, d.memory ->> 'variable') as variable
        from public.multigres_dimensions(table_name) as d
        union all
        select * from public.multigres_lost(table_name) as l where l.policy <> all (forgotten)
    ) as d;
    for note in
        select p.polname as policy, m.memory || jsonb_build_object('dimensions', dimensions) as new
        from pg_policy as p
        cross join lateral (
            select coalesce(
                public.multigres_memory(obj_description(p.oid, 'pg_policy')), '{}') as memory
        ) as m
        where p.polrelid = table_name and p.polname ~ '^multigres_(isolation|access$)'
            and m.memory -> 'dimensions' is distinct from dimensions
    loop
        execute format('comment on policy %I on %s is %L', note.policy, table_name, note.new);
    end loop;
end
$$;

alter function public.multigres_record(regclass, name[]) owner to current_user;
revoke all on function public.multigres_record(regclass, name[]) from public;


-- Restrictive policies alone let nobody in, hence a permissive one beside them, which says the
-- same as that of the tenant, or of the table's first dimension where none is the tenant, and so
-- does not open that one should its own policy be dropped. PostgreSQL leaves out a condition that
-- equals another one; had this one all dimensions in it, every query would ask for each context
-- twice. The policy of a further dimension that is dropped by hand leaves that dimension open,
-- and multigres_status() and multigres_check() say so.
--
-- A table with permissive policies of its own keeps them instead: they say who sees what inside a
-- tenant, and another one would overrule them.
create or replace function public.multigres_admit(table_name regclass) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    predicate text;
begin
    if exists (
        select from pg_policy as p
        where p.polrelid = table_name and p.polname = 'multigres_access')
    then
        execute format('drop policy multigres_access on %s', table_name);
    end if;
    if exists (select from pg_policy as p where p.polrelid = table_name and p.polpermissive) then
        return;
    end if;
    select pg_get_expr(p.polqual, p.polrelid) into predicate
    from public.multigres_dimensions(table_name) as d
    join pg_policy as p on p.polrelid = table_name and p.polname = d.policy
    order by d.variable is distinct from 'app.current_tenant_id', p.polname limit 1;
    if predicate is not null then
        execute format(
            'create policy multigres_access on %s to public using (%s) with check (%s)',
            table_name, predicate, predicate);
        perform public.multigres_record(table_name);
    end if;
end
$$;

alter function public.multigres_admit(regclass) owner to current_user;
revoke all on function public.multigres_admit(regclass) from public;


-- Puts the policies on one table. The restrictive one of each dimension is the isolation: whatever
-- other policies a table has or gets, a row must satisfy this one too.
create or replace function public.multigres_isolate(
    table_name regclass, column_name name, variable text, memory jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    predicate text := public.multigres_predicate(table_name, column_name, variable);
    each record;
    policy_name name := 'multigres_isolation';
    replaced name[] := '{}';
begin
    if predicate is null then
        raise exception 'column "%" of % cannot hold tenants', column_name, table_name
            using errcode = 'datatype_mismatch',
                detail = 'A tenant column is text, varchar, citext, uuid, smallint, integer, '
                    'bigint or a domain over one of them, and its collation tells all strings '
                    'apart.';
    end if;

    for each in
        select d.policy, d.column_name = multigres_isolate.column_name as same, true as stands
        from public.multigres_dimensions(table_name) as d
        union all
        select l.policy, l.column_name = multigres_isolate.column_name, false
        from public.multigres_lost(table_name) as l
    loop
        -- One whose column cannot be told was changed beyond that, and isolates nothing.
        if each.same is not false then
            if each.stands then
                execute format('drop policy %I on %s', each.policy, table_name);
            end if;
            replaced := replaced || each.policy;
        elsif each.policy = policy_name then
            policy_name := 'multigres_isolation_' || case
                when octet_length(column_name) > 43 then md5(column_name) else column_name end;
        end if;
    end loop;
    execute format(
        'create policy %I on %s as restrictive to public using (%s) with check (%s)',
        policy_name, table_name, predicate, predicate);
    execute format('comment on policy %I on %s is %L', policy_name, table_name, memory);
    -- First, for it may be that the permissive policy alone has them.
    perform public.multigres_record(table_name, replaced);
    perform public.multigres_admit(table_name);
    execute format('alter table %s enable row level security, force row level security',
        table_name);

    -- Row-level security does not cover these three.
    execute format('revoke truncate, references, trigger on %s from app_user', table_name);
    if has_table_privilege('app_user', table_name, 'truncate, references, trigger')
        or has_any_column_privilege('app_user', table_name, 'references')
    then
        raise exception 'app_user may TRUNCATE %, or put a trigger or a reference on it', table_name
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Revoke TRUNCATE, REFERENCES and TRIGGER from PUBLIC and from the roles '
                    'that app_user is a member of.';
    end if;
end
$$;

alter function public.multigres_isolate(regclass, name, text, jsonb) owner to current_user;
revoke all on function public.multigres_isolate(regclass, name, text, jsonb) from public;


-- Rewrites the policies of every protected table in the form that the database has now.
create or replace function multigres.renew_policies() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
end
$$;

revoke all on function multigres.renew_policies() from public;
