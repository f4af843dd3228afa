-- The tables that an owner works on in a running transaction: see multigres_maintain(). A row
-- counts for its own transaction alone.
do $$
begin
    if to_regclass('multigres.maintained') is null then
        create table multigres.maintained (
            relation oid not null,
            transaction xid8 not null
        );
    end if;
    perform multigres.take('multigres.maintained');
    perform multigres.withhold('multigres.maintained');
end
$$;


-- At the end of the transaction, as the owner of the table: for another role this fails, and with
-- it the transaction.
create or replace function multigres.end_maintenance() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select from pg_class as c where c.oid = new.relation) then
        execute format('alter table %s force row level security', new.relation::regclass);
    end if;
    return null;
end
$$;

-- Behind it, with the rights of the owner of the note.
create or replace function multigres.forget_maintenance() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    delete from multigres.maintained as m
    where m.relation = new.relation and m.transaction = new.transaction;
    return null;
end
$$;

do $$
declare
    step text;
begin
    -- Of one row's triggers, the first by its name is the first to run.
    foreach step in array '{end_maintenance, forget_maintenance}'::text[] loop
        if not exists (
            select from pg_trigger as t
            where t.tgrelid = 'multigres.maintained'::regclass and t.tgname = step)
        then
            execute format('create constraint trigger %I after insert on multigres.maintained '
                'deferrable initially deferred for each row execute function multigres.%I()',
                step, step);
        end if;
    end loop;
end
$$;


-- Notes what multigres_maintain() opens, and answers it: the table, its partitions and its heirs.
-- It has its owner's rights, for nobody else may write the record, and so asks who calls.
create or replace function public.multigres_maintenance(table_name regclass)
returns setof regclass
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    part regclass;
begin
    if not exists (
        select from pg_policy as p
        where p.polrelid = table_name and p.polname = 'multigres_isolation')
    then
        raise exception '% is not protected by multigres_protect()', table_name
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    -- The session may have set all constraints to IMMEDIATE.
    set constraints multigres.end_maintenance, multigres.forget_maintenance deferred;
    for part in select multigres.family(table_name) loop
        if not pg_has_role(session_user, (
            select c.relowner from pg_class as c where c.oid = part), 'member')
        then
            raise exception 'must be owner of table %', part
                using errcode = 'insufficient_privilege';
        end if;
        -- From 18 on, a deferred trigger runs as the role that fired it, which is the owner of this
        -- function, and cannot SET ROLE.
        if current_setting('server_version_num')::int >= 180000 and not pg_has_role(current_user, (
            select c.relowner from pg_class as c where c.oid = part), 'usage')
        then
            raise exception 'role % could not force row-level security on % again',
                current_user, part
                using errcode = 'insufficient_privilege',
                    hint = format('Grant the role that owns the table to %I, which ran '
                        'setup.sql, or make the change as a superuser.',
                        current_user);
        end if;
        insert into multigres.maintained (relation, transaction)
        values (part, pg_current_xact_id());
        return next part;
    end loop;
end
$$;


-- Shows the owner of a protected table the rows of all tenants, until the end of this transaction:
-- for a migration of data by an owner who cannot have BYPASSRLS. Row-level security is forced
-- again at the commit. The table stays locked until then, so that nobody else ever sees it
-- without FORCE. A deferred constraint of the table must have been checked before the commit:
-- SET CONSTRAINTS name IMMEDIATE. (SET CONSTRAINTS ALL IMMEDIATE ends the maintenance, too.)
--
--     begin;
--     select multigres_maintain('contacts');
--     update contacts set name = trim(name);
--     commit;
create or replace function public.multigres_maintain(table_name regclass) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    part regclass;
begin
    if table_name is null then
        raise exception 'multigres_maintain needs the name of a table'
            using errcode = 'null_value_not_allowed';
    end if;
    for part in select public.multigres_maintenance(table_name) loop
        execute format('alter table %s no force row level security', part);
    end loop;
end
$$;

alter function multigres.end_maintenance() owner to current_user;
alter function multigres.forget_maintenance() owner to current_user;
alter function public.multigres_maintenance(regclass) owner to current_user;
alter function public.multigres_maintain(regclass) owner to current_user;
revoke all on function multigres.end_maintenance(), multigres.forget_maintenance() from public;
grant execute on function public.multigres_maintenance(regclass),
    public.multigres_maintain(regclass) to public;
