-- multigres_check(): a linter. What in this database could show app_user another tenant's rows,
-- let it write them, or tell it that they exist; with the SQL that mends it.
--
--     psql -U postgres -d DB -c "select * from multigres_check()"
--
-- error: tenants are not held apart, or one of them can make it so. warning: something leaks, or
-- is one mistake from an error. info: a choice that may be meant. Loaded by setup.sql, inside its
-- transaction.
--
-- A table counts as protected when it has a policy named multigres_isolation...; whether that
-- policy is any good is one of the questions. What extensions bring is not looked at.


create or replace function public.multigres_check()
returns table (severity text, object text, problem text, fix text)
language sql stable
set search_path = pg_catalog, pg_temp
set jit = off
as $$
    with findings as (
        select r.* from public.multigres_check_role() as r
        union
        select t.* from public.multigres_check_tables() as t
        union
        select p.* from public.multigres_check_policies() as p
        union
        select c.* from public.multigres_check_constraints() as c
        union
        select f.* from public.multigres_check_references() as f
        union
        select i.* from public.multigres_check_indexes() as i
        union
        select d.* from public.multigres_check_detours() as d
        union
        select s.* from public.multigres_check_side_doors() as s
        union
        select o.* from public.multigres_check_own() as o
        union
        select w.* from multigres.check_owned() as w
        union
        select p.* from multigres.check_owners() as p
        union
        select h.* from multigres.check_hidden() as h
        union
        select e.* from multigres.check_expressions() as e
        union
        select k.* from multigres.check_kept() as k
    )
    select f.severity, f.object, f.problem, f.fix from findings as f
    -- References first: a key can be changed once nothing refers to it.
    order by array_position('{error,warning,info}'::text[], f.severity),
        not starts_with(f.problem, 'refers to '), f.object, f.problem
$$;


do $$
declare
    function regprocedure;
begin
    for function in
        select p.oid::regprocedure from pg_proc as p
        where p.pronamespace = 'public'::regnamespace
            and (p.proname ~ '^multigres_check' or p.proname in ('multigres_app_roles',
                'multigres_reached', 'multigres_revoke', 'multigres_revoke_table',
                'multigres_isolations'))
    loop
        execute format('alter function %s owner to current_user', function);
        execute format('revoke all on function %s from public', function);
    end loop;
end
$$;
