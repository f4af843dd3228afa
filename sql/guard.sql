-- The record of what is protected, and its guard: event triggers that refuse statements which would
-- end the isolation of a table, and a verdict that Multigres asks for at login.
--
-- A schema tool that does not know the policies drops them. multigres_unprotect() is the way to
-- take them away: it takes the table out of the record first. No setting and no marker lets
-- anything else pass.
--
-- The owner of a table can get around the triggers: by what DDL does not show, and by functions of
-- their own that run inside it. The verdict is the second look.


-- protected: one row for each name that a protected table has, or has had: another table that takes
-- the name must be protected too, before a tenant reaches it. relation is NULL once the table is
-- dropped; it is a regclass, so that a dump holds its name. version is the state of the policies
-- that was judged intact: a later question compares, and need not judge. A part
-- (a partition or an heir) loses its names with its table: it is protected with its parent again.
-- While its policies are written anew, a table is out of the record: relation is NULL, and version
-- its oid.
--
-- context_parts: the functions and views that policies take the tenant from, and what they say. A
-- view's text depends on the major version of PostgreSQL, and is judged by the same one only. id is
-- the oid that it had: policies find a function by that, whatever its name has become. A dump
-- holds the oid of another database.
do $$
begin
    if to_regclass('multigres.protected') is null then
        create table multigres.protected (
            schema_name name not null,
            table_name name not null,
            relation regclass,
            version text,
            part boolean not null,
            primary key (schema_name, table_name)
        );
        create index protected_relation on multigres.protected (relation);
    end if;
    if to_regclass('multigres.context_parts') is null then
        create table multigres.context_parts (
            kind text not null check (kind in ('function', 'view')),
            name text not null,
            content bytea not null,
            version int not null,
            primary key (kind, name)
        );
    end if;
    if not exists (
        select from pg_attribute as a
        where a.attrelid = 'multigres.context_parts'::regclass and a.attname = 'id')
    then
        alter table multigres.context_parts add column id oid;
    end if;
    -- Of an older version, with other results or arguments.
    if to_regprocedure('multigres.cover(text)') is not null then
        drop function multigres.cover(text);
        drop function multigres.uncovered();
    end if;
    perform multigres.take('multigres.protected'), multigres.take('multigres.context_parts');
    perform multigres.withhold('multigres.protected');
    perform multigres.withhold('multigres.context_parts');
end
$$;


-- Which state the policies of a table are in: it differs after whatever was done to one of them.
-- xmin alone would not: what one transaction changes twice has one.
create or replace function multigres.version(relation oid) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select string_agg(concat(p.polname, p.xmin, p.ctid), ' ' order by p.polname)
        from pg_policy as p
        where p.polrelid = version.relation and starts_with(p.polname::text, 'multigres_'));
end
$$;


-- The problem of a recorded table, apart from its policies; NULL if it has none.
create or replace function multigres.switched_off(relation oid) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select case
            when c.relkind not in ('r', 'p') then 'it is not a table any more'
            when not c.relrowsecurity then 'row-level security is disabled'
            when not c.relforcerowsecurity
                -- multigres_maintain() forces it again at the end of this transaction.
                and not exists (
                    select from multigres.maintained as m
                    where m.relation = c.oid
                        and m.transaction = pg_current_xact_id_if_assigned())
            then 'row-level security is not forced'
        end
        from pg_class as c where c.oid = switched_off.relation);
end
$$;


-- The problem of its policies, of which this version was intact; NULL if they have none.
create or replace function multigres.altered(relation oid, version text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if multigres.version(relation) = version then
        return null;
    elsif not multigres.intact(relation) then
        return 'its policies are missing or were changed';
    elsif not exists (
        select from pg_policy as p where p.polrelid = altered.relation and p.polpermissive)
    then
        return 'it has no permissive policy, so nobody sees a row';
    end if;
    return null;
end
$$;


-- How this role gets past the policies of a protected table; NULL if it does not.
create or replace function multigres.exposed(relation oid, role oid) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select case
            when pg_has_role(exposed.role, c.relowner, 'member')
            then format('%I owns it and can disable row-level security',
                pg_get_userbyid(exposed.role))
            when has_table_privilege(exposed.role, c.oid, 'truncate, references, trigger')
                or has_any_column_privilege(exposed.role, c.oid, 'references')
            then format('%I has TRUNCATE, REFERENCES or TRIGGER on it',
                pg_get_userbyid(exposed.role))
        end
        from pg_class as c where c.oid = exposed.relation);
end
$$;


-- The recorded tables for which exposed() has an answer.
create or replace function multigres.exposures(role oid) returns oid[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select distinct c.oid
        from multigres.protected as p join pg_class as c on c.oid = p.relation
        where pg_has_role(role, c.relowner, 'member')
            or has_table_privilege(role, c.oid, 'truncate, references, trigger')
            or has_any_column_privilege(role, c.oid, 'references'));
end
$$;


create or replace function multigres.reaches(role oid, relation oid) returns boolean
language plpgsql stable cost 1000
set search_path = pg_catalog, pg_temp
as $$
begin
    return has_any_column_privilege(role, relation, 'select, insert, update')
        or has_table_privilege(role, relation, 'delete');
end
$$;


-- Partitions and heirs of recorded tables, at any depth, that are not recorded: each can be read by
-- its own name, past the policies of its table. path is all from that table to it. Temporary ones
-- are their session's alone.
create or replace function multigres.uncovered()
returns table (relation oid, parent oid, path oid[])
language plpgsql stable rows 10
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
        with recursive heirs(relation, parent, path) as (
            select i.inhrelid, i.inhparent, array[i.inhparent, i.inhrelid]
            from pg_inherits as i
            where exists (select from multigres.protected as p where p.relation = i.inhparent)
                and not exists (select from multigres.protected as p where p.relation = i.inhrelid)
            union all
            select i.inhrelid, heirs.parent, heirs.path || i.inhrelid
            from heirs join pg_inherits as i on i.inhparent = heirs.relation
            where not exists (select from multigres.protected as p where p.relation = i.inhrelid)
        )
        select heirs.relation, heirs.parent, heirs.path
        from heirs join pg_class as c on c.oid = heirs.relation and c.relpersistence <> 't';
end
$$;


-- Tables that show this role the rows of a recorded one, which is a part of theirs, past its
-- policies: those that are not recorded, and those that compare less. Only those where one of
-- these relations stands between the two, or is one of them, if any are given.
--
-- Compiling this query takes longer than it does.
create or replace function multigres.open_parents(role oid, changed oid[] default null)
returns table (relation oid, part oid)
language plpgsql stable rows 10
set search_path = pg_catalog, pg_temp
set jit = off
as $$
begin
    return query
        with recursive parents(relation, part, path) as (
            select i.inhparent, i.inhrelid, array[i.inhrelid, i.inhparent]
            from pg_inherits as i
            where exists (select from multigres.protected as p where p.relation = i.inhrelid)
            union all
            select i.inhparent, parents.part, parents.path || i.inhparent
            from parents join pg_inherits as i on i.inhrelid = parents.relation
        ),
        pairs as materialized (
            select distinct p.relation, p.part from parents as p
            where changed is null or p.path && changed
        ),
        reached as materialized (
            select r.relation from (select distinct p.relation from pairs as p offset 0) as r
            where multigres.reaches(role, r.relation)
        ),
        -- Mostly both are recorded with the same columns, by names that they have, as an heir has
        -- all columns of its parent.
        doubtful as materialized (
            select p.relation, p.part, q.relation is not null as recorded
            from pairs as p
            join reached on reached.relation = p.relation
            left join multigres.protected as q on q.relation = p.relation
            where q.relation is null
                or not exists (
                    select from multigres.dimensions as d where d.relation = p.part)
                or exists (
                    select from multigres.dimensions as d
                    where d.relation = p.part and not exists (
                        select from multigres.dimensions as same
                        join pg_attribute as a on a.attrelid = same.relation
                            and a.attname = same.column_name and not a.attisdropped
                        where same.relation = p.relation and same.variable = d.variable
                            and same.column_name = d.column_name))
        )
        select p.relation, min(p.part)
        from doubtful as p
        where not p.recorded or exists (
            select from multigres.parts(p.part) as below
            where not exists (
                select from multigres.parts(p.relation) as above
                where above.variable = below.variable and above.column_name = below.column_name))
        group by p.relation;
end
$$;


-- The oid of a part of the context; NULL once it is gone.
create or replace function multigres.part_id(kind text, name text) returns oid
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return case kind when 'function' then to_regprocedure(name)::oid
        when 'view' then to_regclass(name)::oid end;
end
$$;


-- A hash of the definition of a function or view, which a dump and a restore leave as it is.
--
-- The settings of a session must not tell in how PostgreSQL prints the view.
create or replace function multigres.content(kind text, name text) returns bytea
language plpgsql stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
set bytea_output = hex
set standard_conforming_strings = on
as $$
begin
    return case kind
        when 'function' then (
            select sha256(convert_to(concat_ws(e'\x01', l.lanname, p.prosecdef, p.provolatile,
                p.proparallel, p.proleakproof, p.proisstrict, p.prokind, p.prorettype::regtype,
                p.proretset, p.proconfig, p.prosrc), 'SQL_ASCII'))
            from pg_proc as p join pg_language as l on l.oid = p.prolang
            where p.oid = multigres.part_id(kind, content.name))
        when 'view' then (
            select sha256(convert_to(concat_ws(e'\x01', c.reloptions, pg_get_viewdef(c.oid)),
                'SQL_ASCII'))
            from pg_class as c
            where c.oid = multigres.part_id(kind, content.name) and c.relkind = 'v')
    end;
end
$$;


create or replace function multigres.forget_context() returns void
language sql
set search_path = pg_catalog, pg_temp
as 'delete from multigres.context_parts';


-- Records what the context is made of now: functions that policies of Multigres call and that
-- belong to Multigres, and the views of schema multigres.
create or replace function multigres.remember_context() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
begin
    delete from multigres.context_parts;
    insert into multigres.context_parts (kind, name, content, version, id)
    select found.kind, found.name, multigres.content(found.kind, found.name),
        current_setting('server_version_num')::int / 10000,
        multigres.part_id(found.kind, found.name)
    from (
        select 'function' as kind, p.oid::regprocedure::text as name
        from pg_proc as p
        where p.oid in (to_regprocedure('public.current_tenant_id()'),
                to_regprocedure('public.multigres_context(text)'),
                to_regprocedure('multigres.context_1(text)'))
            or p.pronamespace = 'public'::regnamespace and p.proname = 'multigres_own'
        union all
        select 'view', c.oid::regclass::text
        from pg_class as c
        where c.relnamespace = 'multigres'::regnamespace and c.relkind = 'v'
    ) as found;
end
$$;


-- Those of them that have changed, or that this role could change.
create or replace function multigres.context_faults(role oid)
returns table (name text, problem text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
        select found.name, found.problem
        from (
            select w.name, case
                when now.content is null then 'it is missing'
                when now.content <> w.content
                    and (w.kind = 'function'
                        or w.version = current_setting('server_version_num')::int / 10000)
                then 'it was changed, and policies take the tenant from it'
                when exists (
                    select from pg_depend as d
                    join pg_policy as q on q.oid = d.objid
                        and starts_with(q.polname::text, 'multigres_')
                    where w.kind = 'function' and w.id <> part.id
                        and d.classid = 'pg_policy'::regclass
                        and d.refclassid = 'pg_proc'::regclass and d.refobjid = w.id)
                    and w.id not in (
                        select multigres.part_id(k.kind, k.name)
                        from multigres.context_parts as k
                        where multigres.part_id(k.kind, k.name) is not null)
                then 'policies call another function, which had its name'
                when pg_has_role(role, coalesce(p.proowner, c.relowner), 'member')
                then format('%I owns it, and policies take the tenant from it',
                    pg_get_userbyid(role))
                end as problem
            from multigres.context_parts as w
            cross join lateral (
                select multigres.content(w.kind, w.name) offset 0
            ) as now(content)
            cross join lateral (
                select multigres.part_id(w.kind, w.name) offset 0
            ) as part(id)
            left join pg_proc as p on w.kind = 'function' and p.oid = part.id
            left join pg_class as c on w.kind = 'view' and c.oid = part.id
        ) as found
        where found.problem is not null;
end
$$;


-- Out of the record with a table, its partitions and its heirs, until multigres.remember(): the
-- names that they have had stay, and no other table may take one.
create or replace function multigres.suspend(table_name regclass) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    update multigres.protected as p
    set relation = null, version = c.oid::text
    from multigres.family(suspend.table_name) as f
    join pg_class as c on c.oid = f
    join pg_namespace as n on n.oid = c.relnamespace
    where p.relation = f
        or p.relation is null and p.schema_name = n.nspname and p.table_name = c.relname;
end
$$;


-- Out of the record with a table, its partitions and its heirs, and with all their names.
create or replace function multigres.forget(table_name regclass) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    delete from multigres.protected as p
    using multigres.family(forget.table_name) as f
    join pg_class as c on c.oid = f
    join pg_namespace as n on n.oid = c.relnamespace
    where p.relation = f or p.relation is null and p.version = c.oid::text
        or p.schema_name = n.nspname and p.table_name = c.relname;
end
$$;


-- Into the record with a table, its partitions and its heirs, as far as they are protected now.
create or replace function multigres.remember(table_name regclass) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into multigres.protected (schema_name, table_name, relation, version, part)
    select n.nspname, c.relname, c.oid, multigres.version(c.oid),
        exists (select from pg_inherits as i where i.inhrelid = c.oid)
    from multigres.family(remember.table_name) as f
    join pg_class as c on c.oid = f
    join pg_namespace as n on n.oid = c.relnamespace
    where c.relrowsecurity and c.relforcerowsecurity and multigres.intact(c.oid)
    on conflict on constraint protected_pkey do update
        set relation = excluded.relation, version = excluded.version, part = excluded.part;
    -- The names that it had before.
    update multigres.protected as p
    set relation = now.relation, version = now.version
    from multigres.family(remember.table_name) as f
    join multigres.protected as now on now.relation = f
    where p.relation is null and p.version = f::oid::text;
end
$$;


-- For a table that was dropped or renamed on purpose: another one may have its name, and need not
-- be protected.
create or replace function public.multigres_forget(table_name text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    names text[] := parse_ident(table_name);
    standing regclass;
begin
    if array_length(names, 1) is distinct from 2 then
        raise exception 'multigres_forget needs a name with a schema'
            using errcode = 'invalid_parameter_value',
                hint = 'For example: SELECT multigres_forget(''public.contacts'').';
    end if;
    delete from multigres.protected as p
    where p.schema_name = names[1] and p.table_name = names[2]
        and not exists (
            select from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
            where c.oid = p.relation and n.nspname = names[1] and c.relname = names[2]);
    if not found then
        select p.relation into standing from multigres.protected as p
        where p.schema_name = names[1] and p.table_name = names[2];
        if standing is null then
            raise exception '% is not in the record of protected tables', table_name
                using errcode = 'object_not_in_prerequisite_state';
        end if;
        raise exception '% is protected', table_name
            using errcode = 'object_not_in_prerequisite_state',
                hint = format('SELECT multigres_unprotect(%L) takes the protection away.',
                    table_name);
    end if;
end
$$;


-- Ends a statement that would take the protection of a table away.
create or replace function multigres.refuse(tag text, object text, problem text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception '% would take the protection of tenants from %', tag, object
        using errcode = 'object_not_in_prerequisite_state',
            detail = format('After it, %s.', problem),
            hint = format('To do this on purpose, first call SELECT multigres_unprotect(%L). A '
                'schema tool drops policies that it does not know: declare them in its schema, as '
                'docs/schema-tools.md of Multigres shows.', object);
end
$$;


create or replace function multigres.refuse_context(tag text, object text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception '% would change %, from which policies take the tenant', tag, object
        using errcode = 'object_not_in_prerequisite_state',
            hint = 'To update it, run sql/setup.sql; to remove Multigres, run sql/teardown.sql. '
                'Exclude schema multigres, and functions whose names begin with multigres_, from '
                'schema tools.';
end
$$;


-- Ends a statement after which app_user would see the rows of a recorded table through a table that
-- it is a part of.
create or replace function multigres.refuse_open_parents(tag text, changed oid[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
declare
    open record;
begin
    select o.relation::regclass as parent, o.part::regclass as part into open
    from multigres.open_parents(to_regrole('app_user'), changed) as o limit 1;
    if found then
        raise exception '% would show the rows of % through %, past its policies', tag, open.part,
            open.parent
            using errcode = 'object_not_in_prerequisite_state',
                hint = format('Multigres lets nobody read a protected table through one that is '
                    'not. First protect %2$s for the same columns as %1$s: '
                    'SELECT multigres_protect(%3$L). Or revoke the privileges of app_user on '
                    '%2$s.',
                    open.part, open.parent, open.parent::text);
    end if;
end
$$;


-- Judges recorded tables that a statement has changed, by what a statement of this kind can take
-- from them: what was wrong before must not stop the one that mends it.
create or replace function multigres.judge(tag text, changed oid[], of_policies boolean)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
declare
    judged record;
    problem text;
begin
    for judged in
        select distinct on (p.relation) c.oid, c.relowner, p.version
        from multigres.protected as p join pg_class as c on c.oid = p.relation
        where p.relation::oid = any (changed)
    loop
        problem := case
            when of_policies then multigres.altered(judged.oid, judged.version)
            when pg_has_role(to_regrole('app_user'), judged.relowner, 'member')
                then 'app_user owns it and can disable row-level security'
            else multigres.switched_off(judged.oid) end;
        if problem is not null then
            perform multigres.refuse(tag, judged.oid::regclass::text, problem);
        end if;
    end loop;
end
$$;


-- Lets the record follow a statement that has passed: new names, policies that were written anew.
create or replace function multigres.follow(changed oid[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    update multigres.protected as p set version = multigres.version(p.relation)
    where p.relation::oid = any (changed)
        and p.version is distinct from multigres.version(p.relation)
        and multigres.altered(p.relation, p.version) is null;
    insert into multigres.protected as p (schema_name, table_name, relation, version, part)
    select distinct n.nspname, c.relname, c.oid, known.version, known.part
    from multigres.protected as known
    join pg_class as c on c.oid = known.relation
    join pg_namespace as n on n.oid = c.relnamespace
    where c.oid = any (changed)
    on conflict on constraint protected_pkey do update
        set relation = excluded.relation, version = excluded.version
        where p.relation is distinct from excluded.relation;

    -- A table that was dropped and is made anew, with the policies of a dump.
    update multigres.protected as p
    set relation = c.oid, version = multigres.version(c.oid)
    from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
    where c.oid = any (changed) and p.relation is null and p.version is null
        and p.schema_name = n.nspname and p.table_name = c.relname
        and c.relrowsecurity and c.relforcerowsecurity and multigres.intact(c.oid);
end
$$;


-- Puts the policies of a table on a partition or an heir that somebody was granted a right on, by
-- default privileges mostly, and that would show all its rows. Where it cannot, it ends the
-- statement if that one has opened it: it has changed one of these relations, or nothing is known
-- of what it has changed, and it was not open before.
create or replace function multigres.cover(tag text, changed oid[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
declare
    part record;
begin
    if current_setting('multigres.covering', true) = 'on' then
        return;
    end if;
    for part in
        select u.relation::regclass as name, u.parent, u.path, c.relkind
        from multigres.uncovered() as u join pg_class as c on c.oid = u.relation
        where exists (
            select from aclexplode(c.relacl) as a where a.grantee <> c.relowner)
    loop
        perform set_config('multigres.covering', 'on', true);
        begin
            if part.relkind not in ('r', 'p') then
                raise insufficient_privilege;
            end if;
            perform multigres.note(part.name, p.column_name, p.variable, '{}', '{}')
            from multigres.parts(part.parent) as p order by p.place;
            perform multigres.isolate(part.name);
        exception when insufficient_privilege then
            if (part.path && changed) is false
                or changed is null and part.name::oid = any (multigres.noted())
            then
                perform set_config('multigres.covering', '', true);
                continue;
            end if;
            raise exception '% would open % to other roles, past the policies of %', tag,
                part.name, part.parent::regclass
                using errcode = 'object_not_in_prerequisite_state',
                    hint = case when part.relkind in ('r', 'p')
                        then format('Revoke the privileges that others have on it, by default '
                            'privileges too, attach it, and then call '
                            'SELECT multigres_protect(%L).', part.parent::regclass)
                        else 'Multigres cannot protect a foreign table. Revoke the privileges '
                            'that others have on it, by default privileges too.' end;
        end;
        perform set_config('multigres.covering', '', true);
        perform multigres.remember(part.name);
    end loop;
end
$$;


-- The oids that guard_start() has noted.
create or replace function multigres.noted() returns oid[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce(nullif(current_setting('multigres.exposed', true), ''), '{}')::oid[];
end
$$;


-- Ends a statement that has changed what policies take the tenant from.
create or replace function multigres.guard_context(tag text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    object text;
begin
    select w.name into object
    from pg_event_trigger_ddl_commands() as c
    join multigres.context_parts as w
        on c.objid = multigres.part_id(w.kind, w.name) or c.objid = w.id
    where exists (
        select from multigres.context_faults(to_regrole('app_user')) as f where f.name = w.name)
    limit 1;
    if found then
        perform multigres.refuse_context(tag, object);
    end if;
end
$$;


-- Ends a statement that has brought a function of another role into schema public under a name of
-- ours: beside ours it would make their calls ambiguous, those of each login too.
create or replace function multigres.guard_names(tag text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
declare
    stray text;
begin
    for stray in
        select p.oid::regprocedure::text
        from pg_event_trigger_ddl_commands() as c
        join pg_proc as p on c.classid = 'pg_proc'::regclass and p.oid = c.objid
            or c.classid = 'pg_namespace'::regclass and p.pronamespace = c.objid
        join pg_roles as r on r.oid = p.proowner
        where p.pronamespace = to_regnamespace('public')
            and (p.proname = 'current_tenant_id' or starts_with(p.proname::text, 'multigres_'))
            -- The guard runs with the rights of the owner of ours.
            and r.rolname <> current_user and not r.rolsuper
    loop
        -- One of ours that is given away stands beside no other.
        continue when tag like 'ALTER%' and (
            exists (select from multigres.release as o where o.function = stray)
            or exists (select from multigres.context_parts as w where w.name = stray));
        raise exception '% would give %, of another role, a name of Multigres', tag, stray
            using errcode = 'insufficient_privilege',
                hint = 'In schema public, current_tenant_id and names that begin with multigres_ '
                    'are for the role that ran setup.sql. Choose another name or schema.';
    end loop;
end
$$;


-- Ends a statement that has granted what takes the protection away. What it has changed is not
-- told: the difference to what was noted before it tells.
create or replace function multigres.guard_grants(tag text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
declare
    object oid;
    parents oid[];
begin
    select e into object
    from unnest(multigres.exposures(to_regrole('app_user'))) as e
    where e <> all (multigres.noted())
    limit 1;
    if found then
        perform multigres.refuse(tag, object::regclass::text,
            multigres.exposed(object, to_regrole('app_user')));
    end if;
    parents := array(
        select o.relation from multigres.open_parents(to_regrole('app_user')) as o
        where o.relation <> all (multigres.noted()));
    if parents <> '{}' then
        perform multigres.refuse_open_parents(tag, parents);
    end if;
    perform multigres.cover(tag, null);
end
$$;


-- Ends a statement that has taken the protection away from a table that it has changed.
create or replace function multigres.guard_tables(tag text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    changed oid[] := array(
        select case c.classid
            when 'pg_policy'::regclass then (
                select q.polrelid from pg_policy as q where q.oid = c.objid)
            else c.objid end
        from pg_event_trigger_ddl_commands() as c
        where c.classid <> 'pg_namespace'::regclass
        union all
        select r.oid
        from pg_event_trigger_ddl_commands() as c
        join pg_class as r on r.relnamespace = c.objid
        where c.classid = 'pg_namespace'::regclass);
begin
    perform multigres.judge(tag, changed, tag like '%POLICY');
    perform multigres.follow(changed);
    perform multigres.cover(tag, changed);
    if tag not like '%POLICY' then
        perform multigres.refuse_open_parents(tag, changed);
    end if;
end
$$;


-- CREATE SCHEMA may contain statements of all these kinds, which fire no event of their own.
create or replace function multigres.guard() returns event_trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
begin
    if tg_tag ~ '(FUNCTION|ROUTINE|VIEW)$' then
        perform multigres.guard_context(tg_tag);
    end if;
    if tg_tag ~ '(FUNCTION|ROUTINE|PROCEDURE|AGGREGATE)$' or tg_tag = 'ALTER SCHEMA' then
        perform multigres.guard_names(tg_tag);
    end if;
    if tg_tag in ('GRANT', 'CREATE SCHEMA') then
        perform multigres.guard_grants(tg_tag);
    end if;
    if tg_tag in ('ALTER TABLE', 'CREATE POLICY', 'ALTER POLICY', 'ALTER SCHEMA', 'CREATE SCHEMA',
        'CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE FOREIGN TABLE',
        'ALTER FOREIGN TABLE')
    then
        perform multigres.guard_tables(tg_tag);
    end if;
end
$$;


create or replace function multigres.guard_drop() returns event_trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
declare
    object text;
    changed oid[];
begin
    if to_regclass('multigres.protected') is null or to_regclass('multigres.tables') is null
        or to_regclass('multigres.dimensions') is null
        or to_regclass('multigres.context_parts') is null
    then
        raise exception '% would drop the record of what Multigres protects', tg_tag
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Exclude schema multigres from schema tools. To remove Multigres, run '
                    'sql/teardown.sql.';
    end if;
    delete from multigres.tables as t
    where not exists (select from pg_class as c where c.oid = t.relation);
    delete from multigres.dimensions as d
    where not exists (select from pg_class as c where c.oid = d.relation);
    -- A name waits for the next table that has it, a part of another table comes back with it.
    delete from multigres.protected as p
    where p.part and p.relation is not null
        and not exists (select from pg_class as c where c.oid = p.relation);
    update multigres.protected as p set relation = null, version = null
    where p.relation is not null
        and not exists (select from pg_class as c where c.oid = p.relation);

    -- Without schema public there are no policies, and row-level security shows no row.
    if tg_tag = 'DROP SCHEMA' then
        select c.oid::regclass::text into object
        from multigres.protected as p join pg_class as c on c.oid = p.relation
        where not exists (
                select from pg_policy as q where q.polrelid = c.oid and not q.polpermissive)
            and exists (select from pg_policy as q where q.polrelid = c.oid)
        limit 1;
        if object is not null then
            perform multigres.refuse(tg_tag, object, 'its policies are missing');
        end if;
        return;
    end if;
    changed := array(
        select c.oid
        from pg_event_trigger_dropped_objects() as d
        join pg_namespace as n on n.nspname = d.address_names[1]
        join pg_class as c on c.relnamespace = n.oid and c.relname = d.address_names[2]
        where d.object_type = 'policy');
    perform multigres.judge(tg_tag, changed, true);
    perform multigres.follow(changed);
    select w.name into object
    from pg_event_trigger_dropped_objects() as d
    join multigres.context_parts as w
        on split_part(w.name, '(', 1) = split_part(d.object_identity, '(', 1)
            and multigres.content(w.kind, w.name) is null
    limit 1;
    if object is not null then
        perform multigres.refuse_context(tg_tag, object);
    end if;
end
$$;


-- DROP SCHEMA multigres CASCADE would drop the functions above, and the event triggers with them,
-- before they run. This one is in another schema.
create or replace function public.multigres_guard_schema() returns event_trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (select from pg_namespace as n where n.nspname = 'multigres') then
        raise exception '% would drop the record of what Multigres protects', tg_tag
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Exclude schema multigres from schema tools. To remove Multigres, run '
                    'sql/teardown.sql.';
    end if;
end
$$;


-- Notes what is exposed before a GRANT: guard_grants() refuses only what the statement adds.
create or replace function multigres.guard_start() returns event_trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform set_config('multigres.exposed', (
        multigres.exposures(to_regrole('app_user'))
        || array(select o.relation from multigres.open_parents(to_regrole('app_user')) as o)
        || array(
            select u.relation from multigres.uncovered() as u
            join pg_class as c on c.oid = u.relation
            where exists (select from aclexplode(c.relacl) as a where a.grantee <> c.relowner))
        )::text, true);
end
$$;


-- Recorded objects that no longer hold tenants apart, for a session of this role.
create or replace function multigres.faults(role oid)
returns table (name text, problem text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
begin
    return query
        with suspects as materialized (
            select distinct c.oid, p.version,
                -- setup.sql knows it by the name of a policy alone, and never saw it intact.
                p.version is null and not exists (
                    select from multigres.dimensions as d where d.relation = c.oid
                ) as unproven
            from multigres.protected as p
            join pg_class as c on c.oid = p.relation::oid
            left join (
                select q.polrelid,
                    string_agg(concat(q.polname, q.xmin, q.ctid), ' ' order by q.polname)
                        as version
                from pg_policy as q where starts_with(q.polname::text, 'multigres_')
                group by q.polrelid
            ) as now on now.polrelid = c.oid
            where (c.relkind in ('r', 'p') and c.relrowsecurity and c.relforcerowsecurity
                and now.version = p.version
                and not pg_has_role(role, c.relowner, 'member')
                and not has_table_privilege(role, c.oid, 'truncate, references, trigger')
                and not has_any_column_privilege(role, c.oid, 'references')
            ) is not true
        )
        select s.oid::regclass::text, f.problem
        from suspects as s
        cross join lateral (
            select coalesce(multigres.switched_off(s.oid), multigres.altered(s.oid, s.version),
                multigres.exposed(s.oid, role))
            offset 0
        ) as f(problem)
        where f.problem is not null
            and (not s.unproven or multigres.reaches(role, s.oid)
                or multigres.exposed(s.oid, role) is not null)
        union all
        -- Another table by a name that a protected one had.
        select c.oid::regclass::text,
            'it has the name of a table that was protected, and is not protected itself'
        from multigres.protected as p
        join pg_namespace as n on n.nspname = p.schema_name
        join pg_class as c on c.relnamespace = n.oid and c.relname = p.table_name
        where c.oid is distinct from p.relation::oid and c.relkind in ('r', 'p', 'v', 'm', 'f')
            and c.relpersistence <> 't'
            and not exists (
                select from multigres.protected as same where same.relation = c.oid)
            and multigres.reaches(role, c.oid)
        union all
        select u.relation::regclass::text,
            format('it is a part of %s and can be read past its policies', u.parent::regclass)
        from multigres.uncovered() as u
        where multigres.reaches(role, u.relation)
        union all
        select o.relation::regclass::text,
            format('it shows the rows of %s past its policies', o.part::regclass)
        from multigres.open_parents(role) as o
        union all
        -- Restored without its record. Where there is a record, policies by our names that somebody
        -- puts on a table of their own must not keep all tenants out.
        select distinct c.oid::regclass::text, 'row-level security is disabled'
        from (
            select open.oid
            from pg_policy as q join pg_class as open on open.oid = q.polrelid
            where starts_with(q.polname::text, 'multigres_isolation')
                and not open.relrowsecurity and open.relpersistence <> 't'
            -- The others are not asked after.
            offset 0
        ) as c
        where (multigres.counts(c.oid) or not exists (select from multigres.protected))
            and not exists (select from multigres.protected as p where p.relation = c.oid)
            and multigres.reaches(role, c.oid)
        union all
        select f.name, f.problem from multigres.context_faults(role) as f;
end
$$;


-- For Multigres, at login: NULL if all that is recorded holds tenants apart for the role that has
-- logged in, otherwise the problems. A role to which no policy applies asks for app_user.
create or replace function public.multigres_verdict() returns text
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    role oid := (
        select case when r.rolsuper or r.rolbypassrls then to_regrole('app_user') else r.oid end
        from pg_roles as r where r.rolname = session_user);
begin
    return (
        select string_agg(format('%s: %s', f.name, f.problem), '; ' order by f.name)
        from (select * from multigres.faults(role) as f order by f.name limit 5) as f);
end
$$;


-- For Multigres, at login: NULL where each value that is bound is spelt as the database has it, and
-- else how the first that is not must be.
create or replace function public.multigres_misspelt() returns text
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    select public.multigres_spelling(d.variable, current_setting(d.variable, true))
    from (
        select distinct k.variable from multigres.dimensions as k
        where k.kind in ('uuid', 'smallint', 'integer', 'bigint')
        -- For each variable, and not for each table.
        offset 0
    ) as d
    where public.multigres_spelling(d.variable, current_setting(d.variable, true)) is not null
    limit 1
$$;


do $$
declare
    function regprocedure;
begin
    for function in
        select p.oid::regprocedure from pg_proc as p
        where p.pronamespace = 'multigres'::regnamespace and p.proname in (
                'version', 'switched_off', 'altered', 'judge', 'exposed',
                'exposures', 'reaches', 'uncovered', 'open_parents', 'part_id', 'content',
                'forget_context', 'remember_context', 'context_faults', 'suspend', 'forget',
                'remember', 'refuse', 'refuse_context', 'refuse_open_parents', 'follow',
                'cover', 'noted', 'guard_context', 'guard_names', 'guard_grants', 'guard_tables',
                'guard', 'guard_drop', 'guard_start', 'faults')
            or p.oid in ('public.multigres_forget(text)'::regprocedure,
                'public.multigres_verdict()'::regprocedure,
                'public.multigres_misspelt()'::regprocedure,
                'public.multigres_guard_schema()'::regprocedure)
    loop
        execute format('alter function %s owner to current_user', function);
        execute format('revoke all on function %s from public', function);
    end loop;
    grant execute on function public.multigres_verdict(), public.multigres_misspelt() to public;
end
$$;
