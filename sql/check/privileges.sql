-- app_user and all that it can become, 0 for PUBLIC. Empty where it does not exist. A superuser
-- is a member of every role: there it is app_user alone, for the one finding that matters.
create or replace function multigres.app_roles() returns setof oid
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select r.oid
    from pg_roles as app, pg_roles as r
    where app.rolname = 'app_user'
        and (r.oid = app.oid or not app.rolsuper and pg_has_role(app.oid, r.oid, 'member'))
    union all
    select 0::oid from pg_roles as app where app.rolname = 'app_user';
end
$$;


-- Which of these privileges app_user has on a relation of a schema that it may use; NULL for
-- none. An owner's rights and those of predefined roles are not looked at here.
create or replace function multigres.reached(relation oid, variadic privileges text[])
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with app(id) as materialized (
        select multigres.app_roles()
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
create or replace function multigres.revoke(object text, acl aclitem[], privileges text[])
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
            and a.grantee in (select multigres.app_roles())
        group by 1
    ) as r
$$;


create or replace function multigres.revoke_table(
    relation oid, variadic privileges text[])
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    -- The table's REVOKE takes those on its columns along.
    select multigres.revoke(relation::regclass::text, array_agg(a.acl), privileges)
    from (
        select unnest(c.relacl) as acl from pg_class as c where c.oid = relation
        union all
        select unnest(t.attacl) from pg_attribute as t
        where t.attrelid = relation and not t.attisdropped
    ) as a
$$;

revoke all on function multigres.app_roles(), multigres.reached(oid, text[]),
    multigres.revoke(text, aclitem[], text[]), multigres.revoke_table(oid, text[]) from public;
