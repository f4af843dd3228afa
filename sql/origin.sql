do $$
begin
    -- Two deployments at once would meet in "tuple concurrently updated".
    perform pg_advisory_xact_lock(hashtextextended('multigres setup.sql', 0));
    -- Logins wait behind a lock that this waits for.
    if current_setting('lock_timeout') = '0' then
        set local lock_timeout = '5s';
    end if;
end
$$;


-- A role that may create objects in schema public, or schemas, could have created something there
-- for this to run or to read: a function that fits a call better than the one that is created here,
-- or a table of keys.
do $$
declare
    found record;
begin
    select o.name, r.rolname as owner into found
    from (
        select p.oid::regprocedure::text, p.proowner
        from pg_proc as p
        where p.pronamespace = 'public'::regnamespace
            and (p.oid = to_regprocedure('public.current_tenant_id()')
                or starts_with(p.proname::text, 'multigres_'))
        union all
        select c.oid::regclass::text, c.relowner from pg_class as c
        where c.oid in (to_regclass('public.multigres_seal_keys'),
            to_regclass('public.multigres_hardening'))
        union all
        select 'schema multigres', n.nspowner from pg_namespace as n where n.nspname = 'multigres'
        union all
        select p.oid::regprocedure::text, p.proowner
        from pg_proc as p where p.pronamespace = to_regnamespace('multigres')
        union all
        select c.oid::regclass::text, c.relowner
        from pg_class as c where c.relnamespace = to_regnamespace('multigres')
        union all
        select t.oid::regtype::text, t.typowner
        from pg_type as t where t.typnamespace = to_regnamespace('multigres')
        union all
        select x.oid::regoperator::text, x.oprowner
        from pg_operator as x where x.oprnamespace = to_regnamespace('multigres')
    ) as o(name, owner)
    join pg_roles as r on r.oid = o.owner
    where r.rolname <> current_user and not r.rolsuper
    order by o.name limit 1;
    if found.name is not null then
        raise exception '% belongs to %', found.name, quote_ident(found.owner)
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'If that role ran setup.sql before, run this as that role. Otherwise drop '
                    'the object.';
    end if;
end
$$;


-- Functions that an older version had with other arguments or another result: CREATE OR REPLACE
-- would leave them beside the new ones, or fail.
do $$
declare
    old text;
begin
    foreach old in array array['public.multigres_protect(regclass, name)',
        'public.multigres_isolate(regclass, name)', 'public.multigres_predicate(regclass, name)',
        'public.multigres_dimensions()', 'public.multigres_lost()']
    loop
        if to_regprocedure(old) is not null then
            execute 'drop function ' || old;
        end if;
    end loop;
    -- Findings had no name.
    for old in
        select p.oid::regprocedure from pg_proc as p
        where (p.pronamespace = 'public'::regnamespace and p.proname ~ '^multigres_check'
                or p.pronamespace = to_regnamespace('multigres')
                    and p.proname ~ '^(check_|cascades$|login_settings$)')
            and 'severity' = any (p.proargnames) and not 'lint' = any (p.proargnames)
    loop
        execute 'drop function ' || old;
    end loop;
    if pg_get_function_result(to_regprocedure('public.multigres_status()'))
        not like '%variable text%'
    then
        drop function public.multigres_status();
    end if;
end
$$;
