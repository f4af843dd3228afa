-- Constraints ignore policies: their errors tell whether another tenant has such a row.
--
-- The fix is built from the catalogue: names hold anything. Where no SQL fixes it, a comment in its
-- place says what to do, so that all fixes can still be run from top to bottom.

-- Whether the last column of a constraint is a range of time (PostgreSQL 18).
create or replace function multigres.has_period("constraint" oid) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select coalesce((to_jsonb(k) ->> 'conperiod')::boolean, false)
        from pg_constraint as k where k.oid = "constraint");
end
$$;


create or replace function multigres.reference_columns(
    reference oid, relation oid, numbers smallint[])
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select case when multigres.has_period(reference)
            then concat_ws(', ',
                multigres.column_list(relation, numbers[:cardinality(numbers) - 1]),
                'period ' || multigres.column_list(relation, numbers[cardinality(numbers):]))
            else multigres.column_list(relation, numbers) end);
end
$$;


-- Why a foreign key cannot take these columns in front; NULL where it can.
create or replace function multigres.reference_obstacle(
    reference oid, mine smallint[], theirs smallint[])
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        with pairs as (
            select a.attname as my_name, a.attgenerated as made, b.attname as their_name,
                b.attgenerated = 'v' as is_virtual,
                format_type(multigres.base_type(k.conrelid, p.mine), null) as my_type,
                format_type(multigres.base_type(k.confrelid, p.theirs), null) as their_type
            from pg_constraint as k
            cross join unnest(mine, theirs) as p(mine, theirs)
            join pg_attribute as a on a.attrelid = k.conrelid and a.attnum = p.mine
            join pg_attribute as b on b.attrelid = k.confrelid and b.attnum = p.theirs
            where k.oid = reference
        )
        select case
            when not exists (select from pairs)
            then format('%s and %s are isolated by different context variables, so that no column '
                'of the one can be compared with one of the other: protect both by the same '
                'variable, or drop the constraint', k.conrelid::regclass, k.confrelid::regclass)
            when exists (select from pairs as p where p.made = 'v' or p.is_virtual)
            then 'no foreign key holds a virtual generated column: make the tenant column a '
                'stored one'
            when unlike.my_name is not null
            then format('%I of %s is %s and %I of %s is %s: give both the same type',
                unlike.my_name, k.conrelid::regclass, unlike.my_type, unlike.their_name,
                k.confrelid::regclass, unlike.their_type)
            when exists (select from pairs as p where p.made <> '')
                and (k.confupdtype in ('c', 'n', 'd') or k.confdeltype in ('n', 'd'))
            then 'a foreign key with a generated column has neither ON UPDATE CASCADE nor an '
                'action SET NULL or SET DEFAULT: choose another action, or make it an '
                'ordinary column'
            when k.confupdtype in ('n', 'd')
            then 'this ON UPDATE action would set the tenant as well: make it ON UPDATE CASCADE or '
                'NO ACTION first'
            when k.confdeltype in ('n', 'd') and current_setting('server_version_num')::int < 150000
            then format('before PostgreSQL 15, this ON DELETE action sets the tenant as well: make '
                'it ON DELETE NO ACTION or CASCADE first, and let the application set %s before it '
                'deletes', multigres.column_list(k.conrelid, k.conkey))
            when multigres.has_period(k.oid)
            then multigres.index_obstacle(k.conindid, theirs)
            end
        from pg_constraint as k
        left join lateral (
            select p.* from pairs as p
            where case p.my_type when 'smallint' then 'bigint' when 'integer' then 'bigint'
                    when 'character varying' then 'text' else p.my_type end
                <> case p.their_type when 'smallint' then 'bigint' when 'integer' then 'bigint'
                    when 'character varying' then 'text' else p.their_type end
            limit 1
        ) as unlike on true
        where k.oid = reference);
end
$$;


-- Foreign keys between protected tables that leave the tenant out: the columns that go in front
-- on either side, those of one context variable in the same place; why that cannot be; and the
-- unique key that the new constraint refers to, where none is there yet. Columns go by number.
create or replace function multigres.loose_references()
returns table (reference oid, mine smallint[], theirs smallint[], obstacle text, key smallint[])
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with isolated as materialized (
        select * from multigres.isolated()
    ),
    loose as (
        select k.oid, k.confrelid, k.conindid,
            array_agg(c.mine order by c.place) filter (where not c.paired) as mine,
            array_agg(c.theirs order by c.place) filter (where not c.paired) as theirs
        from pg_constraint as k
        join isolated as own on own.relation = k.conrelid
        join isolated as other on other.relation = k.confrelid
        left join lateral (
            select variable, o.place, o.number as mine, t.number as theirs, exists (
                select from unnest(k.conkey, k.confkey) as c(mine, theirs)
                where c.mine = o.number and c.theirs = t.number) as paired
            from unnest(own.variables, own.numbers) with ordinality as o(variable, number, place)
            join unnest(other.variables, other.numbers) as t(variable, number) using (variable)
        ) as c on true
        where k.contype = 'f' and k.conparentid = 0
        group by k.oid, k.confrelid, k.conindid
        having not coalesce(bool_or(c.paired) filter (where c.variable = 'app.current_tenant_id'),
            bool_or(c.paired), false)
    )
    select l.oid, l.mine, l.theirs, multigres.reference_obstacle(l.oid, l.mine, l.theirs),
        case when not exists (
            select from pg_index as x
            where x.indrelid = l.confrelid and x.indisunique and x.indimmediate and x.indisvalid
                and x.indpred is null and x.indexprs is null
                and x.indisexclusion = period.is_used
                and x.indnkeyatts = cardinality(k.columns)
                and (x.indkey::int2[])[0:x.indnkeyatts - 1] @> k.columns)
            then k.columns end
    from loose as l
    cross join lateral (
        select l.theirs || multigres.key_columns(l.conindid) as columns offset 0
    ) as k
    cross join lateral (
        select multigres.has_period(l.oid) as is_used offset 0
    ) as period;
end
$$;


-- ADD CONSTRAINT of a foreign key that has these columns in front. The tenant is never
-- NULL: MATCH FULL would refuse every row that refers to nothing, so a CHECK keeps what it means.
create or replace function multigres.tight_reference(
    reference oid, mine smallint[], theirs smallint[])
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select concat(
            format('add constraint %I foreign key (%s) references %s (%s)', k.conname,
                multigres.reference_columns(k.oid, k.conrelid, mine || k.conkey),
                k.confrelid::regclass,
                multigres.reference_columns(k.oid, k.confrelid, theirs || k.confkey)),
            case when k.confmatchtype = 'f' and not free.of_null then ' match full' end,
            case k.confupdtype when 'c' then ' on update cascade'
                when 'r' then ' on update restrict' end,
            case k.confdeltype when 'c' then ' on delete cascade'
                when 'r' then ' on delete restrict'
                when 'n' then format(' on delete set null (%s)', own.columns)
                when 'd' then format(' on delete set default (%s)', own.columns) end,
            case when k.condeferrable then ' deferrable' end,
            case when k.condeferred then ' initially deferred' end,
            case when not (to_jsonb(k) ->> 'conenforced')::boolean then ' not enforced'
                when not k.convalidated then ' not valid' end,
            case when k.confmatchtype = 'f' and free.of_null and cardinality(k.conkey) > 1
                then format(', add check (num_nulls(%s) in (0, %s))%s%s',
                    multigres.column_list(k.conrelid, k.conkey), cardinality(k.conkey),
                    -- A foreign key is not handed down to heirs.
                    case when c.relkind = 'r' then ' no inherit' end,
                    case when not k.convalidated then ' not valid' end) end)
        from pg_constraint as k
        join pg_class as c on c.oid = k.conrelid
        cross join lateral (
            select exists (
                select from pg_attribute as a
                where a.attrelid = k.conrelid and a.attnum = any (k.conkey) and not a.attnotnull)
                as of_null
        ) as free
        cross join lateral (
            -- PostgreSQL 15 has a list of its own, which is empty for all columns.
            select multigres.column_list(k.conrelid, array(
                select n.number from unnest(k.conkey) with ordinality as n(number, place)
                where n.number <> all (mine)
                    and (d.list is null or d.list @> to_jsonb(n.number))
                order by n.place)) as columns
            from nullif(to_jsonb(k) -> 'confdelsetcols', 'null') as d(list)
        ) as own
        where k.oid = reference);
end
$$;


-- Foreign keys by which a change of an unprotected table deletes or changes rows of protected ones:
-- PostgreSQL applies no policy when it does that.
create or replace function multigres.cascades()
returns table (lint text, object text, problem text, fix text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with recursive isolated as materialized (
        select i.relation from multigres.isolated() as i
    ),
    steps(name, relation, command) as (
        select format('constraint %I on %s', k.conname, k.conrelid::regclass), k.confrelid,
            c.command
        from pg_constraint as k
        join isolated as i on i.relation = k.conrelid
        cross join lateral (
            select 'DELETE' where k.confdeltype in ('c', 'n', 'd')
            union all
            select 'UPDATE' where k.confupdtype in ('c', 'n', 'd')
        ) as c(command)
        where k.contype = 'f' and k.conparentid = 0
        union
        select s.name, k.confrelid, 'DELETE'
        from steps as s
        join pg_constraint as k on k.conrelid = s.relation and k.contype = 'f'
            and k.conparentid = 0 and k.confdeltype = 'c'
        where s.command = 'DELETE' and s.relation not in (select i.relation from isolated as i)
    )
    select 'cascade_from_shared_table', s.name,
        format('app_user has %s on %s, which is not protected: it deletes or changes the rows of '
            'all tenants that refer to it', s.command, s.relation::regclass),
        multigres.revoke_table(s.relation, s.command)
    from steps as s
    where s.relation not in (select i.relation from isolated as i)
        and multigres.reached(s.relation, s.command) is not null;
end
$$;


-- References come before the unique keys that they need: those can be changed once nothing refers
-- to them.
create or replace function multigres.check_references()
returns table (lint text, object text, problem text, fix text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with loose as (
        select k.*, l.*, format('constraint %I on %s', k.conname, k.conrelid::regclass) as name,
            multigres.key_name(k.confrelid, l.key) as key_name,
            multigres.has_period(k.oid) as has_period
        from multigres.loose_references() as l
        join pg_constraint as k on k.oid = l.reference
        offset 0
    ),
    isolated as materialized (
        select i.relation, multigres.column_list(i.relation, i.numbers) as columns
        from multigres.isolated() as i
    )
    select 'foreign_key_without_tenant', l.name,
        format('refers to %s without %s: a row may refer to a row of another tenant',
            l.confrelid::regclass,
            coalesce(multigres.column_list(l.confrelid, l.theirs), other.columns))
            || case when l.confdeltype in ('c', 'n', 'd') or l.confupdtype in ('c', 'n', 'd')
                then ', and be deleted or changed with it' else '' end,
        coalesce('-- ' || l.obstacle, concat(
            case
                when l.key is null then null
                when not l.has_period
                then format('create unique index if not exists %I on %s (%s); ', l.key_name,
                    l.confrelid::regclass, multigres.column_list(l.confrelid, l.key))
                -- Of several that need this key, the first in the list makes it.
                when row_number() over (partition by l.confrelid, l.key order by l.name) = 1
                then coalesce(multigres.need_extension(l.conindid), '')
                    || format('alter table %s add constraint %I unique (%s without overlaps); ',
                        l.confrelid::regclass, l.key_name,
                        multigres.column_list(l.confrelid, l.key))
            end,
            format('select public.multigres_alter(%L, %L, %L)',
                format('alter table %s drop constraint %I, %s', l.conrelid::regclass, l.conname,
                    multigres.tight_reference(l.oid, l.mine, l.theirs)),
                l.conrelid::regclass, l.confrelid::regclass)))
    from loose as l
    join isolated as other on other.relation = l.confrelid
    union all
    select 'foreign_key_from_shared_table',
        format('constraint %I on %s', k.conname, k.conrelid::regclass),
        format('refers to %s from a table that is not protected: with %s there, app_user learns '
            'which rows other tenants have', k.confrelid::regclass, x.privileges),
        multigres.revoke_table(k.conrelid, 'INSERT', 'UPDATE')
    from pg_constraint as k
    join isolated as other on other.relation = k.confrelid
    cross join lateral multigres.reached(k.conrelid, 'INSERT', 'UPDATE') as x(privileges)
    where k.contype = 'f' and k.conparentid = 0 and x.privileges is not null
        and k.conrelid not in (select i.relation from isolated as i)
    union all
    select * from multigres.cascades();
end
$$;


-- ADD CONSTRAINT of a unique or an exclusion constraint with these columns in front.
create or replace function multigres.tight_key("constraint" oid, added smallint[]) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select case when k.contype = 'x'
            then format('exclude using %I (%s, ', m.amname,
                    multigres.column_list(k.conrelid, added, case m.amname when 'btree'
                        then ' with =' else ' with operator(pg_catalog.=)' end))
                || substr(pg_get_constraintdef(k.oid),
                    length(format('EXCLUDE USING %I (', m.amname)) + 1)
            else concat(
                case k.contype when 'p' then 'primary key' else 'unique' end,
                case when (to_jsonb(x) ->> 'indnullsnotdistinct')::boolean
                    then ' nulls not distinct' end,
                format(' (%s%s)', multigres.column_list(k.conrelid, added || k.conkey),
                    case when multigres.has_period(k.oid) then ' without overlaps' end),
                ' include (' || multigres.column_list(k.conrelid,
                    (x.indkey::int2[])[x.indnkeyatts:]) || ')',
                (
                    select format(' with (%s)', string_agg(format('%I = %L', o.option_name,
                        o.option_value), ', '))
                    from pg_options_to_table(c.reloptions) as o having count(*) > 0
                ),
                ' using index tablespace ' || quote_ident(s.spcname),
                case when k.condeferrable then ' deferrable' end,
                case when k.condeferred then ' initially deferred' end)
            end
        from pg_constraint as k
        join pg_index as x on x.indexrelid = k.conindid
        join pg_class as c on c.oid = x.indexrelid
        join pg_am as m on m.oid = c.relam
        left join pg_tablespace as s on s.oid = c.reltablespace
        where k.oid = "constraint");
end
$$;


-- Why a unique index cannot take these columns in front; NULL where it can.
create or replace function multigres.key_obstacle(
    index oid, "constraint" oid, added smallint[])
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce(
        multigres.index_obstacle(index, added),
        (
            select format('%s depends on it: change that first',
                pg_describe_object(d.classid, d.objid, d.objsubid))
            from pg_depend as d
            where d.refclassid = 'pg_constraint'::regclass and d.refobjid = "constraint"
                and d.classid in ('pg_rewrite'::regclass, 'pg_proc'::regclass)
            limit 1
        ),
        (
            select format('it compares %s by another operator than =: drop it',
                multigres.column_list(x.indrelid, added))
            from pg_index as x
            where x.indexrelid = index and multigres.key_columns(index) && added
        ));
end
$$;


-- A unique index of exactly these columns that no constraint has yet, and that one can take over.
create or replace function multigres.free_index(relation oid, columns smallint[]) returns name
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select c.relname
        from pg_index as x join pg_class as c on c.oid = x.indexrelid
        where x.indrelid = relation and x.indisunique and x.indisvalid and x.indimmediate
            and x.indpred is null and x.indexprs is null and x.indnatts = x.indnkeyatts
            and (x.indkey::int2[])[0:x.indnkeyatts - 1] = columns
            and not exists (select from unnest(x.indoption::int2[]) as o where o <> 0)
            and not exists (
                select from unnest(x.indkey::int2[], x.indclass::oid[], x.indcollation::oid[])
                    as k(number, opclass, "collation")
                join pg_attribute as a on a.attrelid = relation and a.attnum = k.number
                join pg_opclass as o on o.oid = k.opclass
                where not o.opcdefault or a.attcollation <> k."collation")
            and multigres.index_constraint(x.indexrelid) is null
        limit 1);
end
$$;


-- Unique keys of protected tables that leave the tenant out. Those of a partition that are not
-- its share of its parent's key are looked at like those of a table.
create or replace function multigres.check_constraints()
returns table (lint text, object text, problem text, fix text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with referring as materialized (
        select k.conindid, k.conrelid, k.conname, l.key,
            l.reference is null or l.obstacle is not null as stays
        from pg_constraint as k left join multigres.loose_references() as l on l.reference = k.oid
        where k.contype = 'f' and k.conparentid = 0
    ),
    standing as (
        select r.conindid, min(format('constraint %I on %s depends on it: change that one first',
            r.conname, r.conrelid::regclass)) as problem
        from referring as r where r.stays group by r.conindid
    ),
    uniques as (
        select x.*, t.relkind, c.reloptions, c.reltablespace, k.oid as "constraint", k.conname,
            k.contype, coalesce(k.condeferrable, false) as deferrable,
            multigres.column_list(x.indrelid, i.numbers) as columns, l.added,
            l.added || key.columns as tight,
            -- A number or a uuid that the database makes up says nothing about a tenant, and
            -- nobody collides with it by chance: every ORM makes such a primary key.
            x.indisprimary and x.indnkeyatts = 1 and a.atttypid in ('smallint'::regtype,
                'integer'::regtype, 'bigint'::regtype, 'uuid'::regtype)
                and (a.attidentity <> '' or a.atthasdef) as surrogate
        from multigres.isolated() as i
        join pg_index as x on x.indrelid = i.relation and (x.indisunique or x.indisexclusion)
        join pg_class as c on c.oid = x.indexrelid
        join pg_class as t on t.oid = x.indrelid
        left join pg_constraint as k on k.conindid = x.indexrelid and k.contype in ('p', 'u', 'x')
        left join pg_attribute as a on a.attrelid = x.indrelid and a.attnum = x.indkey[0]
        cross join lateral (
            select (x.indkey::int2[])[0:x.indnkeyatts - 1] as columns
        ) as key
        cross join lateral (
            select multigres.lacking(i.numbers, i.tenant,
                case when k.conexclop is null then key.columns
                    else array(
                        select u.number from unnest(key.columns, k.conexclop) as u(number, operator)
                        join pg_operator as o on o.oid = u.operator
                        where o.oprname = '=')
                end) as added
            offset 0
        ) as l
        where l.added is not null
            and not exists (select from pg_inherits as h where h.inhrelid = x.indexrelid)
    )
    select case when u.surrogate then 'surrogate_key_without_tenant'
            else 'unique_without_tenant' end,
        case when u.conname is null then 'index ' || u.indexrelid::regclass
            else format('constraint %I on %s', u.conname, u.indrelid::regclass) end,
        format('is unique without %s: a tenant learns that another has the same value', u.columns)
            || case when u.surrogate then ' (the database makes these numbers or uuids, so that '
                'says little)' else ', and cannot use it' end,
        case
            when why.obstacle is not null then '-- ' || why.obstacle
            when u."constraint" is null then multigres.rebuilt_index(u.indexrelid, u.added)
            else concat(multigres.need_extension(u.indexrelid),
                format('alter table %s drop constraint %I, add constraint %I ',
                    u.indrelid::regclass, u.conname, u.conname),
                coalesce(case u.contype when 'p' then 'primary key' when 'u' then 'unique' end
                    || ' using index ' || quote_ident(made.name),
                    multigres.tight_key(u."constraint", u.added)),
                multigres.index_aftercare(u.indexrelid))
        end
    from uniques as u
    left join standing as s on s.conindid = u.indexrelid
    cross join lateral (
        select coalesce(multigres.key_obstacle(u.indexrelid, u."constraint", u.added), s.problem)
            as obstacle
        offset 0
    ) as why
    -- The index that the references have got, or get by what mends them.
    left join lateral (
        select coalesce(multigres.free_index(u.indrelid, u.tight), (
            select multigres.key_name(u.indrelid, r.key) from referring as r
            where r.conindid = u.indexrelid and r.key = u.tight and not r.stays limit 1)) as name
        where u.relkind = 'r' and not u.indisexclusion and not u.deferrable
            and u.indnatts = u.indnkeyatts and u.reloptions is null and u.reltablespace = 0
            and not coalesce((to_jsonb(u) ->> 'indnullsnotdistinct')::boolean, false)
        offset 0
    ) as made on true;
end
$$;


revoke all on function multigres.has_period(oid),
    multigres.reference_columns(oid, oid, smallint[]),
    multigres.reference_obstacle(oid, smallint[], smallint[]), multigres.loose_references(),
    multigres.tight_reference(oid, smallint[], smallint[]), multigres.cascades(),
    multigres.tight_key(oid, smallint[]), multigres.key_obstacle(oid, oid, smallint[]),
    multigres.free_index(oid, smallint[]), multigres.check_references(),
    multigres.check_constraints() from public;
