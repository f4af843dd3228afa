-- multigres_check(): a linter. It finds what in this database could show app_user the rows of
-- another tenant, let it write them, or tell it that they exist; each finding has its fix in SQL.
--
--     psql -U postgres -d DB -c "select * from multigres_check()"
--
-- error: tenants are not held apart, or one of them can end that. warning: something leaks, or is
-- one mistake away from an error. info: a choice that may be intended. docs/lints.md describes each
-- lint.
--
-- A table counts as protected when it has a policy named multigres_isolation...; whether that
-- policy is any good is one of the questions. Objects of extensions are not looked at.
--
-- The parts are PL/pgSQL for its kept plans: planning is most of what a check costs. A function that
-- could be dropped and made again within a session is looked up when the query runs: the literal
-- 'name'::regprocedure would keep its oid in the plan, 'name'::text::regprocedure does not.


create or replace function public.multigres_check()
returns table (severity text, lint text, object text, problem text, fix text)
language sql stable
set search_path = pg_catalog, pg_temp
set jit = off
as $$
    with findings as (
        select f.* from multigres.check_role() as f
        union
        select f.* from multigres.check_tables() as f
        union
        select f.* from multigres.check_policies() as f
        union
        select f.* from multigres.check_expressions() as f
        union
        select f.* from multigres.check_constraints() as f
        union
        select f.* from multigres.check_references() as f
        union
        select f.* from multigres.check_indexes() as f
        union
        select f.* from multigres.check_views() as f
        union
        select f.* from multigres.check_definers() as f
        union
        select f.* from multigres.check_functions() as f
        union
        select f.* from multigres.check_triggers() as f
        union
        select f.* from multigres.check_connections() as f
        union
        select f.* from multigres.check_owned() as f
        union
        select f.* from multigres.check_owners() as f
        union
        select f.* from multigres.check_installation() as f
        union
        select f.* from multigres.check_system_privileges() as f
    )
    -- A finding is never lost, nor taken lightly, for want of a line in the list.
    select coalesce(l.severity, 'error'), f.lint, f.object, f.problem, f.fix
    from findings as f left join multigres.lints() as l on l.lint = f.lint
    -- References first: a key can be changed once nothing refers to it.
    order by array_position('{error,warning,info}'::text[], coalesce(l.severity, 'error')),
        f.lint !~ '^foreign_key_', f.object, f.problem
$$;


alter function public.multigres_check() owner to current_user;
revoke all on function public.multigres_check() from public;
