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


-- The dimensions of protected relations, see multigres_dimensions(), with the policy that holds
-- them; `policy` is NULL where it is gone.
create or replace function public.multigres_isolations()
returns table (policy oid, policy_name name, relation oid, column_number smallint,
    column_name name, variable text, intact boolean)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select p.oid, d.policy, d.relation::oid, a.attnum, d.column_name,
        coalesce(d.variable, 'app.current_tenant_id'), d.intact
    from public.multigres_dimensions() as d
    left join pg_policy as p on p.polrelid = d.relation and p.polname = d.policy
    left join pg_attribute as a on a.attrelid = d.relation and a.attname = d.column_name
        and a.attnum > 0 and not a.attisdropped
$$;
