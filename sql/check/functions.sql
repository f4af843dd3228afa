-- SECURITY DEFINER functions that app_user may call.
create or replace function multigres.check_definers()
returns table (lint text, object text, problem text, fix text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with definers as (
        select p.oid::regprocedure::text as name, p.oid as id, o.rolname as owner, p.proacl,
            p.proowner, o.rolsuper or o.rolbypassrls as past_policies,
            case p.prokind when 'p' then 'procedure' else 'function' end as kind,
            exists (select from unnest(p.proconfig) as s(setting)
                where s.setting ~ '^search_path=') as pinned
        from pg_proc as p
        join pg_namespace as n on n.oid = p.pronamespace
        join pg_roles as o on o.oid = p.proowner
        where p.prosecdef and n.nspname not in ('pg_catalog', 'information_schema')
            and not (n.nspname = 'public'
                and p.proname in ('current_tenant_id', 'multigres_context', 'multigres_own',
                    'multigres_spelling', 'multigres_verdict', 'multigres_misspelt',
                    'multigres_maintenance')
                and p.proowner in (
                    select s.nspowner from pg_namespace as s where s.nspname = 'multigres'
                    union all
                    select f.proowner from pg_proc as f
                    where f.oid = 'public.current_tenant_id()'::text::regprocedure))
            and not exists (
                select from pg_depend as d
                where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
            and exists (
                select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
                where a.grantee in (select multigres.app_roles()))
            and exists (
                select from aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) as a
                where a.privilege_type = 'USAGE'
                    and a.grantee in (select multigres.app_roles()))
    )
    select case when f.past_policies then 'function_bypasses_policies'
            else 'function_with_owner_rights' end,
        f.kind || ' ' || f.name,
        format('app_user may execute it, and it runs with the rights of %I', f.owner)
            || case when f.past_policies then ', who bypasses row-level security' else '' end,
        multigres.revoke(f.kind || ' ' || f.name,
            coalesce(f.proacl, acldefault('f', f.proowner)), '{EXECUTE}')
    from definers as f
    union all
    select 'function_search_path', f.kind || ' ' || f.name,
        'is SECURITY DEFINER and uses the search_path of its caller',
        format('alter %s %s set search_path = pg_catalog, public, pg_temp', f.kind, f.name)
    from definers as f where not f.pinned;
end
$$;


-- Functions that app_user sets off without calling them by name, and leakproof ones, which see rows
-- before policies do.
create or replace function multigres.check_functions()
returns table (lint text, object text, problem text, fix text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with app(id) as materialized (
        select multigres.app_roles()
    ),
    -- Extensions of superusers are trusted.
    trusted as materialized (
        select d.classid, d.objid
        from pg_depend as d
        join pg_extension as e on e.oid = d.refobjid
        join pg_roles as r on r.oid = e.extowner
        where d.refclassid = 'pg_extension'::regclass and d.deptype = 'e' and r.rolsuper
    ),
    functions as materialized (
        select p.oid as id, p.oid::regprocedure::text as name, p.prosecdef, p.proleakproof,
            p.prosrc, p.proacl, r.rolname as owner,
            case when r.rolsuper or r.rolbypassrls then 'function_bypasses_policies'
                else 'function_with_owner_rights' end as lint,
            case when r.rolsuper or r.rolbypassrls
                then ', who bypasses row-level security' else '' end as unheld,
            exists (select from unnest(p.proconfig) as s(setting)
                where s.setting ~ '^search_path=') as pinned,
            case p.prokind when 'p' then 'procedure' else 'function' end as kind,
            exists (
                select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
                where a.grantee in (select app.id from app)) as executed,
            exists (
                select from aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) as a
                where a.privilege_type = 'USAGE'
                    and a.grantee in (select app.id from app)) as visible
        from pg_proc as p
        join pg_namespace as n on n.oid = p.pronamespace
        join pg_roles as r on r.oid = p.proowner
        where p.oid >= 16384 and (p.prosecdef or p.proleakproof)
            and n.nspname <> 'multigres'
            and not (n.nspname = 'public' and (p.proname = 'current_tenant_id'
                or starts_with(p.proname::text, 'multigres_')))
            and not exists (
                select from trusted as b
                where b.classid = 'pg_proc'::regclass and b.objid = p.oid)
    ),
    -- Its owner, and not who calls it, must have the right to execute these.
    aggregates as (
        select p.oid::regprocedure::text as name, f.name as part, f.owner, f.lint, f.unheld,
            coalesce(p.proacl, acldefault('f', p.proowner)) as acl
        from pg_aggregate as a
        join pg_proc as p on p.oid = a.aggfnoid
        join functions as f on f.prosecdef and f.id in (a.aggtransfn, a.aggfinalfn,
            a.aggcombinefn, a.aggserialfn, a.aggdeserialfn, a.aggmtransfn, a.aggminvtransfn,
            a.aggmfinalfn)
    ),
    -- Nobody looks for a name, or a right on the schema: the oid is stored.
    users as (
        select f.id, d.classid, d.objid, d.objsubid
        from functions as f
        join pg_depend as d on d.refclassid = 'pg_proc'::regclass and d.refobjid = f.id
        where f.prosecdef and f.executed and not f.visible and d.deptype in ('n', 'a')
            and d.classid not in ('pg_trigger'::regclass, 'pg_event_trigger'::regclass)
            and d.objid not in (select a.aggfnoid from pg_aggregate as a)
        union
        -- An index calls these without a check of EXECUTE.
        select f.id, 'pg_opfamily'::regclass, s.amprocfamily, 0
        from functions as f join pg_amproc as s on s.amproc = f.id
        where f.prosecdef
    )
    select a.lint, 'aggregate ' || a.name,
        format('runs %s for app_user with the rights of %I%s', a.part, a.owner, a.unheld), r.fix
    from aggregates as a
    cross join lateral (
        select multigres.revoke('function ' || a.name, a.acl, '{EXECUTE}')
    ) as r(fix)
    where r.fix is not null
    union all
    select f.lint, format('%s %s', f.kind, f.name),
        format('app_user calls it by %s, and it runs with the rights of %I%s', (
            select string_agg(distinct concat_ws(' ', i.type, i.identity), ', ')
            from users as u, pg_identify_object(u.classid, u.objid, u.objsubid) as i
            where u.id = f.id), f.owner, f.unheld),
        format('alter %s %s security invoker', f.kind, f.name)
    from functions as f where f.id in (select u.id from users as u)
    union all
    select case f.lint when 'function_bypasses_policies' then 'event_trigger_search_path'
            else 'function_search_path' end,
        format('event trigger %I', t.evtname),
        format('runs %s, which is SECURITY DEFINER and uses the search_path of the session that '
            'fires it', f.name),
        format('alter function %s set search_path = pg_catalog, public, pg_temp', f.name)
    from pg_event_trigger as t join functions as f on f.id = t.evtfoid
    where f.prosecdef and not f.pinned and t.evtenabled <> 'D'
    union all
    -- PostgreSQL runs it before the policy: its messages and errors may name other tenants' values.
    select 'function_leakproof', format('%s %s', f.kind, f.name),
        format('was made LEAKPROOF by %I: it sees rows before policies apply', f.owner),
        format('alter %s %s not leakproof', f.kind, f.name)
    from functions as f where f.proleakproof and f.executed
    union all
    -- PostgreSQL calls none of these leakproof.
    select 'function_leakproof', 'function ' || p.oid::regprocedure::text,
        'was made LEAKPROOF: it sees rows before policies apply',
        format('alter function %s not leakproof', p.oid::regprocedure)
    from pg_proc as p
    where p.oid < 16384 and p.proleakproof
        and p.proname ~ ('like|regex|match|contain|overlap|cat$|substr|_in$|concat|upper|lower'
            '|strpos|position|exists|_op');
end
$$;

revoke all on function multigres.check_definers(), multigres.check_functions() from public;
