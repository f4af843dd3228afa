-- Views that read with other rights than those of app_user, and relations that cannot have
-- policies.
create or replace function multigres.check_views()
returns table (lint text, object text, problem text, fix text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with recursive names(name) as (
        select 'tenant_id'::name
        union
        select i.column_name from multigres.isolations() as i
    ),
    holding as (
        -- Tables and foreign tables with a tenant's rows in them.
        select c.oid as id from pg_class as c
        where c.relkind in ('r', 'p', 'f') and c.relnamespace <> 'pg_catalog'::regnamespace
            and exists (select from pg_attribute as a join names as n on n.name = a.attname
                where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped)
        union
        select i.relation from multigres.isolations() as i
        union
        -- Values of all tenants, and what Multigres keeps.
        select c.oid from pg_class as c
        where c.oid in ('pg_statistic'::regclass, 'pg_statistic_ext_data'::regclass,
                'pg_largeobject'::regclass, 'pg_authid'::regclass, 'pg_shadow'::regclass,
                to_regclass('public.multigres_seal_keys'))
            or c.relnamespace = 'multigres'::regnamespace and c.relkind = 'r'
    ),
    reads(reader, relation) as (
        select r.ev_class, d.refobjid
        from pg_rewrite as r
        join pg_depend as d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
            and d.refclassid = 'pg_class'::regclass and d.refobjid <> r.ev_class
        where r.ev_type = '1'
        union
        -- No dependency on what PostgreSQL itself brings is recorded.
        select r.ev_class, c.oid
        from pg_rewrite as r
        join pg_class as c on r.ev_action::text like '% :relid ' || c.oid || ' %'
        where r.ev_type = '1' and r.ev_class >= 16384
            and c.oid < 16384 and c.relname in ('pg_statistic', 'pg_statistic_ext_data',
                'pg_largeobject', 'pg_authid', 'pg_shadow', 'pg_stats', 'pg_stats_ext',
                'pg_stats_ext_exprs')
        union
        select s.reader, d.refobjid
        from reads as s
        join pg_rewrite as r on r.ev_class = s.relation and r.ev_type = '1'
            and s.relation >= 16384
        join pg_depend as d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
            and d.refclassid = 'pg_class'::regclass and d.refobjid <> r.ev_class
    ),
    relations as (
        select c.oid as id, c.oid::regclass::text as name, c.relkind, c.relowner,
            o.rolname as owner,
            o.rolsuper or o.rolbypassrls as past_policies,
            multigres.reached(c.oid, 'SELECT', 'INSERT', 'UPDATE', 'DELETE') as reached,
            exists (select from holding as h where h.id = c.oid
                union all
                select from reads as s join holding as h on h.id = s.relation
                where s.reader = c.oid
                union all
                -- They show each reader what that role may see, except in a copy.
                select from reads as s
                where s.reader = c.oid and c.relkind = 'm' and s.relation in (
                    'pg_stats'::regclass, 'pg_stats_ext'::regclass,
                    to_regclass('pg_catalog.pg_stats_ext_exprs'))) as holds,
            -- A copy below it, or a table without policies that apply to its owner.
            exists (
                select from reads as s join pg_class as t on t.oid = s.relation
                where s.reader = c.oid and (
                    t.relkind = 'm' and exists (
                        select from reads as u join holding as h on h.id = u.relation
                        where u.reader = t.oid)
                    or s.relation in (select h.id from holding as h)
                        and not (t.relrowsecurity and (t.relforcerowsecurity
                            or t.relowner <> c.relowner)))) as unheld,
            exists (
                select from pg_options_to_table(c.reloptions) as x
                where x.option_name = 'security_invoker' and x.option_value::boolean
            ) as invoker
        from pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        join pg_roles as o on o.oid = c.relowner
        where c.relkind in ('v', 'm', 'f')
            and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
            and not exists (
                select from pg_depend as d
                where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
    )
    select case when r.past_policies or r.unheld then 'view_bypasses_policies'
            else 'view_with_owner_rights' end,
        'view ' || r.name,
        format('reads with the rights of its owner %I', r.owner)
            || case when r.past_policies then ', who bypasses row-level security'
                when r.unheld then ', to whom no policy of the tables that it reads applies'
                else '' end,
        case when current_setting('server_version_num')::int >= 150000
            then format('alter view %s set (security_invoker = true)', r.name)
            else multigres.revoke_table(r.id, 'SELECT', 'INSERT', 'UPDATE', 'DELETE') end
    from relations as r
    where r.relkind = 'v' and r.reached is not null and r.holds and not r.invoker
        and (r.past_policies or r.unheld
            or current_setting('server_version_num')::int >= 150000)
    union all
    select case when r.holds then 'relation_without_policies' else 'relation_shared_read' end,
        case r.relkind when 'm' then 'materialized view ' else 'foreign table ' end || r.name,
        'app_user has ' || r.reached || ' on it, and it cannot have policies',
        multigres.revoke_table(r.id, 'SELECT', 'INSERT', 'UPDATE', 'DELETE')
    from relations as r
    where r.relkind in ('m', 'f') and r.reached is not null;
end
$$;

revoke all on function multigres.check_views() from public;
