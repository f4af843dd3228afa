-- Rules and triggers: they run when app_user writes, or copy rows of tenants elsewhere.
create or replace function multigres.check_triggers()
returns table (lint text, object text, problem text, fix text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with rules as (
        select r.rulename, c.oid::regclass as name, o.rolname as owner,
            o.rolsuper or o.rolbypassrls as past_policies
        from pg_rewrite as r
        join pg_class as c on c.oid = r.ev_class
        join pg_roles as o on o.oid = c.relowner
        where r.rulename <> '_RETURN' and c.relnamespace <> 'pg_catalog'::regnamespace
            and multigres.reached(c.oid, 'SELECT', 'INSERT', 'UPDATE', 'DELETE') is not null
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
            and multigres.reached(c.oid, 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
                is not null
    ),
    isolated as materialized (
        select distinct i.relation from multigres.isolations() as i
    ),
    -- The bodies of triggers on protected tables.
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
            and multigres.reached(c.oid, 'SELECT') is not null
        group by c.oid
    )
    select case when r.past_policies then 'rule_bypasses_policies'
            else 'rule_with_owner_rights' end,
        format('rule %I on %s', r.rulename, r.name),
        format('acts for app_user with the rights of %I', r.owner)
            || case when r.past_policies then ', who bypasses row-level security' else '' end,
        format('drop rule %I on %s', r.rulename, r.name)
    from rules as r
    union all
    -- EXECUTE is checked when a trigger is created, and not when it fires.
    select case when t.past_policies then 'trigger_bypasses_policies'
            else 'trigger_with_owner_rights' end,
        format('trigger %I on %s', t.tgname, t.name),
        format('runs %s for app_user with the rights of %I', t.function, t.owner)
            || case when t.past_policies then ', who bypasses row-level security' else '' end,
        format('alter function %s security invoker', t.function)
    from triggers as t
    union all
    select 'function_search_path', format('trigger %I on %s', t.tgname, t.name),
        format('runs %s, which is SECURITY DEFINER and uses the search_path of its caller',
            t.function),
        format('alter function %s set search_path = pg_catalog, public, pg_temp', t.function)
    from triggers as t where not t.pinned
    union all
    select 'table_filled_with_tenants', 'table ' || f.id::regclass::text,
        format('%s fills it with rows of all tenants, and app_user has SELECT on it', f.by),
        multigres.revoke_table(f.id, 'SELECT')
    from filled as f
    union all
    select 'trigger_notifies', format('trigger %I on %s', b.tgname, b.name),
        'sends NOTIFY, and the sessions of all tenants may LISTEN to it',
        format('alter table %s disable trigger %I', b.name, b.tgname)
    from bodies as b
    where b.prosrc ~* '\m(pg_notify\s*\(|notify\s)' or b.proname = 'triggered_change_notification';
end
$$;

revoke all on function multigres.check_triggers() from public;
