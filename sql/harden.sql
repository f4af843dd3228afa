-- multigres_harden(): all tenants log in as one role, and PostgreSQL lets sessions of one role
-- watch, stop and disturb each other. This closes what can be closed, and says what cannot.
--
--     psql -U postgres -d DB -c "select * from multigres_harden()"
--     psql -U postgres -d DB -c "select * from multigres_harden(keep => '{advisory locks}')"
--     psql -U postgres -d DB -c "select * from multigres_unharden()"
--
-- It takes rights from PUBLIC, so other roles of this database lose them too; superusers and the
-- members of pg_signal_backend and pg_read_all_stats do not. What it changed stands in the table
-- multigres_hardening, which exists only while there is something to undo. Loaded by setup.sql,
-- inside its transaction.


-- Names and not oids: so the table outlives a dump and an upgrade of the server.
create or replace function public.multigres_acl(kind text, object text) returns aclitem[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select case kind
        when 'function' then (
            select coalesce(p.proacl, acldefault('f', p.proowner)) from pg_proc as p
            where p.oid = to_regprocedure(object))
        when 'table' then (
            select coalesce(c.relacl, acldefault('r', c.relowner)) from pg_class as c
            where c.oid = to_regclass(object))
        when 'schema' then (
            select coalesce(n.nspacl, acldefault('n', n.nspowner)) from pg_namespace as n
            where quote_ident(n.nspname) = object)
        when 'database' then (
            select coalesce(d.datacl, acldefault('d', d.datdba)) from pg_database as d
            where quote_ident(d.datname) = object)
    end
$$;


create or replace function public.multigres_has(
    kind text, object text, privilege text, role text)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select from aclexplode(public.multigres_acl(kind, object)) as a
        where a.privilege_type = privilege
            and role = case a.grantee when 0 then 'public'
                else quote_ident(pg_get_userbyid(a.grantee)) end)
$$;


-- Takes one right from app_user, through whomever it has it, gives it to those who are to keep
-- it, and remembers both. True when app_user does not have it any more.
create or replace function public.multigres_close(
    item text, kind text, object text, privilege text, keepers text[])
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set client_min_messages = error
as $$
declare
    held record;
    closed boolean := true;
    revoked boolean := false;
begin
    for held in
        select a.grantor, a.is_grantable,
            case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end
                as grantee
        from aclexplode(public.multigres_acl(kind, object)) as a
        where a.privilege_type = privilege
            and a.grantee in (select public.multigres_app_roles())
    loop
        -- Who may not revoke gets an error or a warning, depending on what else he may.
        begin
            execute format('revoke %s on %s %s from %s', privilege, kind, object, held.grantee);
        exception when insufficient_privilege or dependent_objects_still_exist then
            null;
        end;
        if public.multigres_has(kind, object, privilege, held.grantee) then
            closed := false;
        else
            revoked := true;
            insert into public.multigres_hardening
                (item, kind, object, privilege, grantee, grantable, granted)
            values (item, kind, object, privilege, held.grantee, held.is_grantable, false);
        end if;
    end loop;
    if revoked then
        for held in
            select distinct quote_ident(r.rolname) as grantee
            from unnest(keepers) as k(name) join pg_roles as r on r.rolname = k.name
            where not r.rolsuper and r.oid not in (select public.multigres_app_roles())
        loop
            if not public.multigres_has(kind, object, privilege, held.grantee) then
                execute format('grant %s on %s %s to %s', privilege, kind, object, held.grantee);
                insert into public.multigres_hardening
                    (item, kind, object, privilege, grantee, grantable, granted)
                values (item, kind, object, privilege, held.grantee, false, true);
            end if;
        end loop;
    end if;
    return closed;
end
$$;


-- The table of changes is read as SQL, and so it must be nobody's but of those whose functions
-- these are.
create or replace function public.multigres_hold_hardening() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    owner name;
begin
    lock table public.multigres_hardening in exclusive mode;
    select r.rolname into owner
    from pg_class as c
    join pg_roles as r on r.oid = c.relowner
    join pg_proc as p on p.oid = 'public.multigres_unharden()'::regprocedure
    where c.oid = 'public.multigres_hardening'::regclass
        and (c.relkind <> 'r'
            or r.rolname <> current_user and not r.rolsuper and r.oid <> p.proowner);
    if owner is not null then
        raise exception 'public.multigres_hardening belongs to %', quote_ident(owner)
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Drop it, if it was not made by multigres_harden().';
    end if;
end
$$;


-- DROP OWNED BY app_user drops the temporary tables of all tenants' sessions. Any role may say
-- it of itself; an event trigger is the one thing that hears it.
create or replace function public.multigres_keep_owned() returns event_trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if 'app_user' in (session_user, current_user) then
        raise exception 'app_user may not drop what all tenants own'
            using errcode = 'insufficient_privilege';
    end if;
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
    -- What takes rights on functions: name, functions, who keeps them, and what to know.
    items constant text[] := array[
        ['signals to other sessions', '^pg_(cancel|terminate)_backend$', 'pg_signal_backend',
            'members of pg_signal_backend may still cancel and terminate'],
        ['watching other sessions',
            '^pg_stat_get_(activity|backend_.*|progress_info)$|^pg_lock_status$'
                '|^pg_(safe_snapshot_)?blocking_pids$|^pg_prepared_xact$',
            'pg_read_all_stats',
            'pg_stat_activity, pg_locks and the like; members of pg_read_all_stats still see them'],
        ['large objects', '^(lo_.*|loread|lowrite)$', null,
            'they would belong to all tenants: keep such bytes in a bytea column'],
        ['advisory locks', '^pg_(try_)?advisory_(xact_)?lock(_shared)?$', null,
            'one tenant could hold the locks of another; if the application needs them, keep them']
    ];
    keepers text[];
    closed boolean;
    one record;
    place integer;
begin
    select array_agg(u.name) into one from unnest(keep) as u(name)
    where u.name not in ('signals to other sessions', 'watching other sessions', 'large objects',
        'advisory locks', 'statistics of statements', 'creating objects', 'DROP OWNED');
    if one.array_agg is not null then
        raise exception 'multigres_harden knows no %', array_to_string(one.array_agg, ', ')
            using errcode = 'invalid_parameter_value',
                hint = 'What it can leave open stands in its first column.';
    end if;
    create table if not exists public.multigres_hardening (
        position bigint generated always as identity primary key,
        item text not null,
        kind text not null,
        object text not null,
        privilege text not null,
        grantee text not null,
        grantable boolean not null,
        granted boolean not null
    );
    perform public.multigres_hold_hardening();

    if to_regrole('app_user') is null then
        return query select 'app_user itself', false, 'does not exist';
    elsif public.multigres_role_problems(to_regrole('app_user')) is not null then
        return query select 'app_user itself', false, 'what is closed here does not hold it: it '
            || public.multigres_role_problems(to_regrole('app_user'));
    end if;

    -- Whoever ran setup.sql needs an advisory lock to run it again.
    keepers := array[current_user::text, (
        select pg_get_userbyid(p.proowner)::text from pg_proc as p
        where p.oid = 'public.current_tenant_id()'::regprocedure)];
    for place in 1 .. array_length(items, 1) loop
        continue when items[place][1] = any (keep);
        closed := true;
        for one in
            select p.oid::regprocedure::text as name from pg_proc as p
            where p.pronamespace = 'pg_catalog'::regnamespace and p.proname ~ items[place][2]
        loop
            closed := public.multigres_close(items[place][1], 'function', one.name, 'EXECUTE',
                keepers || items[place][3]) and closed;
        end loop;
        return query select items[place][1], closed, case when closed then items[place][4]
            else 'the functions belong to ' || (
                select string_agg(distinct quote_ident(pg_get_userbyid(p.proowner)), ', ')
                from pg_proc as p
                where p.pronamespace = 'pg_catalog'::regnamespace and p.proname ~ items[place][2])
                || ', who alone can revoke EXECUTE on them' end;
    end loop;

    if 'statistics of statements' <> all (keep) then
        closed := null;
        for one in
            select case d.classid when 'pg_proc'::regclass then 'function' else 'table' end as kind,
                case d.classid when 'pg_proc'::regclass then d.objid::regprocedure::text
                    else d.objid::regclass::text end as name,
                case d.classid when 'pg_proc'::regclass then 'EXECUTE' else 'SELECT' end
                    as privilege
            from pg_extension as e
            join pg_depend as d on d.refclassid = 'pg_extension'::regclass and d.refobjid = e.oid
                and d.deptype = 'e' and d.classid in ('pg_proc'::regclass, 'pg_class'::regclass)
            where e.extname = 'pg_stat_statements'
        loop
            closed := public.multigres_close('statistics of statements', one.kind, one.name,
                one.privilege, keepers || 'pg_read_all_stats'::text) and coalesce(closed, true);
        end loop;
        if closed is not null then
            return query select 'statistics of statements', closed,
                'pg_stat_statements shows the texts of all statements of app_user'
                || case when closed then ' to members of pg_read_all_stats alone' else
                    ': the owner of the extension can revoke SELECT and EXECUTE' end;
        end if;
    end if;

    if 'creating objects' <> all (keep) then
        closed := true;
        for one in
            select 'schema' as kind, quote_ident(n.nspname) as name, n.nspowner as owner
            from pg_namespace as n where n.nspname !~ '^pg_'
            union all
            select 'database', quote_ident(d.datname), d.datdba
            from pg_database as d where d.datname = current_database()
        loop
            closed := public.multigres_close('creating objects', one.kind, one.name, 'CREATE',
                '{}') and one.owner not in (select public.multigres_app_roles()) and closed;
        end loop;
        return query select 'creating objects', closed, case when closed
            then 'no tenant leaves objects where the next one looks'
            else 'app_user may create in a schema or in the database: see multigres_check()' end;
    end if;

    if 'DROP OWNED' <> all (keep) then
        begin
            if not exists (
                select from pg_event_trigger as t where t.evtname = 'multigres_keep_owned')
            then
                create event trigger multigres_keep_owned on ddl_command_start
                    when tag in ('DROP OWNED') execute function public.multigres_keep_owned();
                insert into public.multigres_hardening
                    (item, kind, object, privilege, grantee, grantable, granted)
                values ('DROP OWNED', 'event trigger', 'multigres_keep_owned', '', '', false, true);
            end if;
        exception when insufficient_privilege then
            null;
        end;
        closed := exists (
            select from pg_event_trigger as t
            where t.evtname = 'multigres_keep_owned' and t.evtenabled in ('O', 'A'));
        return query select 'DROP OWNED', closed, case when closed
            then 'the temporary tables of other sessions stay, an event trigger refuses it'
            else 'any tenant may drop the temporary tables of all others; the event trigger '
                'that would refuse it takes a superuser' end;
    end if;

    return query select * from public.multigres_open();
    if not exists (select from public.multigres_hardening) then
        drop table public.multigres_hardening;
    end if;
end
$$;


-- What no privilege and no trigger closes, as long as tenants share a role.
create or replace function public.multigres_open()
returns table (what text, done boolean, note text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select o.what, false, o.note
    from (values
        (true, 'its own password',
            'ALTER ROLE app_user PASSWORD is every role''s right: who can run SQL can lock the '
                'others out, or log in as any tenant; let pg_hba.conf take app_user from '
                'Multigres''s address alone, and by certificate where you can'),
        (true, 'its own settings',
            'ALTER ROLE app_user SET and RESET are every role''s right, and meet all tenants'' '
                'next logins; not the context, which Multigres binds later; multigres_check() '
                'finds the ones that matter'),
        (current_setting('server_version_num')::int < 150000, 'membership in it',
            'before PostgreSQL 15 app_user may GRANT app_user TO any role'),
        (true, 'LISTEN and NOTIFY',
            'the commands need no privilege, so pg_notify() is left alone: send no secrets by '
                'them, and trust nothing that arrives'),
        (true, 'LOCK TABLE',
            'who may UPDATE or DELETE may lock the whole table: set lock_timeout and '
                'idle_in_transaction_session_timeout, which a session may set back'),
        (current_setting('max_prepared_transactions')::int > 0, 'prepared transactions',
            'a tenant may commit or roll back the prepared transaction of another: set '
                'max_prepared_transactions to 0'),
        (true, 'sizes and counts',
            'pg_relation_size(), pg_class.reltuples, sequences and the statistics views tell how '
                'much all tenants have together'),
        (true, 'shared resources',
            'connections, memory, temporary files and processor time are one tenant''s to use up')
    ) as o(applies, what, note)
    where o.applies
    union all
    select 'other databases', false,
        'functions are closed in this database alone, and sessions of the whole cluster can be '
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
-- calls this stays in the table for one who can.
create or replace function public.multigres_unharden()
returns table (what text, done boolean, note text)
language plpgsql
set search_path = pg_catalog, pg_temp
set client_min_messages = error
as $$
#variable_conflict use_column
declare
    change record;
    undone boolean;
begin
    if to_regclass('public.multigres_hardening') is null then
        return;
    end if;
    perform public.multigres_hold_hardening();
    for change in select h.* from public.multigres_hardening as h order by h.position desc loop
        begin
            if change.kind = 'event trigger' then
                execute format('drop event trigger if exists %s', change.object);
                undone := true;
            elsif public.multigres_acl(change.kind, change.object) is null
                or change.grantee <> 'public' and to_regrole(change.grantee) is null
            then
                undone := true;
            else
                execute format(
                    case when change.granted then 'revoke %s on %s %s from %s'
                        else 'grant %s on %s %s to %s' end
                        || case when change.grantable then ' with grant option' else '' end,
                    change.privilege, change.kind, change.object, change.grantee);
                undone := public.multigres_has(change.kind, change.object, change.privilege,
                    change.grantee) <> change.granted;
            end if;
        exception when insufficient_privilege or dependent_objects_still_exist then
            undone := false;
        end;
        if undone then
            delete from public.multigres_hardening as h where h.position = change.position;
        end if;
        what := change.item;
        done := undone;
        note := case when undone then ''
            else change.kind || ' ' || change.object || ' is not yours' end;
        return next;
    end loop;
    if not exists (select from public.multigres_hardening) then
        drop table public.multigres_hardening;
    end if;
end
$$;


do $$
declare
    function regprocedure;
begin
    for function in
        select p.oid::regprocedure from pg_proc as p
        where p.pronamespace = 'public'::regnamespace
            and p.proname in ('multigres_acl', 'multigres_has', 'multigres_close',
                'multigres_hold_hardening', 'multigres_keep_owned', 'multigres_harden',
                'multigres_open', 'multigres_unharden')
    loop
        execute format('alter function %s owner to current_user', function);
        execute format('revoke all on function %s from public', function);
    end loop;
end
$$;
