-- Helpers to put the tenant into a key: its columns and their names, the statements that rebuild an
-- index, and the reasons why that cannot be.

-- The columns that isolate each table, and their context variables in the same order: that of
-- the tenant first, which is also told alone.
create or replace function multigres.isolated()
returns table (relation oid, numbers smallint[], variables text[], tenant smallint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select i.relation::oid, array_agg(i.number order by i.place, i.variable),
        array_agg(i.variable order by i.place, i.variable),
        min(i.number) filter (where i.place = 0)
    from (
        select distinct on (i.relation, i.variable) i.relation, i.column_number as number,
            i.variable, case i.variable when 'app.current_tenant_id' then 0 else 1 end as place
        from multigres.isolations() as i
        where i.column_number is not null and i.variable is not null
        order by i.relation, i.variable, i.column_number
    ) as i
    group by i.relation;
end
$$;


-- Those of the isolating columns that a key lacks; NULL where the tenant is in it, or any of them
-- where none is the tenant.
create or replace function multigres.lacking(
    numbers smallint[], tenant smallint, key smallint[])
returns smallint[]
language sql immutable
as $$
    select case when tenant <> all (key) or tenant is null and not numbers && key
        then array(
            select n.number from unnest(numbers) with ordinality as n(number, place)
            where n.number <> all (key) order by n.place)
        end
$$;


create or replace function multigres.column_list(
    relation oid, numbers smallint[], suffix text default '')
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select string_agg(quote_ident(a.attname) || suffix, ', ' order by n.place)
        from unnest(numbers) with ordinality as n(number, place)
        join pg_attribute as a on a.attrelid = relation and a.attnum = n.number);
end
$$;


create or replace function multigres.key_columns(index oid) returns smallint[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select (x.indkey::int2[])[0:x.indnkeyatts - 1]
        from pg_index as x where x.indexrelid = index);
end
$$;


-- The constraint that an index belongs to: pg_constraint has no index on conindid.
create or replace function multigres.index_constraint(index oid) returns oid
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select d.refobjid from pg_depend as d
        where d.classid = 'pg_class'::regclass and d.objid = index
            and d.refclassid = 'pg_constraint'::regclass and d.deptype = 'i');
end
$$;


-- The type below a column's domains.
create or replace function multigres.base_type(relation oid, number smallint) returns oid
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        with recursive types(id, base) as (
            select t.oid, t.typbasetype
            from pg_attribute as a join pg_type as t on t.oid = a.atttypid
            where a.attrelid = relation and a.attnum = number
            union all
            select t.oid, t.typbasetype from types join pg_type as t on t.oid = types.base
        )
        select types.id from types where types.base = 0);
end
$$;


-- The name of a new unique index, as PostgreSQL would make it, where nothing else has it.
create or replace function multigres.key_name(relation oid, numbers smallint[]) returns name
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select case
            when octet_length(n.name) < 64 and not exists (
                select from pg_class as other
                where other.relnamespace = c.relnamespace and other.relname = n.name)
            then n.name else 'multigres_key_' || md5(n.name) end::name
        from pg_class as c
        cross join lateral (
            select c.relname || '_' || string_agg(a.attname, '_' order by k.place) || '_key' as name
            from unnest(numbers) with ordinality as k(number, place)
            join pg_attribute as a on a.attrelid = relation and a.attnum = k.number
        ) as n
        where c.oid = relation);
end
$$;


-- The extension that an index of this kind needs for numbers, texts and uuids.
create or replace function multigres.index_extension(method name) returns name
language sql immutable
as $$
    select case method when 'gist' then 'btree_gist' when 'gin' then 'btree_gin' end::name
$$;


-- Why these columns cannot be put in front of an index; NULL where they can.
create or replace function multigres.index_obstacle(index oid, added smallint[]) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select case
            when virtual.columns is not null then format('no index holds %s, a virtual generated '
                'column: make it a stored one', virtual.columns)
            when m.amname = 'brin' then 'a BRIN index cannot keep tenants apart: drop it, or use a '
                'btree index that begins with ' || names.columns
            when not coalesce(pg_indexam_has_property(m.oid, 'can_multi_col'), false)
            then format('a %s index holds one column alone: drop it, or use an index of another '
                'kind that begins with %s', m.amname, names.columns)
            when m.amname not in ('btree', 'gist', 'gin')
            then format('how a %s index holds %s is not known: drop it, or use an index of another '
                'kind', m.amname, names.columns)
            when other.type is not null
            then format('%s has no operator class for %s: drop it, or use an index of another kind',
                multigres.index_extension(m.amname), format_type(other.type, null))
            when m.amname <> 'btree' and not exists (
                select from pg_available_extensions as e
                where e.name = multigres.index_extension(m.amname))
            then format('this needs extension %s, which is not on this server',
                multigres.index_extension(m.amname))
            end
        from pg_index as x
        join pg_class as c on c.oid = x.indexrelid
        join pg_am as m on m.oid = c.relam
        cross join lateral (
            select multigres.column_list(x.indrelid, added) as columns
        ) as names
        cross join lateral (
            select string_agg(quote_ident(a.attname), ', ') as columns from pg_attribute as a
            where a.attrelid = x.indrelid and a.attnum = any (added) and a.attgenerated = 'v'
        ) as virtual
        cross join lateral (
            select min(t.type) as type
            from (
                select multigres.base_type(x.indrelid, n.number) from unnest(added) as n(number)
                where m.amname <> 'btree'
            ) as t(type)
            where t.type not in ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype,
                'text'::regtype, 'varchar'::regtype, 'uuid'::regtype)
        ) as other
        where x.indexrelid = index);
end
$$;


-- The statement that an index needs before it can hold the tenant.
create or replace function multigres.need_extension(index oid) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select format('create extension if not exists %I; ', n.extension)
        from pg_class as c
        join pg_am as m on m.oid = c.relam
        cross join lateral (select multigres.index_extension(m.amname)) as n(extension)
        where c.oid = index and n.extension is not null and not exists (
            select from pg_extension as e where e.extname = n.extension));
end
$$;


-- obj_description() is SQL, which PostgreSQL before 18 plans anew each time.
create or replace function multigres.comment_on(catalog regclass, object oid) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select d.description from pg_description as d
        where d.classoid = catalog and d.objoid = object and d.objsubid = 0);
end
$$;


-- Properties of an index that go with it: the statements that restore them on the new one.
create or replace function multigres.index_aftercare(index oid) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select concat(
            case when s.spcname is not null and (k.oid is null or k.contype = 'x')
                then format('; alter index %s set tablespace %I', c.oid::regclass, s.spcname) end,
            case when x.indisreplident
                then format('; alter table %s replica identity using index %I',
                    x.indrelid::regclass, c.relname) end,
            case when x.indisclustered
                then format('; alter table %s cluster on %I', x.indrelid::regclass, c.relname) end,
            '; comment on index ' || c.oid::regclass || ' is '
                || quote_literal(multigres.comment_on('pg_class', c.oid)),
            '; comment on constraint ' || quote_ident(k.conname) || ' on ' || k.conrelid::regclass
                || ' is ' || quote_literal(multigres.comment_on('pg_constraint', k.oid)))
        from pg_index as x
        join pg_class as c on c.oid = x.indexrelid
        left join pg_tablespace as s on s.oid = c.reltablespace
        -- OFFSET 0: asked once, and not for each constraint there is.
        cross join lateral (select multigres.index_constraint(index) as id offset 0) as own
        left join pg_constraint as k on k.oid = own.id
        where x.indexrelid = index);
end
$$;


-- The statements that make an index anew with these columns in front. The old one goes last: a
-- unique index is never missing. PostgreSQL prints an index on a partitioned table with ONLY.
create or replace function multigres.rebuilt_index(index oid, added smallint[]) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select concat(multigres.need_extension(index),
            format('create %sindex %I on %s using %I (%s, %s; drop index %s; '
                    'alter index %I.%I rename to %I',
                d.kind, d.made, x.indrelid::regclass, m.amname,
                multigres.column_list(x.indrelid, added),
                substr(pg_get_indexdef(index), length(d.head) + 1),
                c.oid::regclass, n.nspname, d.made, c.relname),
            multigres.index_aftercare(index))
        from pg_index as x
        join pg_class as c on c.oid = x.indexrelid
        join pg_am as m on m.oid = c.relam
        join pg_class as t on t.oid = x.indrelid
        join pg_namespace as n on n.oid = t.relnamespace
        cross join lateral (
            select case when x.indisunique then 'unique ' else '' end as kind,
                'multigres_' || c.oid as made,
                format('CREATE %sINDEX %I ON %s%I.%I USING %I (',
                    case when x.indisunique then 'UNIQUE ' end, c.relname,
                    case c.relkind when 'I' then 'ONLY ' end, n.nspname, t.relname, m.amname)
                as head
        ) as d
        where x.indexrelid = index and starts_with(pg_get_indexdef(index), d.head));
end
$$;


revoke all on function multigres.isolated(),
    multigres.lacking(smallint[], smallint, smallint[]),
    multigres.column_list(oid, smallint[], text), multigres.key_columns(oid),
    multigres.index_constraint(oid),
    multigres.base_type(oid, smallint), multigres.key_name(oid, smallint[]),
    multigres.index_extension(name), multigres.index_obstacle(oid, smallint[]),
    multigres.need_extension(oid), multigres.comment_on(regclass, oid),
    multigres.index_aftercare(oid),
    multigres.rebuilt_index(oid, smallint[])
    from public;
