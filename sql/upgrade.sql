-- Policies as an older version made them: they hold, but would run the function for every row,
-- take citext that differs in case for the same, or ask for each of several contexts twice.
do $$
declare
    old record;
begin
    for old in
        select d.relation, d.column_name, d.variable, d.memory,
            pg_has_role(c.relowner, 'usage') as owned
        from public.multigres_dimensions() as d
        join pg_class as c on c.oid = d.relation
        left join pg_policy as p on p.polrelid = d.relation and p.polname = d.policy
            and starts_with(
                public.multigres_predicate(d.relation, d.column_name, d.variable),
                '(' || pg_get_expr(p.polqual, p.polrelid) || ' AND ')
            and pg_get_expr(p.polwithcheck, p.polrelid) = pg_get_expr(p.polqual, p.polrelid)
            and not p.polpermissive and p.polcmd = '*' and p.polroles = '{0}'
        where not d.intact and (d.memory is null or p.oid is not null)
            and d.column_name is not null and d.variable is not null
    loop
        if old.owned then
            perform public.multigres_isolate(old.relation, old.column_name, old.variable,
                old.memory);
        else
            raise notice '% has policies of an older version: % does not own it',
                old.relation, current_user
                using hint = 'Let its owner call multigres_protect() once more.';
        end if;
    end loop;

    perform public.multigres_admit(access.polrelid::regclass)
    from pg_policy as access
    join pg_class as c on c.oid = access.polrelid
    where access.polname = 'multigres_access' and pg_has_role(c.relowner, 'usage')
        and pg_get_expr(access.polqual, access.polrelid) = (
            select '(' || string_agg(pg_get_expr(p.polqual, p.polrelid), ' AND '
                order by p.polname) || ')'
            from public.multigres_dimensions(access.polrelid) as d
            join pg_policy as p on p.polrelid = d.relation and p.polname = d.policy
            having count(*) > 1);

    perform public.multigres_record(unknown.relation)
    from (
        select distinct d.relation from public.multigres_dimensions() as d
        where d.memory -> 'dimensions' -> d.policy::text is null
    ) as unknown
    join pg_class as c on c.oid = unknown.relation
    where pg_has_role(c.relowner, 'usage');
end
$$;


-- Defaults as an older version made them, which verify a sealed context for every row.
do $$
declare
    old record;
begin
    for old in
        select d.relation, d.column_name, d.variable,
            case when t.typtype = 'd' then t.typbasetype else t.oid end as type
        from public.multigres_dimensions() as d
        join pg_class as c on c.oid = d.relation
        join pg_attribute as a on a.attrelid = d.relation and a.attname = d.column_name
        join pg_type as t on t.oid = a.atttypid
        join pg_attrdef as f on f.adrelid = a.attrelid and f.adnum = a.attnum
        where d.memory ->> 'default' = 'true' and pg_has_role(c.relowner, 'usage')
            and pg_get_expr(f.adbin, f.adrelid)
                ~ '^[(]*public[.](current_tenant_id|multigres_context)[(]'
    loop
        execute format('alter table only %s alter column %I set default '
                '(nullif(current_setting(%L, true), ''''))::%s',
            old.relation, old.column_name, old.variable, format_type(old.type, null));
    end loop;
end
$$;
