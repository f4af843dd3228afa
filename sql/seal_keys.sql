-- The keys of the seal are in multigres.seal_keys, a table that exists only while the database is
-- sealed. An older version had them in public.multigres_seal_keys.


-- No sequence makes the numbers: default privileges may grant one to anybody, and setval()
-- would then decide which key is the older.
create or replace function multigres.make_keys() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if to_regclass('multigres.seal_keys') is not null then
        return;
    end if;
    create table multigres.seal_keys (
        number int primary key,
        inner_pad bytea not null constraint seal_keys_once unique,
        outer_pad bytea not null,
        bind text not null constraint seal_keys_bind check (bind in ('address', 'none')),
        added timestamptz not null default now());
    perform multigres.withhold('multigres.seal_keys');
end
$$;


-- How this role, or one that it can become, may read or change a table of keys, in words; NULL if
-- it may not. A privilege of any role except the owner counts, as it does at each login. USAGE on
-- the schema is not required: it may be granted at any time.
create or replace function multigres.reaches_keys(role_id oid, keys regclass) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select string_agg(distinct way.words, ', ')
    from pg_class as c
    cross join lateral (
        select format('%I owns it', pg_get_userbyid(c.relowner)), c.relowner, false
        union all
        select format('%s is granted to %s', a.privilege_type,
                case a.grantee when 0 then 'PUBLIC'
                    else quote_ident(pg_get_userbyid(a.grantee)) end),
            a.grantee, true
        from (
            select t.* from aclexplode(c.relacl) as t
            union all
            select x.* from pg_attribute as t, aclexplode(t.attacl) as x where t.attrelid = c.oid
        ) as a
        where a.grantee <> c.relowner
        union all
        select format('it is a member of %I', r.rolname), r.oid, false
        from pg_roles as r where r.rolname in ('pg_read_all_data', 'pg_write_all_data')
    ) as way(words, role, is_grant)
    where c.oid = keys and (way.is_grant or pg_has_role(role_id, way.role, 'member'))
$$;

-- Which role that tenants log in as would reach the keys, and how; NULL when none does. Those that
-- are members of app_user serve tenants too, unless they may act as the owner of the keys.
create or replace function multigres.keys_reached() returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select string_agg(format('%I (%s)', r.rolname, w.ways), ', ' order by r.rolname)
    from pg_class as c
    join pg_roles as r on r.rolname = 'app_user'
        or pg_has_role(r.oid, 'app_user', 'member') and not r.rolsuper
            and not pg_has_role(r.oid, c.relowner, 'member')
    cross join lateral multigres.reaches_keys(r.oid, c.oid) as w(ways)
    where c.oid = to_regclass('multigres.seal_keys') and w.ways is not null
$$;

revoke all on function multigres.make_keys(), multigres.reaches_keys(oid, regclass),
    multigres.keys_reached() from public;


do $$
declare
    old record;
    writers text;
begin
    if to_regclass('public.multigres_seal_keys') is null then
        return;
    end if;
    lock table public.multigres_seal_keys in access exclusive mode;
    select c.relkind, c.relowner, r.rolname as owner, r.rolsuper into old
    from pg_class as c join pg_roles as r on r.oid = c.relowner
    where c.oid = 'public.multigres_seal_keys'::regclass;
    if old.relkind <> 'r' or old.owner <> current_user and not old.rolsuper then
        raise exception 'multigres_seal_keys belongs to %', quote_ident(old.owner)
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Run this as its owner, or drop it if multigres_seal() did not create it.';
    end if;
    -- A key of somebody else's making would make that role the master of all tenants.
    select string_agg(distinct format('%s to %s', a.privilege_type, case a.grantee
            when 0 then 'PUBLIC' else quote_ident(pg_get_userbyid(a.grantee)) end), ', ')
    into writers
    from (
        select x.* from pg_class as c, aclexplode(c.relacl) as x
        where c.oid = 'public.multigres_seal_keys'::regclass
        union all
        select x.* from pg_attribute as t, aclexplode(t.attacl) as x
        where t.attrelid = 'public.multigres_seal_keys'::regclass
    ) as a
    where a.privilege_type in ('INSERT', 'UPDATE') and a.grantee <> old.relowner;
    if writers is not null then
        raise exception 'other roles may have written the seal keys in public.multigres_seal_keys'
            using errcode = 'object_not_in_prerequisite_state',
                detail = format('It grants %s.', writers),
                hint = 'If you know the keys in it, revoke that and run this again. Otherwise call '
                    'multigres_unseal(), run this, and seal with a new key.';
    end if;
    if multigres.reaches_keys(to_regrole('app_user'), 'public.multigres_seal_keys') is not null then
        raise warning 'app_user could read the seal keys until now: %',
            multigres.reaches_keys(to_regrole('app_user'), 'public.multigres_seal_keys')
            using hint = 'Change the key: whoever has read it can pass as any tenant.';
    end if;

    perform multigres.make_keys();
    insert into multigres.seal_keys (number, inner_pad, outer_pad, bind, added)
    select coalesce((select max(number) from multigres.seal_keys), 0)
            + row_number() over (order by k.added, k.id),
        k.inner_pad, k.outer_pad, k.bind, k.added
    from only public.multigres_seal_keys as k
    on conflict on constraint seal_keys_once do nothing;
    drop table public.multigres_seal_keys;
end
$$;
