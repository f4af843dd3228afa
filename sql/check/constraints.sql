-- Constraints look past policies: they answer whether another tenant has such a row.
create or replace function public.multigres_check_constraints()
returns table (severity text, object text, problem text, fix text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with tenants as (
        select i.relation, array_agg(i.column_number) as numbers,
            string_agg(quote_ident(i.column_name), ', ' order by i.column_number) as columns
        from public.multigres_isolations() as i
        join pg_class as c on c.oid = i.relation
        where i.column_number is not null and not c.relispartition
        group by i.relation
    ),
    uniques as (
        select x.indexrelid::regclass::text as name, x.indrelid::regclass::text as table_name,
            t.columns, k.conname, k.oid as "constraint", x.indexrelid, x.indisexclusion,
            -- A number or a uuid that the database makes up says nothing about a tenant, and
            -- nobody collides with it by chance: every ORM makes such a primary key.
            x.indisprimary and x.indnkeyatts = 1 and a.atttypid in ('smallint'::regtype,
                'integer'::regtype, 'bigint'::regtype, 'uuid'::regtype)
                and (a.attidentity <> '' or a.atthasdef) as surrogate
        from tenants as t
        join pg_index as x on x.indrelid = t.relation and (x.indisunique or x.indisexclusion)
        left join pg_constraint as k on k.conindid = x.indexrelid and k.contype in ('p', 'u', 'x')
        left join pg_attribute as a on a.attrelid = x.indrelid and a.attnum = x.indkey[0]
        where not (x.indkey::int2[])[0:x.indnkeyatts - 1] && t.numbers
    )
    select case when u.surrogate then 'info' else 'warning' end,
        case when u.conname is null then 'index ' || u.name
            else format('constraint %I on %s', u.conname, u.table_name) end,
        format('is unique without %s: it tells one tenant what another has', u.columns)
            || case when u.surrogate then ' (a number or uuid made by the database, so little)'
                else ', and keeps it from him' end,
        case when u."constraint" is not null
            then format('alter table %s drop constraint %I, add constraint %I %s', u.table_name,
                u.conname, u.conname, regexp_replace(pg_get_constraintdef(u."constraint"), '\(',
                    case when u.indisexclusion
                        then '(' || replace(u.columns, ',', ' with =,') || ' with =, '
                        else '(' || u.columns || ', ' end))
            else format('drop index %s; %s', u.name, regexp_replace(
                pg_get_indexdef(u.indexrelid), '( USING \w+ \()', '\1' || u.columns || ', '))
        end
    from uniques as u
    union all
    select 'warning', format('constraint %I on %s', k.conname, k.conrelid::regclass),
        format('refers to %s without %s: a row may point at another tenant''s',
            k.confrelid::regclass, other.columns)
            || case when k.confdeltype in ('c', 'n', 'd') or k.confupdtype in ('c', 'n', 'd')
                then ', and go or change with it' else '' end,
        concat(
            case when not exists (
                select from pg_index as x
                where x.indrelid = k.confrelid and x.indisunique and x.indpred is null
                    and (x.indkey::int2[])[0:x.indnkeyatts - 1] @> (k.confkey || other.numbers)
                    and (x.indkey::int2[])[0:x.indnkeyatts - 1] <@ (k.confkey || other.numbers))
                then format('alter table %s add unique (%s, %s); ', k.confrelid::regclass,
                    other.columns, keys.theirs)
            end,
            format('alter table %s drop constraint %I, add constraint %I ', k.conrelid::regclass,
                k.conname, k.conname),
            regexp_replace(
                regexp_replace(pg_get_constraintdef(k.oid), '\(',
                    '(' || replace(own.columns, '\', '\\') || ', '),
                '( REFERENCES .*?)\(([^()]*\))',
                '\1(' || replace(other.columns, '\', '\\') || ', \2'))
    from pg_constraint as k
    join tenants as own on own.relation = k.conrelid
    join tenants as other on other.relation = k.confrelid
    cross join lateral (
        select string_agg(quote_ident(a.attname), ', ' order by c.place) as theirs
        from unnest(k.confkey) with ordinality as c(number, place)
        join pg_attribute as a on a.attrelid = k.confrelid and a.attnum = c.number
    ) as keys
    where k.contype = 'f' and k.conparentid = 0 and not exists (
        select from unnest(k.conkey, k.confkey) as c(mine, theirs)
        where c.mine = any (own.numbers) and c.theirs = any (other.numbers))
$$;
