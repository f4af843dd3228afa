-- Why row-level security would not apply to this role; NULL when it does.
create or replace function multigres.role_problems(role_id oid) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select string_agg(
        case when r.oid = role_id then '' else format('can become %I, which ', r.rolname) end
            || case
                when r.rolsuper then 'is a superuser'
                when r.rolbypassrls then 'has BYPASSRLS'
                when r.rolcreaterole then 'has CREATEROLE'
                when r.rolreplication then 'has REPLICATION'
                else 'can access the files of the server'
            end,
        '; ' order by r.oid = role_id desc, r.rolname)
    from pg_roles as r
    where (r.oid = role_id
            -- A superuser is a member of every role: one reason is enough.
            or pg_has_role(role_id, r.oid, 'member')
                and not (select s.rolsuper from pg_roles as s where s.oid = role_id))
        and (r.rolsuper or r.rolbypassrls or r.rolcreaterole or r.rolreplication
            or r.rolname in ('pg_read_server_files', 'pg_write_server_files',
                'pg_execute_server_program'))
$$;

alter function multigres.role_problems(oid) owner to current_user;
revoke all on function multigres.role_problems(oid) from public;


do $$
declare
    found text;
begin
    if to_regrole('app_user') is null then
        -- Roles belong to the whole cluster: a setup of another database may be faster.
        begin
            create role app_user login
                nosuperuser nobypassrls nocreatedb nocreaterole noreplication;
        exception when duplicate_object or unique_violation then
            null;
        end;
    end if;
    -- A role that is there already has a purpose. To take its rights away might break that, to
    -- accept them would break the isolation: so neither, and the owner decides.
    found := multigres.role_problems(to_regrole('app_user'));
    if found is not null then
        raise exception 'role "app_user" exists, but row-level security does not apply to it'
            using errcode = 'object_not_in_prerequisite_state',
                detail = format('app_user %s.', found),
                hint = 'Use ALTER ROLE or REVOKE to change that, or rename the role; then run '
                    'setup.sql again.';
    end if;
end
$$;


-- PostgreSQL 13 and 14 let everyone create objects in schema public, where most search_paths
-- look: a superuser could call a function that app_user has created there. 15 ended that. Only
-- the owner of the schema can revoke it.
do $$
begin
    if not exists (
        select
        from pg_namespace as n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) as a
        where n.nspname = 'public' and a.grantee = 0 and a.privilege_type = 'CREATE'
    ) then
        return;
    end if;
    if not pg_has_role(
        (select n.nspowner from pg_namespace as n where n.nspname = 'public'), 'usage')
    then
        raise notice 'CREATE on schema public remains granted to PUBLIC, because % does not own it',
            current_user
            using hint = 'Its owner should run: REVOKE CREATE ON SCHEMA public FROM PUBLIC';
    else
        revoke create on schema public from public;
        raise notice 'CREATE on schema public is no longer granted to PUBLIC'
            using hint = 'Grant it to the roles that need it: GRANT CREATE ON SCHEMA public TO '
                'the role that runs your migrations.';
    end if;
end
$$;
