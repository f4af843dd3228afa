-- Flags, owners, grants and policies of these tables, to be compared.
create or replace function multigres.protection(tables regclass[]) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select string_agg(concat_ws(' ', c.oid::regclass, c.relrowsecurity, c.relforcerowsecurity,
        c.relowner, c.relacl, (
            select string_agg(concat_ws(' ', p.polname, p.oid, p.xmin), ', ' order by p.oid)
            from pg_policy as p where p.polrelid = c.oid
        )), '; ' order by c.oid)
    from pg_class as c where c.oid = any (tables)
$$;

revoke all on function multigres.protection(regclass[]) from public;


-- Runs an ALTER TABLE that must see every row of these tables, whoever owns them.
--
-- ADD FOREIGN KEY, VALIDATE CONSTRAINT, and ATTACH PARTITION to a table that has a foreign key,
-- look for rows that do not fit by a query of the caller.
-- FORCE ROW LEVEL SECURITY hides every row from the owner, hence from that query too: it would
-- find nothing, and call the constraint valid. Here FORCE is lifted while the
-- statement runs. The tables are locked for that long, and nothing is changed if it fails. A role
-- that still would not see all rows gets an error, by row_security = off.
create or replace function public.multigres_alter(statement text, variadic tables regclass[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
declare
    part regclass;
    family regclass[];
    held regclass[];
    before text;
begin
    if statement is null or statement !~* '^\s*alter\s+table\s' then
        raise exception 'multigres_alter runs one ALTER TABLE'
            using errcode = 'invalid_parameter_value';
    end if;
    family := array(
        with recursive family(id) as (
            select t.id from unnest(tables) as t(id)
            union
            select i.inhrelid::regclass from family as f join pg_inherits as i on i.inhparent = f.id
        )
        select f.id from family as f order by f.id);
    held := array(
        select c.oid from pg_class as c join pg_roles as r on r.rolname = current_user
        where c.oid = any (family) and c.relforcerowsecurity
            and not r.rolsuper and not r.rolbypassrls
        order by c.oid);
    before := multigres.protection(family);

    -- Out of the record and into it again all at once: the guard sees a table and its parts.
    perform multigres.suspend(f) from unnest(held) as f;
    foreach part in array held loop
        execute format('alter table only %s no force row level security', part);
    end loop;
    execute statement;
    foreach part in array held loop
        execute format('alter table only %s force row level security', part);
    end loop;
    perform multigres.remember(f) from unnest(held) as f;
    perform multigres.refuse_open_parents('ALTER TABLE', family::oid[]);

    if multigres.protection(family) is distinct from before then
        raise exception 'the statement changes how tables are protected'
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Only add or validate constraints with multigres_alter().';
    end if;
end
$$;

alter function public.multigres_alter(text, regclass[]) owner to current_user;
revoke all on function public.multigres_alter(text, regclass[]) from public;
