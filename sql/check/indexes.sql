-- Indexes without the tenant: how much of one is read tells of other tenants' rows. A query of a
-- tenant's own meets the entries of all before the policy is asked; with the tenant among the
-- keys it meets the same number for a value that others have and for one that nobody has. The
-- tenant comes first, since a range would walk the entries of others. Unique ones are constraints;
-- one of isolating columns alone, as multigres_protect() makes it, tells which contexts there are.
create or replace function multigres.check_indexes()
returns table (lint text, object text, problem text, fix text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select 'index_without_tenant', 'index ' || x.indexrelid::regclass,
        format('on %s lacks %s: how much of it is read tells about other tenants'' rows',
            x.indrelid::regclass, multigres.column_list(x.indrelid, l.added)),
        coalesce('-- ' || multigres.index_obstacle(x.indexrelid, l.added),
            multigres.rebuilt_index(x.indexrelid, l.added))
    from multigres.isolated() as i
    join pg_index as x on x.indrelid = i.relation
    join pg_class as c on c.oid = x.indexrelid
    join pg_am as m on m.oid = c.relam
    cross join lateral (
        select (x.indkey::int2[])[0:x.indnkeyatts - 1] as columns
    ) as key
    cross join lateral (
        select case
            when m.amname = 'brin' then i.numbers
            when not key.columns <@ i.numbers
            then multigres.lacking(i.numbers, i.tenant, key.columns)
            end as added
        offset 0
    ) as l
    where not x.indisunique and not x.indisexclusion and l.added is not null
        and obj_description(x.indexrelid, 'pg_class') is distinct from 'made by multigres_protect()'
        and not exists (select from pg_inherits as h where h.inhrelid = x.indexrelid);
end
$$;

revoke all on function multigres.check_indexes() from public;
