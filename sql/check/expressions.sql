-- Policies whose comparison treats different tenants as one.
create or replace function multigres.check_expressions()
returns table (lint text, object text, problem text, fix text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
begin
    return query
    with policies as (
        select p.polname, p.polrelid, p.oid,
            concat_ws(' ', pg_get_expr(p.polqual, p.polrelid),
                pg_get_expr(p.polwithcheck, p.polrelid)) as text
        from pg_policy as p
    )
    select 'policy_casts_tenant', format('policy %I on %s', p.polname, p.polrelid::regclass),
        format('compares after a cast to %s, which makes different tenants equal', c.type),
        -- multigres_protect() makes its own anew.
        concat_ws('; ', case when p.polname !~ '^multigres_'
            then format('drop policy %I on %s', p.polname, p.polrelid::regclass) end, (
            select format('select public.multigres_protect(%L, %L)', p.polrelid::regclass,
                a.attname)
            from pg_depend as d
            join pg_attribute as a on a.attrelid = p.polrelid and a.attnum = d.refobjsubid
            where d.classid = 'pg_policy'::regclass and d.objid = p.oid
                and d.refclassid = 'pg_class'::regclass and d.refobjid = p.polrelid
                and d.refobjsubid > 0
            order by a.attname <> 'tenant_id', a.attnum limit 1))
    from policies as p
    cross join lateral (
        -- Length and precision cut off, a name ends at 63 bytes, character ignores blanks; a
        -- constant is as it is.
        select string_agg(distinct m.parts[1], ', ') as type
        from regexp_matches(p.text, '(?<!'')::((?:character varying|character|bit varying|bit'
            '|numeric|timestamp|time|interval)\(\d+(?:,\s*-?\d+)?\)|character\M(?! varying)|bpchar'
            '|"char"|name\M|real\M|double precision|date\M)', 'g') as m(parts)
    ) as c
    where c.type is not null
        and (p.polname ~ '^multigres_'
            or p.text ~ '\m(current_tenant_id|multigres_context|multigres_own|current_setting)\(');
end
$$;

revoke all on function multigres.check_expressions() from public;
