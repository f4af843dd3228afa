-- Takes into the record what is protected and is not recorded: by an older version, or restored
-- without its record. What is open is left out of it, and stays to be mended.
do $$
begin
    delete from multigres.protected as p
    where p.part and not exists (select from pg_class as c where c.oid = p.relation);
    perform multigres.remember(found.relation) from (
        select distinct d.relation from multigres.dimensions as d
        where not exists (
            select from multigres.protected as p
            where p.relation = d.relation and p.version = multigres.version(d.relation))
    ) as found;
    perform multigres.remember_context();
end
$$;


-- The guard watches again. On a server where only a superuser may make event triggers, the verdict
-- at login is all there is.
do $$
begin
    create event trigger multigres_guard on ddl_command_end execute function multigres.guard();
    create event trigger multigres_guard_drop on sql_drop execute function multigres.guard_drop();
    create event trigger multigres_guard_start on ddl_command_start
        when tag in ('GRANT', 'CREATE SCHEMA') execute function multigres.guard_start();
    create event trigger multigres_guard_schema on sql_drop when tag in ('DROP SCHEMA')
        execute function public.multigres_guard_schema();
    alter event trigger multigres_guard_schema enable always;
    alter event trigger multigres_guard enable always;
    alter event trigger multigres_guard_drop enable always;
    alter event trigger multigres_guard_start enable always;
exception when insufficient_privilege then
    raise notice 'statements that take the protection of a table away are not refused: only a '
        'superuser may create event triggers here'
        using hint = 'Multigres looks at login all the same, and refuses tenants.';
end
$$;
