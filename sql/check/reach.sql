-- app_user and all that it can become, 0 for PUBLIC. Empty where it does not exist. A superuser
-- is a member of every role: there it is app_user alone, for the one finding that matters.
create or replace function public.multigres_app_roles() returns setof oid
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select r.oid
    from pg_roles as app, pg_roles as r
    where app.rolname = 'app_user'
        and (r.oid = app.oid or not app.rolsuper and pg_has_role(app.oid, r.oid, 'member'))
    union all
    select 0::oid from pg_roles as app where app.rolname = 'app_user'
$$;


-- Which of these privileges app_user has on a relation of a schema that it may use; NULL for
-- none. An owner's rights and those of predefined roles are not looked at here.
create or replace function public.multigres_reached(relation oid, variadic privileges text[])
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with app(id) as materialized (
        select public.multigres_app_roles()
    )
    select string_agg(distinct a.privilege_type, ', ')
    from pg_class as c
    join pg_namespace as n on n.oid = c.relnamespace,
        lateral (
            select x.* from aclexplode(c.relacl) as x
            union all
            select x.* from pg_attribute as t, aclexplode(t.attacl) as x
            where t.attrelid = c.oid and not t.attisdropped
        ) as a
    where c.oid = relation and a.privilege_type = any (privileges)
        and a.grantee in (select app.id from app)
        and exists (
            select from aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) as x
            where x.privilege_type = 'USAGE' and x.grantee in (select app.id from app))
$$;


-- The REVOKE statements that take such privileges from app_user: one for each role, PUBLIC
-- among them, through which it has them.
create or replace function public.multigres_revoke(object text, acl aclitem[], privileges text[])
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select string_agg(format('revoke %s on %s from %s', r.list, object, r.grantee), '; ')
    from (
        select case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end
                as grantee,
            string_agg(distinct lower(a.privilege_type), ', ') as list
        from aclexplode(acl) as a
        where a.privilege_type = any (privileges)
            and a.grantee in (select public.multigres_app_roles())
        group by 1
    ) as r
$$;


create or replace function public.multigres_revoke_table(
    relation oid, variadic privileges text[])
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    -- The table's REVOKE takes those on its columns along.
    select public.multigres_revoke(relation::regclass::text, array_agg(a.acl), privileges)
    from (
        select unnest(c.relacl) as acl from pg_class as c where c.oid = relation
        union all
        select unnest(t.attacl) from pg_attribute as t
        where t.attrelid = relation and not t.attisdropped
    ) as a
$$;


-- What PostgreSQL may put into the text of such a comparison without changing it.
create or replace function public.multigres_noise() returns text
language sql immutable
as $$
    select '\mSELECT\M|\mAS\M\s+"?\w+"?|[()\s]'
        || '|::(character varying|"?\w+"?(\."?\w+"?)?)(\(\d+\))?'
$$;


-- The restrictive policies of Multigres, one line for each column that they hold. `intact` says
-- that the policy does what multigres_protect() made it for: everyone, every command, and a
-- comparison of the column with the context and nothing else.
create or replace function public.multigres_isolations()
returns table (policy oid, policy_name name, relation oid, column_number smallint,
    column_name name, variable text, intact boolean)
language sql stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
    select p.oid, p.polname, p.polrelid, a.attnum, a.attname, x.variable,
        not p.polpermissive and p.polcmd = '*' and p.polroles = '{0}'
            and coalesce(x.compares and y.compares, false)
    from pg_policy as p
    left join lateral (
        -- Of several columns the first: then the policy is not intact, and is found so.
        select t.attnum, t.attname
        from pg_depend as d
        join pg_attribute as t on t.attrelid = p.polrelid and t.attnum = d.refobjsubid
        where d.classid = 'pg_policy'::regclass and d.objid = p.oid
            and d.refclassid = 'pg_class'::regclass and d.refobjid = p.polrelid
            and d.refobjsubid > 0
        order by t.attnum limit 1
    ) as a on true
    cross join lateral (
        -- OFFSET 0: once for each policy, and not wherever the text is asked for.
        select pg_get_expr(p.polqual, p.polrelid) as qual offset 0
    ) as q
    cross join lateral (
        select e.bare in (
                e.name || '=public.current_tenant_id',
                e.name || '=public.multigres_context''' || e.variable || '''')
                -- As multigres_protect() writes it: citext is compared twice.
                or e.qual = public.multigres_predicate(p.polrelid, a.attname, e.variable)
                as compares,
            e.variable
        from (
            -- Casts, parentheses and the wrapping in a subquery are as the type wants them.
            select q.qual, regexp_replace(q.qual, r.noise, '', 'g') as bare,
                regexp_replace(quote_ident(a.attname), r.noise, '', 'g') as name,
                coalesce(
                    substring(q.qual from 'multigres_context\(''([^'']+)'''),
                    'app.current_tenant_id') as variable
            from (values (public.multigres_noise())) as r(noise)
        ) as e
    ) as x
    cross join lateral (
        select p.polwithcheck is null
            or pg_get_expr(p.polwithcheck, p.polrelid) = q.qual as compares
    ) as y
    where p.polname ~ '^multigres_isolation'
$$;
