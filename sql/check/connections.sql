-- Objects that send rows out of the database or connect elsewhere, and state that the server shares
-- among all sessions of a role.
create or replace function multigres.check_connections()
returns table (lint text, object text, problem text, fix text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with links as (
        -- Functions of dblink that need no connection string with a password in it.
        select string_agg(multigres.revoke('function ' || p.oid::regprocedure,
                coalesce(p.proacl, acldefault('f', p.proowner)), '{EXECUTE}'), '; ') as fix,
            bool_or(p.proname = 'dblink_connect_u') as unasked
        from pg_extension as e
        join pg_depend as d on d.refclassid = 'pg_extension'::regclass and d.refobjid = e.oid
            and d.deptype = 'e' and d.classid = 'pg_proc'::regclass
        join pg_proc as p on p.oid = d.objid
        where e.extname = 'dblink' and p.proname in ('dblink', 'dblink_connect',
                'dblink_connect_u', 'dblink_exec', 'dblink_get_pkey', 'dblink_open',
                'dblink_send_query')
            and exists (
                select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
                where a.grantee in (select multigres.app_roles()))
    ),
    doors as (
        select 'foreign server ' || quote_ident(s.srvname) as name, s.srvacl as acl,
            'make a user mapping on it, and foreign tables where it may create' as may
        from pg_foreign_server as s
        union all
        select 'foreign data wrapper ' || quote_ident(w.fdwname), w.fdwacl,
            'make servers with it, to any address' as may
        from pg_foreign_data_wrapper as w
    ),
    isolated as materialized (
        select distinct i.relation from multigres.isolations() as i
    ),
    published as (
        select p.pubname, i.relation::regclass as name, exists (
                select from pg_publication_rel as r
                where r.prpubid = p.oid and r.prrelid = i.relation) as alone
        from pg_publication_tables as t
        join pg_publication as p on p.pubname = t.pubname
        join pg_namespace as n on n.nspname = t.schemaname
        join pg_class as c on c.relnamespace = n.oid and c.relname = t.tablename
        join isolated as i on i.relation = c.oid
    )
    select case when l.unasked then 'dblink_without_password' else 'dblink_granted' end,
        'extension dblink',
        'app_user may connect with it from inside the server, to this server as another role too'
            || case when l.unasked then ', without a password where pg_hba.conf requires none'
                else '' end,
        l.fix
    from links as l where l.fix is not null
    union all
    select 'foreign_server_granted', d.name, 'app_user may ' || d.may,
        multigres.revoke(d.name, d.acl, '{USAGE}')
    from doors as d
    where multigres.revoke(d.name, d.acl, '{USAGE}') is not null
    union all
    select 'user_mapping_for_tenants', 'foreign server ' || quote_ident(m.srvname),
        format('a user mapping gives %s a name and password there', x.who),
        format('drop user mapping for %s server %I', x.who, m.srvname)
    from pg_user_mappings as m, lateral (
        select case m.umuser when 0 then 'public' else quote_ident(m.usename) end
    ) as x(who)
    where m.umuser in (select multigres.app_roles())
    union all
    select 'statement_texts_visible', 'extension pg_stat_statements',
        'shows app_user the texts of the statements of all tenants',
        string_agg(s.fix, '; ')
    from (
        select case d.classid
            when 'pg_class'::regclass then multigres.revoke_table(d.objid, 'SELECT')
            else (
                select multigres.revoke('function ' || p.oid::regprocedure,
                    coalesce(p.proacl, acldefault('f', p.proowner)), '{EXECUTE}')
                from pg_proc as p
                where p.oid = d.objid and p.proname = 'pg_stat_statements')
            end as fix
        from pg_extension as e
        join pg_depend as d on d.refclassid = 'pg_extension'::regclass and d.refobjid = e.oid
            and d.deptype = 'e' and d.classid in ('pg_proc'::regclass, 'pg_class'::regclass)
        where e.extname = 'pg_stat_statements'
    ) as s
    having string_agg(s.fix, '; ') is not null
    union all
    select 'prepared_transactions_enabled', 'setting max_prepared_transactions',
        'is above 0: app_user may end a prepared transaction of another tenant by its name',
        'alter system set max_prepared_transactions = 0'
    where current_setting('max_prepared_transactions')::int > 0
    union all
    -- Its subscribers are not tenants.
    select 'publication_of_tenants', format('publication %I', p.pubname),
        'sends the rows of all tenants to its subscribers: '
            || string_agg(p.name::text, ', ' order by p.name::text),
        case when bool_and(p.alone) then string_agg(
                format('alter publication %I drop table %s', p.pubname, p.name), '; ')
            else format('drop publication %I', p.pubname) end
    from published as p
    group by p.pubname
    union all
    select case when bool_or(t.tablename ~ 'seal_keys') then 'publication_of_seal_keys'
            else 'publication_of_multigres' end,
        format('publication %I', t.pubname),
        'sends tables of Multigres to its subscribers: '
            || string_agg(format('%I.%I', t.schemaname, t.tablename), ', ' order by t.tablename),
        format('drop publication %I', t.pubname)
    from pg_publication_tables as t
    where t.schemaname = 'multigres'
        or t.schemaname = 'public' and t.tablename = 'multigres_seal_keys'
    group by t.pubname
    union all
    -- The next numbers collide with rows that are there, or are used up.
    select 'sequence_settable', 'sequence ' || c.oid::regclass::text,
        'app_user has UPDATE on it: a tenant may call setval() for all tenants',
        multigres.revoke('sequence ' || c.oid::regclass, c.relacl, '{UPDATE}')
    from pg_class as c
    where c.relkind = 'S' and c.relpersistence <> 't' and c.relacl is not null
        and c.relnamespace <> 'multigres'::regnamespace
        and multigres.reached(c.oid, 'UPDATE') is not null;
end
$$;

revoke all on function multigres.check_connections() from public;
