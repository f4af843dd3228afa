-- What acts for app_user, or carries rows past it, without being called by name: rules, triggers,
-- publications, connections out of the server, and what the server keeps for all of a role's
-- sessions.
create or replace function public.multigres_check_side_doors()
returns table (severity text, object text, problem text, fix text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with links as (
        -- What dblink can do beyond a connection string with a password in it.
        select string_agg(public.multigres_revoke('function ' || p.oid::regprocedure,
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
                where a.grantee in (select public.multigres_app_roles()))
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
    rules as (
        select r.rulename, c.oid::regclass as name, o.rolname as owner,
            o.rolsuper or o.rolbypassrls as past_policies
        from pg_rewrite as r
        join pg_class as c on c.oid = r.ev_class
        join pg_roles as o on o.oid = c.relowner
        where r.rulename <> '_RETURN' and c.relnamespace <> 'pg_catalog'::regnamespace
            and public.multigres_reached(c.oid, 'SELECT', 'INSERT', 'UPDATE', 'DELETE') is not null
            and not exists (
                select from pg_depend as d
                where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
    ),
    triggers as (
        select t.tgname, c.oid::regclass as name, p.oid::regprocedure as function,
            o.rolname as owner, o.rolsuper or o.rolbypassrls as past_policies,
            exists (select from unnest(p.proconfig) as s(setting)
                where s.setting ~ '^search_path=') as pinned
        from pg_trigger as t
        join pg_class as c on c.oid = t.tgrelid
        join pg_proc as p on p.oid = t.tgfoid
        join pg_roles as o on o.oid = p.proowner
        where p.prosecdef and not t.tgisinternal and t.tgenabled <> 'D'
            and public.multigres_reached(c.oid, 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
                is not null
    ),
    isolated as materialized (
        select distinct i.relation from public.multigres_isolations() as i
    ),
    -- What stands in the body of a trigger on a protected table.
    bodies as materialized (
        select t.tgname, t.tgrelid::regclass as name, p.prosrc, p.proname,
            regexp_split_to_array(lower(p.prosrc), '[^[:alnum:]_$]+') as words
        from pg_trigger as t
        join pg_proc as p on p.oid = t.tgfoid
        where not t.tgisinternal and t.tgenabled <> 'D' and t.tgparentid = 0
            and t.tgrelid in (select i.relation from isolated as i)
    ),
    fillers as (
        select 'trigger ' || quote_ident(b.tgname) as filler, b.name, c.oid as id
        from bodies as b join pg_class as c on lower(c.relname) = any (b.words)
        where b.words && '{insert,update,merge,copy}'
        union
        select 'rule ' || quote_ident(r.rulename), r.ev_class::regclass, d.refobjid
        from pg_rewrite as r
        join pg_depend as d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
            and d.refclassid = 'pg_class'::regclass and d.refobjid <> r.ev_class
        where r.ev_type <> '1' and r.ev_class in (select i.relation from isolated as i)
    ),
    filled as (
        select c.oid as id, string_agg(distinct format('%s on %s', f.filler, f.name), ', ') as by
        from fillers as f join pg_class as c on c.oid = f.id
        where c.relkind in ('r', 'p') and c.oid not in (select i.relation from isolated as i)
            and c.relpersistence <> 't' and c.relnamespace <> 'pg_catalog'::regnamespace
            and public.multigres_reached(c.oid, 'SELECT') is not null
        group by c.oid
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
    select case when l.unasked then 'error' else 'warning' end, 'extension dblink',
        'app_user may connect with it from inside the server, to this one as another role too'
            || case when l.unasked then ', without a password where pg_hba.conf asks for none'
                else '' end,
        l.fix
    from links as l where l.fix is not null
    union all
    select 'error', d.name, 'app_user may ' || d.may,
        public.multigres_revoke(d.name, d.acl, '{USAGE}')
    from doors as d
    where public.multigres_revoke(d.name, d.acl, '{USAGE}') is not null
    union all
    select 'warning', 'foreign server ' || quote_ident(m.srvname),
        format('a user mapping gives %s the name and password of somebody there', x.who),
        format('drop user mapping for %s server %I', x.who, m.srvname)
    from pg_user_mappings as m, lateral (
        select case m.umuser when 0 then 'public' else quote_ident(m.usename) end
    ) as x(who)
    where m.umuser in (select public.multigres_app_roles())
    union all
    select case when r.past_policies then 'error' else 'info' end,
        format('rule %I on %s', r.rulename, r.name),
        format('acts for app_user with the rights of %I', r.owner)
            || case when r.past_policies then ', who bypasses row-level security' else '' end,
        format('drop rule %I on %s', r.rulename, r.name)
    from rules as r
    union all
    -- EXECUTE is asked for when a trigger is made, and not when it fires.
    select case when t.past_policies then 'warning' else 'info' end,
        format('trigger %I on %s', t.tgname, t.name),
        format('runs %s for app_user with the rights of %I', t.function, t.owner)
            || case when t.past_policies then ', who bypasses row-level security' else '' end,
        format('alter function %s security invoker', t.function)
    from triggers as t
    union all
    select 'warning', format('trigger %I on %s', t.tgname, t.name),
        format('runs %s, which is SECURITY DEFINER and finds its names by the search_path of '
            'its caller', t.function),
        format('alter function %s set search_path = pg_catalog, public, pg_temp', t.function)
    from triggers as t where not t.pinned
    union all
    select 'warning', 'extension pg_stat_statements',
        'shows app_user the texts of all statements of app_user, whichever tenant''s',
        string_agg(s.fix, '; ')
    from (
        select case d.classid
            when 'pg_class'::regclass then public.multigres_revoke_table(d.objid, 'SELECT')
            else (
                select public.multigres_revoke('function ' || p.oid::regprocedure,
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
    select 'info', 'setting max_prepared_transactions',
        'is above 0: app_user may end a prepared transaction of another tenant by its name',
        'alter system set max_prepared_transactions = 0'
    where current_setting('max_prepared_transactions')::int > 0
    union all
    -- A choice of whoever subscribes, who is no tenant.
    select 'info', format('publication %I', p.pubname),
        'sends the rows of all tenants to its subscribers: '
            || string_agg(p.name::text, ', ' order by p.name::text),
        case when bool_and(p.alone) then string_agg(
                format('alter publication %I drop table %s', p.pubname, p.name), '; ')
            else format('drop publication %I', p.pubname) end
    from published as p
    group by p.pubname
    union all
    select case when bool_or(t.tablename ~ 'seal_keys|secrets') then 'error' else 'warning' end,
        format('publication %I', t.pubname),
        'sends what Multigres keeps to its subscribers: '
            || string_agg(format('%I.%I', t.schemaname, t.tablename), ', ' order by t.tablename),
        format('drop publication %I', t.pubname)
    from pg_publication_tables as t
    where t.schemaname = 'multigres'
        or t.schemaname = 'public' and t.tablename = 'multigres_seal_keys'
    group by t.pubname
    union all
    select 'error', 'table ' || f.id::regclass::text,
        format('%s fills it with rows of all tenants, and app_user has SELECT on it', f.by),
        public.multigres_revoke_table(f.id, 'SELECT')
    from filled as f
    union all
    select 'warning', format('trigger %I on %s', b.tgname, b.name),
        'sends NOTIFY, and every tenant''s session may LISTEN to what is in it',
        format('alter table %s disable trigger %I', b.name, b.tgname)
    from bodies as b
    where b.prosrc ~* '\m(pg_notify\s*\(|notify\s)' or b.proname = 'triggered_change_notification'
    union all
    -- The next numbers collide with rows that are there, or are used up.
    select 'warning', 'sequence ' || c.oid::regclass::text,
        'app_user has UPDATE on it: a tenant may setval() it for all',
        public.multigres_revoke('sequence ' || c.oid::regclass, c.relacl, '{UPDATE}')
    from pg_class as c
    where c.relkind = 'S' and c.relpersistence <> 't' and c.relacl is not null
        and c.relnamespace <> 'multigres'::regnamespace
        and public.multigres_reached(c.oid, 'UPDATE') is not null
$$;
