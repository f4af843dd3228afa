-- Tables that should be protected and are not, or only in part.
create or replace function multigres.check_tables()
returns table (lint text, object text, problem text, fix text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with recursive isolations as materialized (
        select * from multigres.isolations()
    ),
    protection as (
        select i.relation, min(i.column_name) as column_name, array_agg(i.column_number) as numbers,
            string_agg(quote_ident(i.column_name), ', ' order by i.column_number) as columns,
            -- The calls that protect a table again, column by column.
            string_agg(format('select public.multigres_protect(%L, %L%s)', i.relation::regclass,
                i.column_name, case when i.variable <> 'app.current_tenant_id'
                    then format(', %L', i.variable) else '' end), '; ') as again
        from isolations as i group by i.relation
    ),
    family(relation, top, depth) as (
        select i.inhrelid, i.inhparent, 1 from pg_inherits as i
        union all
        select f.relation, i.inhparent, f.depth + 1
        from family as f join pg_inherits as i on i.inhrelid = f.top
    ),
    tables as (
        select c.oid as id, c.oid::regclass::text as name, c.*, p.relation is not null as protected,
            p.numbers, p.columns, p.again, above.again as again_above, below.name as open_below,
            multigres.reached(c.oid, 'SELECT', 'INSERT', 'UPDATE', 'DELETE') as reached,
            multigres.reached(c.oid, 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE') as written,
            (
                select t.attname from pg_attribute as t
                where t.attrelid = c.oid and t.attnum > 0 and not t.attisdropped
                    and (t.attname = 'tenant_id'
                        or t.attname in (select q.column_name from protection as q))
                order by t.attname <> 'tenant_id' limit 1
            ) as tenant_column
        from pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        left join protection as p on p.relation = c.oid
        left join lateral (
            select q.again from family as f join protection as q on q.relation = f.top
            where f.relation = c.oid order by f.depth desc limit 1
        ) as above on true
        -- A protected part of it that compares what it does not.
        left join lateral (
            select q.relation::regclass::text as name
            from family as f join isolations as q on q.relation = f.relation
            where f.top = c.oid and not exists (
                select from isolations as own
                where own.relation = c.oid and own.variable = q.variable
                    and own.column_name = q.column_name)
            order by 1 limit 1
        ) as below on true
        where c.relkind in ('r', 'p') and c.relpersistence <> 't'
            and n.nspname not in ('multigres', 'pg_catalog', 'information_schema', 'pg_toast')
            and not exists (
                select from pg_depend as d
                where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
    )
    select 'table_rls_disabled', 'table ' || t.name, 'row-level security is disabled',
        format('alter table %s enable row level security', t.name)
    from tables as t where t.protected and not t.relrowsecurity
    union all
    select 'table_not_forced', 'table ' || t.name,
        'row-level security is not forced, so its owner sees all rows',
        format('alter table %s force row level security', t.name)
    from tables as t where t.protected and not t.relforcerowsecurity
    union all
    select case when t.reached is null then 'part_not_granted' else 'part_not_protected' end,
        'table ' || t.name,
        'is a part of a protected table and has no policy of its own'
            || case when t.reached is null then '; app_user has no privilege on it'
                else ': a query that names it sees all rows' end,
        t.again_above
    from tables as t where not t.protected and t.again_above is not null
    union all
    select 'parent_not_protected', 'table ' || t.name,
        format('app_user has %s and sees the rows of %s in it, past its policies', t.reached,
            t.open_below),
        format('-- select public.multigres_protect(%L, COLUMN, VARIABLE), with all of %s', t.name,
            t.open_below)
    from tables as t where t.open_below is not null and t.reached is not null
    union all
    -- The policies of others may be right; nothing here can tell.
    select case when t.relrowsecurity then 'table_with_other_policies'
            else 'table_not_protected' end,
        'table ' || t.name,
        format('has a column %I and is not protected; app_user has %s', t.tenant_column, t.reached),
        format('select public.multigres_protect(%L, %L)', t.name, t.tenant_column)
    from tables as t
    where not t.protected and coalesce(t.again_above, t.open_below) is null
        and t.tenant_column is not null
        and t.reached is not null
    union all
    select case when t.written is null then 'table_shared_read' else 'table_shared_written' end,
        'table ' || t.name,
        'is not protected: all tenants ' || case when t.written is null then 'read the same rows'
            else 'write the same rows' end,
        case when t.written is null then multigres.revoke_table(t.id, 'SELECT')
            else multigres.revoke_table(t.id, 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE',
                'REFERENCES', 'TRIGGER', 'MAINTAIN') end
    from tables as t
    where not t.protected and coalesce(t.again_above, t.open_below) is null
        and t.tenant_column is null
        and coalesce(t.reached, t.written) is not null
    union all
    select 'table_owned_by_tenants', 'table ' || t.name,
        format('app_user can become its owner %I, who can disable row-level security',
            r.rolname),
        format('alter table %s owner to %I', t.name, current_user)
    from tables as t join pg_roles as r on r.oid = t.relowner
    where (t.protected or t.tenant_column is not null) and not r.rolsuper
        and t.relowner in (select multigres.app_roles())
    union all
    select 'table_privilege_not_covered', 'table ' || t.name,
        format('app_user has %s, which row-level security does not cover', x.privileges),
        multigres.revoke_table(t.id, 'TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN')
    from tables as t,
        multigres.reached(t.id, 'TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN')
            as x(privileges)
    where t.protected and x.privileges is not null
        and t.relowner not in (select multigres.app_roles())
    union all
    select 'tenant_column_nullable', 'table ' || t.name,
        format('column %I may be NULL: a row without a tenant is visible to no tenant',
            i.column_name),
        format('alter table %s alter column %I set not null', t.name, i.column_name)
    from tables as t
    join isolations as i on i.relation = t.id
    join pg_attribute as a on a.attrelid = t.id and a.attnum = i.column_number
    where not a.attnotnull and not t.relispartition
    union all
    select 'tenant_column_not_indexed', 'table ' || t.name,
        format('no index begins with %s: each query reads the rows of all tenants', t.columns),
        format('create index on %s (%s)', t.name, t.columns)
    from tables as t
    where t.protected and not t.relispartition and t.columns is not null and not exists (
        select from pg_index as x
        where x.indrelid = t.id and x.indisvalid and x.indpred is null
            and x.indkey[0] = any (t.numbers));
end
$$;

revoke all on function multigres.check_tables() from public;
