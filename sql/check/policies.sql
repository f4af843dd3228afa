-- Policies that no longer hold, or that a session can talk round.
create or replace function public.multigres_check_policies()
returns table (severity text, object text, problem text, fix text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with isolations as (
        select i.*, format('policy %I on %s', i.policy_name, i.relation::regclass) as object,
            format('drop policy %I on %s; select public.multigres_protect(%L, %L%s)',
                i.policy_name, i.relation::regclass, i.relation::regclass, t.attname,
                case when x.variable <> 'app.current_tenant_id'
                    then format(', %L', x.variable) else '' end) as again
        from public.multigres_isolations() as i
        cross join lateral (
            select public.multigres_memory(obj_description(i.policy, 'pg_policy'))
        ) as m(memory)
        cross join lateral (
            select case when i.intact then i.variable
                else coalesce(m.memory ->> 'variable', i.variable) end as variable
        ) as x
        left join lateral (
            -- A changed policy need not name its column any more: its comment does, or the policy
            -- beside it.
            select a.attname from pg_attribute as a
            where a.attrelid = i.relation and a.attnum > 0 and not a.attisdropped
            order by coalesce(a.attname = i.column_name and i.intact, false) desc,
                coalesce(a.attname = m.memory ->> 'column', false) desc,
                exists (
                    select from pg_depend as d join pg_policy as p on p.oid = d.objid
                    where p.polrelid = i.relation and p.polname = 'multigres_access'
                        and d.classid = 'pg_policy'::regclass and d.refobjid = i.relation
                        and d.refclassid = 'pg_class'::regclass and d.refobjsubid = a.attnum) desc,
                coalesce(a.attname = i.column_name, false) desc, a.attname = 'tenant_id' desc
            limit 1
        ) as t on true
    ),
    policies as (
        select p.*, format('policy %I on %s', p.polname, p.polrelid::regclass) as object,
            c.relrowsecurity, e.qual, e.given,
            p.polrelid in (select i.relation from isolations as i where i.intact) as held,
            p.polrelid in (select i.relation from isolations as i) as protected
        from pg_policy as p
        join pg_class as c on c.oid = p.polrelid
        cross join lateral (
            select pg_get_expr(p.polqual, p.polrelid) as qual,
                pg_get_expr(p.polwithcheck, p.polrelid) as given
        ) as e
        where not exists (
            select from pg_depend as d
            where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
    )
    select 'error', i.object,
        case
            when p.polpermissive then 'is permissive: any other policy widens it'
            when p.polroles <> '{0}' then 'holds only the roles '
                || (
                    select string_agg(quote_ident(r.rolname), ', ' order by r.rolname)
                    from pg_roles as r where r.oid = any (p.polroles))
            when p.polcmd <> '*' then 'does not hold every command'
            else 'does not compare a column with the context, and nothing else'
        end,
        i.again
    from isolations as i join pg_policy as p on p.oid = i.policy
    where not i.intact
    union all
    select 'warning', i.object, 'has no WITH CHECK of its own',
        format('alter policy %I on %s with check (%s)', i.policy_name, i.relation::regclass,
            pg_get_expr(p.polqual, p.polrelid))
    from isolations as i join pg_policy as p on p.oid = i.policy
    where i.intact and p.polwithcheck is null
    union all
    -- Where the restrictive policy is gone or changed, each permissive one is the whole of the
    -- isolation; but for that of multigres_protect() nothing is known about it.
    select 'error', p.object,
        'opens the table: no policy of Multigres stands beside it'
            || case when p.polroles <> '{0}' and not p.polroles && array(
                select public.multigres_app_roles()) then ' (for roles other than app_user)'
                else '' end,
        format('select public.multigres_protect(%L, %L)', p.polrelid::regclass, t.attname)
    from policies as p
    join lateral (
        select a.attname from pg_attribute as a
        where a.attrelid = p.polrelid and a.attnum > 0 and not a.attisdropped
            and (a.attname = 'tenant_id'
                or a.attname in (select i.column_name from isolations as i))
        order by a.attname <> 'tenant_id' limit 1
    ) as t on true
    where p.polpermissive and p.relrowsecurity and not p.held
        and (coalesce(p.qual, p.given) = 'true' or p.given = 'true' or p.protected)
        and p.polname !~ '^multigres_'
    union all
    select 'error', p.object, 'stands alone: the restrictive policy beside it is gone',
        format('select public.multigres_protect(%L, %L)', p.polrelid::regclass, t.attname)
    from policies as p
    join lateral (
        select a.attname from pg_depend as d
        join pg_attribute as a on a.attrelid = p.polrelid and a.attnum = d.refobjsubid
        where d.classid = 'pg_policy'::regclass and d.objid = p.oid
            and d.refclassid = 'pg_class'::regclass and d.refobjid = p.polrelid
            and d.refobjsubid > 0
        order by a.attnum limit 1
    ) as t on true
    where p.polname = 'multigres_access' and not p.protected
        and p.polrelid not in (select l.relation from public.multigres_lost() as l)
    union all
    -- The policies that are left know of it, and do not hold what it held.
    select 'error', format('table %s', l.relation),
        format('the policy of column %I is gone, and nothing compares it with %s', l.column_name,
            l.variable),
        case
            when exists (
                select from pg_attribute as a
                where a.attrelid = l.relation and a.attname = l.column_name)
            then format('select public.multigres_protect(%L, %L, %L)', t.whole, l.column_name,
                l.variable)
            else format('select public.multigres_unprotect(%L, %L)', t.whole, l.column_name)
        end
    from public.multigres_lost() as l
    cross join lateral (
        with recursive above(id, depth) as (
            select l.relation::oid, 0
            union all
            select i.inhparent, depth + 1
            from pg_inherits as i join above on i.inhrelid = above.id
        )
        select above.id::regclass from above order by above.depth desc limit 1
    ) as t(whole)
    union all
    -- A session may SET what it likes. Sealed, the whole point is that this does not help it.
    select case when to_regclass('multigres.seal_keys') is null
            then 'info' else 'error' end,
        p.object,
        'reads a setting that any session may SET',
        case when p.held then format('drop policy %I on %s', p.polname, p.polrelid::regclass)
            else coalesce(
                (
                    select format('drop policy %I on %s; select public.multigres_protect(%L, %L)',
                        p.polname, p.polrelid::regclass, p.polrelid::regclass, a.attname)
                    from pg_depend as d
                    join pg_attribute as a on a.attrelid = p.polrelid and a.attnum = d.refobjsubid
                    where d.classid = 'pg_policy'::regclass and d.objid = p.oid
                        and d.refclassid = 'pg_class'::regclass and d.refobjid = p.polrelid
                        and d.refobjsubid > 0
                    order by a.attname <> 'tenant_id', a.attnum limit 1
                ),
                format('drop policy %I on %s', p.polname, p.polrelid::regclass))
        end
    from policies as p
    where concat(p.qual, ' ', p.given) ~ '\mcurrent_setting\('
        or exists (
            select from pg_depend as d join pg_proc as f on f.oid = d.refobjid
            where d.classid = 'pg_policy'::regclass and d.objid = p.oid
                and d.refclassid = 'pg_proc'::regclass
                and f.prosrc ~* '\mcurrent_setting\M'
                and not (f.pronamespace = 'public'::regnamespace
                    and f.proname in ('current_tenant_id', 'multigres_context', 'multigres_own')))
    union all
    select 'info', 'table ' || i.relation::regclass::text,
        'has no permissive policy: nobody sees a row',
        i.again
    from isolations as i
    where i.intact and not exists (
        select from pg_policy as p where p.polrelid = i.relation and p.polpermissive)
$$;
