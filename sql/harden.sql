-- multigres_harden(): all tenants log in as one role, and PostgreSQL lets sessions of one role
-- watch, stop and disturb each other. This closes what can be closed, and says what cannot.
--
--     psql -U postgres -d DB -c "select * from multigres_harden()"
--     psql -U postgres -d DB -c "select * from multigres_harden(keep => '{advisory locks}')"
--     psql -U postgres -d DB -c "select * from multigres_unharden()"
--
-- It takes rights from PUBLIC, so other roles of this database lose them too; superusers and the
-- members of pg_signal_backend and pg_read_all_stats do not. Table multigres.hardening records what
-- it changed. Loaded by setup.sql, inside its transaction.


-- Names and not oids: so the record outlives a dump and an upgrade of the server. No text of it is
-- ever executed: a row counts only where it names something that multigres.closable() lists.
do $$
begin
    if to_regclass('multigres.hardening') is null then
        create table multigres.hardening (
            position bigint generated always as identity primary key,
            item text not null,
            kind text not null,
            object text not null,
            privilege text not null,
            grantee name not null,
            grantable boolean not null,
            granted boolean not null
        );
    end if;
    if exists (
        select from pg_class as c join pg_roles as r on r.oid = c.relowner
        where c.oid = 'multigres.hardening'::regclass
            and (c.relkind <> 'r' or r.rolname <> current_user and not r.rolsuper))
    then
        raise exception 'multigres.hardening belongs to another role'
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Run this as its owner, or drop it if setup.sql did not create it.';
    end if;
    perform multigres.take('multigres.hardening');
    perform multigres.withhold('multigres.hardening');
end
$$;


-- The items of multigres_harden(): the functions to revoke, the role that keeps them, and the note
-- for an item that is closed.
create or replace function multigres.hardenings()
returns table (place integer, item text, functions text, keeper text, note text)
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    values
    (1, 'signals to other sessions', '^pg_(cancel|terminate)_backend$', 'pg_signal_backend',
        'members of pg_signal_backend may still cancel and terminate'),
    (2, 'watching other sessions',
        '^pg_stat_get_(activity|backend_.*|progress_info)$|^pg_lock_status$'
            '|^pg_(safe_snapshot_)?blocking_pids$|^pg_prepared_xact$', 'pg_read_all_stats',
        'pg_stat_activity, pg_locks and the like; members of pg_read_all_stats still see them'),
    -- They count the rows that a query has touched, those of other tenants too.
    (3, 'counts of rows',
        '^pg_stat_get_(xact_)?(tuples_.*|numscans|blocks_.*|function_.*)$'
            '|^pg_stat_get_((live|dead)_tuples|mod_since_analyze|ins_since_vacuum|lastscan)$'
            '|^pg_stat_get_db_(tuples|blocks)_.*$', 'pg_read_all_stats',
        'pg_stat_all_tables, pg_stat_xact_all_tables and the like; members of pg_read_all_stats '
            'still see them'),
    (4, 'large objects', '^(lo_.*|loread|lowrite)$', null,
        'they would belong to all tenants: use a bytea column'),
    (5, 'advisory locks', '^pg_(try_)?advisory_(xact_)?lock(_shared)?$', null,
        'one tenant could hold the locks of another; keep them if the application needs them'),
    (6, 'statistics of statements', null, 'pg_read_all_stats',
        'pg_stat_statements shows the texts of all statements of app_user to members of '
            'pg_read_all_stats alone'),
    (7, 'triggers on tables', null, null,
        'a tenant''s trigger would run in the sessions of others'),
    (8, 'creating objects', null, null,
        'an object of one tenant would be used by the sessions of others'),
    (9, 'DROP OWNED', null, null,
        'the temporary tables of other sessions stay, an event trigger refuses it')
$$;


-- Everything that multigres_harden() may take a right on. Whoever ran setup.sql keeps the
-- functions: it needs an advisory lock to run it again.
create or replace function multigres.closable()
returns table (item text, kind text, id oid, object text, privilege text, keepers text[])
language sql stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
    with setup as (
        select pg_get_userbyid(p.proowner)::text as owner from pg_proc as p
        where p.oid = 'public.current_tenant_id()'::regprocedure
    )
    select h.item, 'function', p.oid, p.oid::regprocedure::text, 'EXECUTE',
        array[current_user::text, s.owner, h.keeper]
    from setup as s, multigres.hardenings() as h
    join pg_proc as p on p.pronamespace = 'pg_catalog'::regnamespace and p.proname ~ h.functions
    union all
    select 'statistics of statements', x.kind, d.objid, x.object, x.privilege,
        array[current_user::text, s.owner, 'pg_read_all_stats']
    from setup as s, pg_extension as e
    join pg_depend as d on d.refclassid = 'pg_extension'::regclass and d.refobjid = e.oid
        and d.deptype = 'e' and d.classid in ('pg_proc'::regclass, 'pg_class'::regclass)
    cross join lateral (
        select 'function', d.objid::regprocedure::text, 'EXECUTE'
        where d.classid = 'pg_proc'::regclass
        union all
        select 'table', d.objid::regclass::text, 'SELECT'
        where d.classid = 'pg_class'::regclass
    ) as x(kind, object, privilege)
    where e.extname = 'pg_stat_statements'
    union all
    select 'triggers on tables', 'table', c.oid, c.oid::regclass::text, 'TRIGGER', '{}'
    from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'f') and n.nspname !~ '^pg_'
    union all
    select 'creating objects', 'schema', n.oid, quote_ident(n.nspname), 'CREATE', '{}'
    from pg_namespace as n where n.nspname !~ '^pg_'
    union all
    select 'creating objects', 'database', d.oid, quote_ident(d.datname), 'CREATE', '{}'
    from pg_database as d where d.datname = current_database()
$$;


-- The privileges on such an object, those of its owner included.
create or replace function multigres.grants(kind text, id oid)
returns table (grantee oid, name name, privilege text, grantable boolean, owner oid)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select a.grantee, case a.grantee when 0 then 'public' else pg_get_userbyid(a.grantee) end,
        a.privilege_type, a.is_grantable, o.owner
    from (
        select p.proowner, coalesce(p.proacl, acldefault('f', p.proowner)) from pg_proc as p
        where kind = 'function' and p.oid = id
        union all
        select c.relowner, coalesce(c.relacl, acldefault('r', c.relowner)) from pg_class as c
        where kind = 'table' and c.oid = id
        union all
        select n.nspowner, coalesce(n.nspacl, acldefault('n', n.nspowner)) from pg_namespace as n
        where kind = 'schema' and n.oid = id
        union all
        select d.datdba, coalesce(d.datacl, acldefault('d', d.datdba)) from pg_database as d
        where kind = 'database' and d.oid = id
    ) as o(owner, acl), aclexplode(o.acl) as a
$$;


-- GRANT or REVOKE of one privilege, from words in this list and names that are quoted. True when it
-- is as it should be: who may not do it gets an error or a warning, by what else they may.
create or replace function multigres.set_right(
    given boolean, kind text, id oid, object text, privilege text, grantee name, grantable boolean)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set client_min_messages = error
as $$
declare
    role text := case when grantee = 'public' then 'public' else quote_ident(grantee) end;
begin
    if privilege not in ('EXECUTE', 'SELECT', 'TRIGGER', 'CREATE')
        or kind not in ('function', 'table', 'schema', 'database')
    then
        raise exception 'multigres_harden() does not grant or revoke % on a %', privilege, kind;
    end if;
    begin
        execute format(
            case when given then 'grant %s on %s %s to %s' else 'revoke %s on %s %s from %s' end,
            privilege, kind, object, role)
            || case when given and grantable then ' with grant option' else '' end;
    exception when insufficient_privilege or dependent_objects_still_exist then
        return false;
    end;
    return given = exists (
        select from multigres.grants(kind, id) as g
        where g.name = set_right.grantee and g.privilege = set_right.privilege);
end
$$;


-- Takes one right from app_user, through whomever it has it, gives it to those who are to keep
-- it, and remembers both. True when app_user does not have it any more.
create or replace function multigres.close(
    item text, kind text, id oid, object text, privilege text, keepers text[])
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    entry record;
    closed boolean := true;
    revoked boolean := false;
begin
    for entry in
        select g.name, bool_or(g.grantable) as grantable, g.grantee = g.owner as is_owner
        from multigres.grants(kind, id) as g
        where g.privilege = close.privilege
            and g.grantee in (select multigres.app_roles())
        group by g.name, is_owner
    loop
        -- An owner takes it back at will.
        if entry.is_owner
            or not multigres.set_right(false, kind, id, object, privilege, entry.name, false)
        then
            closed := false;
            continue;
        end if;
        revoked := true;
        insert into multigres.hardening
            (item, kind, object, privilege, grantee, grantable, granted)
        values (item, kind, object, privilege, entry.name, entry.grantable, false);
    end loop;
    if revoked then
        for entry in
            select distinct r.rolname as name
            from unnest(keepers) as k(name) join pg_roles as r on r.rolname = k.name
            where not r.rolsuper and r.oid not in (select multigres.app_roles())
                and not exists (
                    select from multigres.grants(kind, id) as g
                    where g.grantee = r.oid and g.privilege = close.privilege)
        loop
            perform multigres.set_right(true, kind, id, object, privilege, entry.name, false);
            insert into multigres.hardening
                (item, kind, object, privilege, grantee, grantable, granted)
            values (item, kind, object, privilege, entry.name, false, true);
        end loop;
    end if;
    return closed;
end
$$;


-- The record must be nobody's but of those whose functions these are.
create or replace function multigres.hold_hardening() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    fault text;
begin
    lock table multigres.hardening in exclusive mode;
    select coalesce(
            case when c.relkind <> 'r' or r.rolname <> current_user and not r.rolsuper
                    and r.oid <> p.proowner
                then format('belongs to %I', r.rolname) end,
            'may be written by ' || (
                select string_agg(distinct quote_ident(g.name), ', ')
                from multigres.grants('table', c.oid) as g
                where g.grantee <> g.owner and g.privilege <> 'SELECT'),
            'has a trigger of somebody''s own: ' || (
                select string_agg(quote_ident(t.tgname), ', ') from pg_trigger as t
                where t.tgrelid = c.oid))
    into fault
    from pg_class as c
    join pg_roles as r on r.oid = c.relowner
    join pg_proc as p on p.oid = 'public.multigres_unharden()'::text::regprocedure
    where c.oid = 'multigres.hardening'::regclass;
    if fault is not null then
        raise exception 'multigres.hardening %', fault
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Look at its rows, revoke the privilege, and drop the objects that '
                    'others created.';
    end if;
end
$$;


-- DROP OWNED BY app_user drops the temporary tables of all tenants' sessions. Any role may say
-- it of itself; an event trigger is the one thing that hears it.
do $$
begin
    -- An older version had it in schema public, and its event trigger finds it by oid.
    if to_regprocedure('public.multigres_keep_owned()') is not null then
        alter function public.multigres_keep_owned() set schema multigres;
        alter function multigres.multigres_keep_owned() rename to keep_owned;
    end if;
end
$$;

create or replace function multigres.keep_owned() returns event_trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if 'app_user' in (session_user, current_user) then
        raise exception 'app_user may not use DROP OWNED: its objects belong to all tenants'
            using errcode = 'insufficient_privilege';
    end if;
end
$$;


-- Creates the event trigger for it. True when it is there.
create or replace function multigres.refuse_drop_owned() returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (
        select from pg_event_trigger as t where t.evtname = 'multigres_keep_owned')
    then
        begin
            create event trigger multigres_keep_owned on ddl_command_start
                when tag in ('DROP OWNED') execute function multigres.keep_owned();
            insert into multigres.hardening
                (item, kind, object, privilege, grantee, grantable, granted)
            values ('DROP OWNED', 'event trigger', 'multigres_keep_owned', '', 'public', false,
                true);
        exception when insufficient_privilege then
            null;
        end;
    end if;
    return exists (
        select from pg_event_trigger as t
        where t.evtname = 'multigres_keep_owned' and t.evtenabled in ('O', 'A'));
end
$$;


create or replace function public.multigres_harden(keep text[] default '{}')
returns table (what text, done boolean, note text)
language plpgsql
set search_path = pg_catalog, pg_temp
set client_min_messages = error
as $$
#variable_conflict use_column
declare
    unknown text;
    problems text := multigres.role_problems(to_regrole('app_user'));
    entry record;
    object record;
    any_object boolean;
begin
    select string_agg(u.name, ', ') into unknown from unnest(keep) as u(name)
    where u.name not in (select h.item from multigres.hardenings() as h);
    if unknown is not null then
        raise exception 'multigres_harden() has no item %', unknown
            using errcode = 'invalid_parameter_value',
                hint = 'Its result lists the items in its first column.';
    end if;
    perform multigres.hold_hardening();

    if to_regrole('app_user') is null then
        return query select 'app_user itself', false, 'does not exist';
    elsif problems is not null then
        return query select 'app_user itself', false,
            'nothing of this restricts it: it ' || problems;
    end if;

    for entry in
        select h.* from multigres.hardenings() as h where h.item <> all (keep) order by h.place
    loop
        what := entry.item;
        done := true;
        any_object := false;
        for object in select c.* from multigres.closable() as c where c.item = entry.item loop
            any_object := true;
            done := multigres.close(object.item, object.kind, object.id, object.object,
                object.privilege, object.keepers) and done;
        end loop;
        if entry.item = 'DROP OWNED' then
            done := multigres.refuse_drop_owned();
        end if;
        note := case when done then entry.note else multigres.why_open(entry.item) end;
        if any_object or entry.item <> 'statistics of statements' then
            return next;
        end if;
    end loop;
    return query select * from multigres.left_open();
end
$$;


-- Why an item could not be closed by who called multigres_harden().
create or replace function multigres.why_open(item text) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select case item
        when 'statistics of statements' then
            'pg_stat_statements shows the texts of all statements of app_user: the owner of the '
                'extension can revoke SELECT and EXECUTE'
        when 'triggers on tables' then
            'app_user has TRIGGER on a table, or owns one: see multigres_check()'
        when 'creating objects' then
            'app_user may create in a schema or in the database: see multigres_check()'
        when 'DROP OWNED' then
            'any tenant may drop the temporary tables of all others; only a superuser can create '
                'the event trigger that refuses it'
        else 'the functions belong to ' || (
            select string_agg(distinct quote_ident(pg_get_userbyid(p.proowner)), ', ')
            from multigres.closable() as c join pg_proc as p on p.oid = c.id
            where c.item = why_open.item and c.kind = 'function')
            || ', and only the owner can revoke EXECUTE on them'
    end
$$;


-- Items that no privilege and no trigger closes, as long as tenants share a role.
create or replace function multigres.left_open()
returns table (what text, done boolean, note text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select o.what, false, o.note
    from (values
        (true, 'its own password',
            'every role may ALTER ROLE itself PASSWORD: whoever can run SQL can lock the others '
                'out, or log in as any tenant; let pg_hba.conf accept app_user only from the '
                'address of Multigres, by certificate if you can'),
        (true, 'its own settings',
            'every role may ALTER ROLE itself SET and RESET, which takes effect at the next login '
                'of all tenants; not for the context, which Multigres binds later; '
                || coalesce('set now, see multigres_check(): ' || (
                    select string_agg(s.name, ', ' order by s.name)
                    from multigres.login_settings() as s), 'nothing is set now')),
        (current_setting('server_version_num')::int < 150000, 'membership in it',
            'before PostgreSQL 15 app_user may GRANT app_user TO any role'),
        (true, 'LISTEN and NOTIFY',
            'the commands need no privilege, so pg_notify() remains: send no secrets, and trust '
                'nothing that arrives'),
        (true, 'LOCK TABLE',
            'a role with UPDATE or DELETE can lock the whole table: set lock_timeout and '
                'idle_in_transaction_session_timeout, which a session may reset'),
        (current_setting('max_prepared_transactions')::int > 0, 'prepared transactions',
            'a tenant may commit or roll back the prepared transaction of another: set '
                'max_prepared_transactions to 0'),
        (true, 'sizes and counts',
            'pg_relation_size(), pg_class.reltuples, sequences and the statistics views tell how '
                'much all tenants have together'),
        (true, 'shared resources',
            'one tenant can use up connections, memory, temporary files and processor time')
    ) as o(applies, what, note)
    where o.applies
    union all
    select 'other databases', false,
        'functions are closed only in this database, and all sessions of the cluster can be '
            || 'signalled and watched from ' || string_agg(quote_ident(d.datname), ', '
                order by d.datname)
            || '; run multigres_harden() there, or '
            || string_agg(format('revoke connect on database %I from public', d.datname), '; '
                order by d.datname)
    from pg_database as d
    where d.datallowconn and d.datname <> current_database()
        and has_database_privilege('app_user', d.oid, 'connect')
        and to_regrole('app_user') is not null
    having count(*) > 0
$$;


-- Gives back what multigres_harden() took, and takes what it gave. What cannot be undone by who
-- calls this stays in the record for one who can.
create or replace function public.multigres_unharden()
returns table (what text, done boolean, note text)
language plpgsql
set search_path = pg_catalog, pg_temp
set client_min_messages = error
as $$
#variable_conflict use_column
declare
    change record;
begin
    perform multigres.hold_hardening();
    for change in
        select h.*, c.id, c.object as target,
            h.grantee = 'public' or r.oid is not null as has_grantee
        from multigres.hardening as h
        left join multigres.closable() as c on c.item = h.item and c.kind = h.kind
            and c.privilege = h.privilege and (c.object = h.object or c.kind = 'database')
        left join pg_roles as r on r.rolname = h.grantee
        order by h.position desc
    loop
        what := change.item;
        done := true;
        note := '';
        if change.kind = 'event trigger' then
            begin
                drop event trigger if exists multigres_keep_owned;
            exception when insufficient_privilege then
                done := false;
            end;
        elsif change.id is null or not change.has_grantee then
            note := format('%s %s: missing, or not an item of multigres_harden()',
                change.kind, change.object);
        else
            done := multigres.set_right(not change.granted, change.kind, change.id, change.target,
                change.privilege, change.grantee, change.grantable);
        end if;
        if done then
            delete from multigres.hardening as h where h.position = change.position;
        else
            note := change.kind || ' ' || change.object || ' belongs to another role';
        end if;
        return next;
    end loop;
end
$$;


-- The record of an older version was in schema public, where default privileges may have let
-- tenants write it. Only rows about grants that PostgreSQL itself makes to PUBLIC, or about the
-- roles that keep a function, are trusted; the others are listed, and not copied.
create or replace function multigres.move_hardening() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    old record;
    left_out text;
begin
    lock table public.multigres_hardening in access exclusive mode;
    if exists (
        select from pg_class as c join pg_roles as r on r.oid = c.relowner
        where c.oid = 'public.multigres_hardening'::regclass
            and (c.relkind <> 'r' or r.rolname <> current_user and not r.rolsuper))
    then
        raise exception 'public.multigres_hardening belongs to another role'
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Drop it if multigres_harden() did not create it.';
    end if;
    for old in
        select o.*, r.rolname, o.item = 'DROP OWNED' and o.kind = 'event trigger'
                and o.object = 'multigres_keep_owned'
            or exists (
                select from multigres.closable() as c
                left join pg_init_privs as i on i.classoid = 'pg_proc'::regclass
                    and i.objoid = c.id and i.objsubid = 0
                where c.item = o.item and c.kind = o.kind and c.kind = 'function'
                    and c.object = o.object and c.privilege = o.privilege
                    and case when o.granted then r.rolname = any (c.keepers)
                        else o.grantee = 'public' and (i.initprivs is null or exists (
                            select from aclexplode(i.initprivs) as a where a.grantee = 0)) end
            ) as believed
        from only public.multigres_hardening as o
        left join pg_roles as r on quote_ident(r.rolname) = o.grantee
        order by o.position
    loop
        if old.believed then
            insert into multigres.hardening
                (item, kind, object, privilege, grantee, grantable, granted)
            values (old.item, old.kind, old.object, old.privilege,
                coalesce(old.rolname, 'public'), false, old.granted);
        else
            left_out := concat_ws('; ', left_out, format('%L on %L %L to %L',
                left(old.privilege, 20), left(old.kind, 20), left(old.object, 60),
                left(old.grantee, 63)));
        end if;
    end loop;
    if left_out is not null then
        raise warning 'the record of what multigres_harden() changed cannot be trusted'
            using detail = 'Not copied from public.multigres_hardening: ' || left_out,
                hint = 'Tenants may have written these rows, if default privileges let them. If '
                    'you know that one is right, grant or revoke it yourself.';
    end if;
    drop table public.multigres_hardening;
end
$$;


do $$
declare
    function regprocedure;
begin
    if to_regclass('public.multigres_hardening') is not null then
        perform multigres.move_hardening();
    end if;
    for function in
        select p.oid::regprocedure from pg_proc as p
        where p.pronamespace = 'public'::regnamespace
            and p.proname in ('multigres_acl', 'multigres_has', 'multigres_close',
                'multigres_hold_hardening', 'multigres_open')
    loop
        execute format('drop function %s', function);
    end loop;
    for function in
        select p.oid::regprocedure from pg_proc as p
        where p.oid in ('public.multigres_harden(text[])'::regprocedure,
                'public.multigres_unharden()'::regprocedure)
            or p.pronamespace = 'multigres'::regnamespace
                and p.proname in ('hardenings', 'closable', 'grants', 'set_right', 'close',
                    'hold_hardening', 'keep_owned', 'refuse_drop_owned', 'why_open', 'left_open',
                    'move_hardening')
    loop
        execute format('alter function %s owner to current_user', function);
        execute format('revoke all on function %s from public', function);
    end loop;
end
$$;
