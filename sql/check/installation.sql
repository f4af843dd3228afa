-- The functions that setup.sql brought, and what each of them was.
do $$
begin
    if to_regclass('multigres.release') is null then
        create table multigres.release (
            function text primary key,
            definition text not null
        );
    end if;
    perform multigres.take('multigres.release');
    perform multigres.withhold('multigres.release');
end
$$;


-- Our functions as they are now; except those that multigres_seal() defines anew.
create or replace function multigres.functions()
returns table (function text, definition text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
begin
    return query
    select p.oid::regprocedure::text, md5(concat_ws('|', l.lanname, p.provolatile, p.prosecdef,
        p.proleakproof, p.proretset, p.proargnames, p.proconfig, p.prosrc))
    from pg_proc as p join pg_language as l on l.oid = p.prolang
    where p.pronamespace = 'multigres'::regnamespace and p.proname <> 'context_1'
        or p.pronamespace = 'public'::regnamespace and starts_with(p.proname::text, 'multigres_')
            and array_position(array[to_regprocedure('public.multigres_context(text)'),
                to_regprocedure('public.multigres_own()'),
                to_regprocedure('public.multigres_own(text)')]::oid[], p.oid) is null;
end
$$;

revoke all on function multigres.functions() from public;


-- Objects with a name of Multigres that belong to others: such a function would run as a part of
-- Multigres, with the rights of its caller.
create or replace function multigres.check_installation()
returns table (lint text, object text, problem text, fix text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
begin
    return query
    with setup as (
        select p.proowner as owner from pg_proc as p
        where p.oid = 'public.multigres_protect(regclass, name, text)'::text::regprocedure
    ),
    -- Those that multigres_seal() defines anew, so that multigres.release cannot know them.
    context(id) as (
        select unnest(array['public.current_tenant_id()', 'public.multigres_context(text)',
            'public.multigres_own()', 'public.multigres_own(text)']::text[]::regprocedure[]::oid[])
    ),
    own as (
        select 'function ' || p.oid::regprocedure::text as object, p.proowner as owner,
            case when p.oid in (select c.id from context as c)
                -- Policies need them. They are defined anew before anyone calls them.
                then format('alter function %s owner to %I; ', p.oid::regprocedure,
                    pg_get_userbyid(setup.owner)) || 'select multigres.define_context()'
                else format('drop %s %s', case p.prokind when 'p' then 'procedure'
                    when 'a' then 'aggregate' else 'function' end, p.oid::regprocedure)
            end as fix
        from setup, pg_proc as p
        where p.pronamespace = 'public'::regnamespace
            and (p.proname = 'current_tenant_id'
                or starts_with(p.proname::text, 'multigres_'))
        union all
        select 'table ' || c.oid::regclass::text, c.relowner, format('drop table %s', c.oid::regclass)
        from pg_class as c
        where c.oid in (to_regclass('public.multigres_seal_keys'),
            to_regclass('public.multigres_hardening'))
        union all
        select 'schema multigres', n.nspowner,
            format('alter schema multigres owner to %I', pg_get_userbyid(setup.owner))
        from setup, pg_namespace as n where n.nspname = 'multigres'
        union all
        select i.type || ' ' || i.identity, o.owner,
            case
                when o.id = to_regclass('multigres.seal_keys') then 'select public.multigres_unseal()'
                -- A function of somebody else's must not run with the rights of another owner.
                when o.class = 'pg_proc'::regclass then format('drop %s %s', i.type, i.identity)
                else format('alter %s %s owner to %I', i.type, i.identity,
                        pg_get_userbyid(setup.owner))
                    || case when i.type = 'view'
                        then '; select multigres.define_context()' else '' end
            end
        from setup, (
            select 'pg_class'::regclass, c.oid, c.relowner from pg_class as c
            where c.relnamespace = 'multigres'::regnamespace
                and c.relkind in ('r', 'p', 'v', 'm', 'f')
            union all
            select 'pg_proc'::regclass, p.oid, p.proowner from pg_proc as p
            where p.pronamespace = 'multigres'::regnamespace
        ) as o(class, id, owner), pg_identify_object(o.class, o.id, 0) as i
    ),
    granted as (
        select 'table ' || c.oid::regclass::text as object, a.grantee,
            format('select multigres.withhold(%L)', c.oid::regclass) as fix
        from pg_class as c
        cross join lateral (
            select x.* from aclexplode(c.relacl) as x
            union all
            select x.* from pg_attribute as t, aclexplode(t.attacl) as x where t.attrelid = c.oid
        ) as a
        -- Those on the seal keys have a lint of their own.
        where c.relnamespace = 'multigres'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')
            and c.relname <> 'seal_keys' and a.grantee <> c.relowner
        union all
        select 'schema multigres', a.grantee,
            format('revoke all on schema multigres from %s', case a.grantee when 0 then 'public'
                else quote_ident(pg_get_userbyid(a.grantee)) end)
        from pg_namespace as n, aclexplode(n.nspacl) as a
        where n.nspname = 'multigres' and a.grantee <> n.nspowner
    )
    select 'multigres_object_owner', o.object,
        format('has a name of Multigres and belongs to %I, who can change what it does',
            r.rolname),
        o.fix
    from own as o join pg_roles as r on r.oid = o.owner, setup
    where r.oid <> setup.owner and not r.rolsuper
    union all
    select case when g.grantee in (select multigres.app_roles())
            then 'multigres_object_granted_to_tenants' else 'multigres_object_granted' end,
        g.object,
        format('belongs to Multigres alone, and privileges on it are granted to %s',
            string_agg(distinct
            case g.grantee when 0 then 'PUBLIC' else quote_ident(pg_get_userbyid(g.grantee)) end,
            ', ')),
        string_agg(distinct g.fix, '; ')
    from granted as g
    group by 1, g.object
    union all
    select 'multigres_function_unknown', 'function ' || f.function,
        'has a name of Multigres and was not created by this release of setup.sql',
        format('drop %s %s', case p.prokind when 'p' then 'procedure' when 'a' then 'aggregate'
            else 'function' end, f.function)
    from setup, multigres.functions() as f
    join pg_proc as p on p.oid = f.function::regprocedure
    join pg_roles as r on r.oid = p.proowner
    where p.pronamespace = 'public'::regnamespace and (r.oid = setup.owner or r.rolsuper)
        and split_part(f.function, '(', 1) not in (
            select split_part(b.function, '(', 1) from multigres.release as b)
        and p.proname not in ('multigres_context', 'multigres_own')
    union all
    -- A call that fits both is an error.
    select 'multigres_function_overloaded', 'function ' || p.oid::regprocedure::text,
        'has the name of a function of Multigres: calls of that one, at each login too, may fail',
        format('drop %s %s', case p.prokind when 'p' then 'procedure' when 'a' then 'aggregate'
            else 'function' end, p.oid::regprocedure)
    from setup, pg_proc as p join pg_roles as r on r.oid = p.proowner
    where p.pronamespace = 'public'::regnamespace and (r.oid = setup.owner or r.rolsuper)
        and case
            when p.proname in ('current_tenant_id', 'multigres_context', 'multigres_own')
            then p.oid not in (select c.id from context as c)
            else p.oid::regprocedure::text not in (select b.function from multigres.release as b)
                and 'public.' || p.proname in (
                    select split_part(b.function, '(', 1) from multigres.release as b) end
    union all
    select 'multigres_function_changed', 'function ' || b.function,
        case when f.function is null then 'is missing' else 'is not as setup.sql made it' end,
        '-- run setup.sql again'
    from multigres.release as b left join multigres.functions() as f on f.function = b.function
    where f.definition is distinct from b.definition;
end
$$;

revoke all on function multigres.check_installation() from public;
