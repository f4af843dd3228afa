-- Policies that no longer hold tenants apart, or that a session can get around.
create or replace function multigres.check_policies()
returns table (lint text, object text, problem text, fix text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with recursive above(relation, top, depth) as (
        select c.oid, c.oid, 0 from pg_class as c
        where c.oid in (select i.relation from multigres.isolations() as i)
        union all
        select a.relation, i.inhparent, a.depth + 1
        from above as a join pg_inherits as i on i.inhrelid = a.top
    ),
    isolations as materialized (
        select i.*, format('policy multigres_isolation on %s', i.relation) as object,
            i.relation::regclass::text as name, multigres.form(i.relation) as form,
            multigres.wanted_form(i.relation) as wanted,
            case when i.column_number is null and i.column_name is not null
                then format('select public.multigres_unprotect(%L, %L)', w.whole, i.column_name)
                else format('select public.multigres_protect(%L, %L%s)', w.whole, t.attname,
                    case when i.variable <> 'app.current_tenant_id'
                        then format(', %L', i.variable) else '' end) end as again,
            t.named or t.attname in (i.column_name, 'tenant_id') as column_is_known
        from multigres.isolations() as i
        cross join lateral (
            select a.top::regclass from above as a where a.relation = i.relation
            order by a.depth desc limit 1
        ) as w(whole)
        left join lateral (
            -- A changed policy without a record need not name its column any more: the policy
            -- beside it does.
            select a.attname, e.named
            from pg_attribute as a
            cross join lateral (
                select exists (
                    select from pg_depend as d join pg_policy as p on p.oid = d.objid
                    where p.polrelid = i.relation and p.polname ~ '^multigres_'
                        and d.classid = 'pg_policy'::regclass and d.refobjid = i.relation
                        and d.refclassid = 'pg_class'::regclass and d.refobjsubid = a.attnum)
            ) as e(named)
            where a.attrelid = i.relation and a.attnum > 0 and not a.attisdropped
            order by coalesce(a.attname = i.column_name, false) desc, e.named desc,
                a.attname = 'tenant_id' desc
            limit 1
        ) as t on true
    ),
    policies as (
        select p.*, format('policy %I on %s', p.polname, p.polrelid::regclass) as object,
            c.relrowsecurity, e.qual, e.given,
            p.polrelid in (select i.relation from isolations as i where i.form is not null) as held,
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
    select case
            when x.held then 'policy_changed'
            when p.polpermissive then 'policy_not_restrictive'
            when p.polroles <> '{0}' then 'policy_not_for_all_roles'
            when p.polcmd <> '*' then 'policy_not_for_all_commands'
            else 'policy_changed' end,
        case when x.held then format('policy multigres_access on %s', i.name) else i.object end,
        case
            when x.held then 'differs from the restrictive policy'
            when p.polpermissive then 'is permissive: any other permissive policy widens it'
            when p.polroles <> '{0}' then 'applies only to '
                || (
                    select string_agg(quote_ident(r.rolname), ', ' order by r.rolname)
                    from pg_roles as r where r.oid = any (p.polroles))
            when p.polcmd <> '*' then 'does not apply to all commands'
            else 'is not the policy that multigres_protect() makes'
        end,
        min(i.again)
    from isolations as i
    join pg_policy as p on p.oid = i.policy
    cross join lateral (
        select not p.polpermissive and p.polroles = '{0}' and p.polcmd = '*'
            and pg_get_expr(p.polwithcheck, p.polrelid) = multigres.condition(i.relation, false)
            and pg_get_expr(p.polqual, p.polrelid) in (multigres.condition(i.relation, false),
                multigres.condition(i.relation, true)) as held
    ) as x
    where i.form is null
    group by i.relation, i.object, i.name, x.held, p.oid, p.polpermissive, p.polroles, p.polcmd
    union all
    -- A column that was dropped took the policy along.
    select 'policy_missing', 'table ' || i.name,
        format('the policy that compares column %I with %s is missing', i.column_name, i.variable),
        i.again
    from isolations as i
    where i.policy is null and i.column_name is not null
        and (i.column_number is null or not exists (
            select from isolations as j where j.relation = i.relation and j.column_number is null))
    union all
    -- Nothing but its name says that a table is protected, and no column is known.
    select 'policy_changed', format('policy %I on %s', p.polname, i.name),
        'is not the policy that multigres_protect() makes',
        case when i.column_is_known then i.again
            else format('select public.multigres_unprotect(%L)', i.name)
                -- It may have closed the table, and unprotecting it ends that.
                || case when c.relrowsecurity
                    then format('; alter table %s enable row level security', i.name)
                    else '' end
            end
    from isolations as i
    join pg_class as c on c.oid = i.relation
    join pg_policy as p on p.polrelid = i.relation
        and starts_with(p.polname::text, 'multigres_isolation')
    where i.policy is null and i.column_name is null
    union all
    select case when t.front is false then 'seal_front_off' else 'policy_not_sealed' end,
        'table ' || i.name,
        case when t.front is false
                then 'multigres_front() lets a query''s own conditions run before the policy'
            else 'has the policies of a database that is not sealed' end
            || ': SQL of a tenant''s own can guess what is in the rows of others',
        case when t.front is false then format('select public.multigres_front(%L, true)', i.name)
            else min(i.again) end
    from isolations as i left join multigres.tables as t on t.relation = i.relation
    where i.form = 'plain' and multigres.sealed()
    group by i.relation, i.name, t.front
    union all
    select 'policy_still_sealed', 'table ' || i.name,
        'has the policies of a sealed database, which cost more', min(i.again)
    from isolations as i where i.form <> i.wanted and i.form = 'fronted'
    group by i.relation, i.name
    union all
    select 'privilege_without_policy', 'table ' || i.name,
        format('app_user has %s, and no permissive policy allows it', x.privileges),
        case
            when not exists (
                select from unnest('{r,a,w,d}'::"char"[]) as c
                where multigres.admits(i.relation, c))
            then min(i.again)
            else (
                select string_agg(format('create policy %I on %s for %s to app_user %s',
                    'app_user_' || c.command, i.name, c.command,
                    case c.command when 'insert' then 'with check (true)' else 'using (true)' end),
                    '; ')
                from unnest(string_to_array(lower(x.privileges), ', ')) as c(command)
            )
        end
    from isolations as i
    cross join lateral multigres.shut_out(i.relation) as x(privileges)
    where i.form is not null and x.privileges is not null
    group by i.relation, i.name, x.privileges
    union all
    select 'role_sees_no_row', 'table ' || i.name,
        format('role %I has privileges on it and sees no row, because it is not a member of '
            'app_user', x.role),
        format('grant app_user to %I', x.role)
    from isolations as i cross join lateral multigres.strangers(i.relation) as x(role)
    where i.form is not null
    union all
    select 'tenant_column_without_default', 'table ' || i.name,
        format('column %I has no default: an INSERT that leaves it out fails',
            i.column_name),
        i.again
    from isolations as i where multigres.is_bare(i.relation, i.column_name)
    union all
    -- Where the restrictive policy is gone or changed, a permissive one decides alone, and nothing
    -- is known about it unless multigres_protect() made it.
    select 'policy_opens_table', p.object,
        'opens the table: it has no intact policy of Multigres'
            || case when p.polroles <> '{0}' and not p.polroles && array(
                select multigres.app_roles()) then ' (for roles other than app_user)'
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
        -- Those of a protected table have lints of their own.
        and (p.polname !~ '^multigres_' or not p.protected and p.polname <> 'multigres_access')
    union all
    select 'policy_without_isolation', p.object, 'the restrictive policy beside it is missing',
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
    union all
    -- Any session may SET it. A sealed database must not depend on that.
    select case when multigres.sealed() then 'policy_not_held_by_seal'
            else 'policy_reads_setting' end,
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
                    and f.proname in ('current_tenant_id', 'multigres_context',
                        'multigres_own')));
end
$$;

revoke all on function multigres.check_policies() from public;
