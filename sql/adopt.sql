-- Takes into the record what is protected and is not recorded: by an older version, or restored
-- without its record. What is open is recorded without a version that was intact: the verdict
-- refuses tenants until it is mended.
do $$
declare
    open record;
begin
    delete from multigres.protected as p
    where p.part and not exists (select from pg_class as c where c.oid = p.relation)
        or p.schema_name ~ '^pg_temp';
    perform multigres.remember(found.relation) from (
        select distinct d.relation from multigres.dimensions as d
        where not exists (
            select from multigres.protected as p
            where p.relation = d.relation and p.version = multigres.version(d.relation))
    ) as found;
    for open in
        select c.oid::regclass as relation, n.nspname, c.relname, exists (
                select from pg_inherits as i where i.inhrelid = c.oid) as part,
            coalesce(multigres.switched_off(c.oid), multigres.altered(c.oid, null)) as problem,
            exists (select from multigres.dimensions as d where d.relation = c.oid)
                or multigres.reaches(to_regrole('app_user'), c.oid)
                or multigres.exposed(c.oid, to_regrole('app_user')) is not null as counts
        from (
            select d.relation::oid from multigres.dimensions as d
            union
            select p.polrelid from pg_policy as p
            where (p.polname = 'multigres_access'
                    or starts_with(p.polname::text, 'multigres_isolation'))
                and multigres.counts(p.polrelid)
        ) as found(id)
        join pg_class as c on c.oid = found.id
        join pg_namespace as n on n.oid = c.relnamespace
        order by 1
    loop
        continue when open.problem is null;
        raise warning '% does not hold its tenants apart: %', open.relation, open.problem
            using hint = case when open.counts then 'Tenants are refused'
                else 'Tenants are refused once app_user has a privilege on it,' end
                || ' until you call multigres_protect() or multigres_unprotect() on it.';
        insert into multigres.protected (schema_name, table_name, relation, version, part)
        values (open.nspname, open.relname, open.relation, null, open.part)
        on conflict do nothing;
    end loop;
    for open in
        select distinct c.oid::regclass as relation, pg_get_userbyid(c.relowner) as owner
        from pg_policy as p join pg_class as c on c.oid = p.polrelid
        where starts_with(p.polname::text, 'multigres_isolation') and c.relpersistence <> 't'
            and not multigres.counts(p.polrelid)
        order by 1
    loop
        raise warning '% has a policy of Multigres and is not recorded, because % owns it',
            open.relation, quote_ident(open.owner)
            using hint = 'Call multigres_protect() on it if it holds rows of tenants.';
    end loop;
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
    raise notice 'statements that remove the protection of a table will not be refused: only a '
        'superuser may create event triggers here'
        using hint = 'Multigres still verifies the tables at login, and then refuses tenants.';
end
$$;
