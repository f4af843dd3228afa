-- What has a name of Multigres' and is somebody else's: such a function would run as a part of
-- Multigres, and with the rights of whoever calls that.
create or replace function public.multigres_check_own()
returns table (severity text, object text, problem text, fix text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with setup as (
        select p.proowner as owner from pg_proc as p
        where p.oid = 'public.multigres_protect(regclass, name, text)'::regprocedure
    ),
    own as (
        select 'function ' || p.oid::regprocedure::text as object, p.proowner as owner,
            case when p.oid in ('public.current_tenant_id()'::regprocedure,
                    'public.multigres_context(text)'::regprocedure,
                    'public.multigres_own()'::regprocedure,
                    'public.multigres_own(text)'::regprocedure)
                -- Policies need them. They are defined anew before anyone calls them.
                then format('alter function %s owner to %I; ', p.oid::regprocedure,
                    pg_get_userbyid(setup.owner)) || 'select public.multigres_define_context()'
                else format('drop %s %s', case p.prokind when 'p' then 'procedure'
                    when 'a' then 'aggregate' else 'function' end, p.oid::regprocedure)
            end as fix
        from setup, pg_proc as p
        where p.pronamespace = 'public'::regnamespace
            and (p.oid = 'public.current_tenant_id()'::regprocedure
                or starts_with(p.proname::text, 'multigres_'))
        union all
        select 'table ' || c.oid::regclass::text, c.relowner,
            case when c.oid = to_regclass('multigres.seal_keys')
                then 'select public.multigres_unseal()'
                else format('drop table %s', c.oid::regclass) end
        from pg_class as c
        where c.oid in (to_regclass('multigres.seal_keys'),
            to_regclass('public.multigres_seal_keys'), to_regclass('public.multigres_hardening'))
    )
    select 'error', o.object,
        format('has a name of Multigres'' and belongs to %I, who says what it does', r.rolname),
        o.fix
    from own as o join pg_roles as r on r.oid = o.owner, setup
    where r.oid <> setup.owner and not r.rolsuper
$$;
