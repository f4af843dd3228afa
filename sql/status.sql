-- The privileges of app_user on a protected table that no permissive policy lets it use.
create or replace function multigres.shut_out(relation oid) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select string_agg(c.privilege, ', ' order by c.privilege)
    from (values ('SELECT', 'r'::"char"), ('INSERT', 'a'), ('UPDATE', 'w'), ('DELETE', 'd'))
        as c(privilege, command)
    where to_regrole('app_user') is not null and not multigres.admits(relation, c.command)
        and case c.privilege when 'DELETE' then has_table_privilege('app_user', relation, 'DELETE')
            else has_any_column_privilege('app_user', relation, c.privilege) end
$$;


-- Roles with privileges on a protected table that see no row of it: no permissive policy is for
-- them. Owners and roles to which row-level security does not apply are left out.
create or replace function multigres.strangers(relation oid) returns setof name
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select distinct r.rolname
    from pg_class as c
    cross join lateral (
        select x.grantee from aclexplode(c.relacl) as x
        where x.privilege_type in ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    ) as a
    join pg_roles as r on r.oid = a.grantee
    where c.oid = relation and not r.rolsuper and not r.rolbypassrls
        and not pg_has_role(r.oid, c.relowner, 'member') and r.rolname !~ '^pg_'
        -- What is granted to a role that app_user is a member of is granted to app_user.
        and not coalesce(pg_has_role(to_regrole('app_user'), r.oid, 'member'), false)
        and not exists (
            select from pg_policy as p, unnest(p.polroles) as held
            where p.polrelid = c.oid and p.polpermissive
                and (held = 0 or pg_has_role(r.oid, held, 'member')))
$$;


-- Whether a tenant column has no default: an INSERT that leaves the tenant out fails.
create or replace function multigres.is_bare(relation oid, tenant_column name) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select from pg_attribute as a join pg_type as t on t.oid = a.atttypid
        where a.attrelid = relation and a.attname = tenant_column and not a.atthasdef
            and t.typdefault is null and a.attidentity = '' and a.attgenerated = '')
$$;

revoke all on function multigres.shut_out(oid), multigres.strangers(oid),
    multigres.is_bare(oid, name) from public;


-- What is protected in this database, and what is not. One row per table, or per dimension of a
-- table that has several; a view, a schema or a role has a row only if it is a problem. `protected`
-- is yes if tenants are held apart: the policies are as multigres_protect() makes them, and
-- app_user has no way past them. Next to a yes, `problems` holds remarks.
create or replace function public.multigres_status()
returns table (table_name text, tenant_column text, variable text, protected text,
    problems text)
language sql stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
    with app(id) as (
        select to_regrole('app_user')::oid
    ),
    relations as (
        select c.oid::regclass as name, c.relkind, c.relrowsecurity, c.relforcerowsecurity,
            c.relkind in ('r', 'p') as is_table, d.relation is not null as is_protected,
            d.policy is null as gone,
            d.column_name as recorded,
            case when f.form is not null then d.column_name end as tenant_column,
            case when f.form is not null then d.variable end as variable,
            f.form, multigres.wanted_form(c.oid) as wanted,
            (r.rolsuper or r.rolbypassrls) and not exists (
                select from pg_options_to_table(c.reloptions)
                where option_name = 'security_invoker' and option_value::boolean
            ) as reads_past_policies,
            has_any_column_privilege(app.id, c.oid, 'select, insert, update')
                or has_table_privilege(app.id, c.oid, 'delete') as reached,
            has_table_privilege(app.id, c.oid, 'truncate, references, trigger')
                or has_any_column_privilege(app.id, c.oid, 'references') as endangered,
            pg_has_role(app.id, c.relowner, 'member') as owned
        from app, pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        join pg_roles as r on r.oid = c.relowner
        left join multigres.isolations() as d on d.relation = c.oid
        cross join lateral (select multigres.form(c.oid) as form offset 0) as f
        where c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relpersistence <> 't'
            and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast', 'multigres')
            and not exists (
                select from pg_depend as d
                where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
    ),
    findings(place, rank, tenant_column, variable, listed, problems, notes) as (
        select 'role app_user', 0, null, null, false,
            case
                when app.id is null then 'does not exist'
                else multigres.role_problems(app.id)
            end, null
        from app
        union all
        select format('schema %I', n.nspname), 1, null, null, false,
            'app_user may create objects in it', null
        from app, pg_namespace as n
        where has_schema_privilege(app.id, n.oid, 'create') and n.nspname !~ '^pg_'
        union all
        select r.name::text, 2, r.tenant_column, r.variable,
            r.is_table and r.name::text <> 'public.multigres_hardening',
            nullif(concat_ws('; ',
                case when r.is_table and r.reached and not r.is_protected
                    then 'app_user may use all its rows' end,
                case when r.gone and r.is_protected then coalesce(
                    'the policy of column ' || quote_ident(r.recorded) || ' is missing',
                    'has a policy with a name of Multigres that multigres_protect() did not make')
                    end,
                case when not r.gone and r.tenant_column is null
                    then 'policy multigres_isolation was changed' end,
                case when r.form = 'plain' and r.wanted = 'fronted'
                    then 'has the policies of a database that is not sealed' end,
                'no permissive policy lets app_user ' || case when r.form is not null
                    then multigres.shut_out(r.name) end,
                case when r.is_protected and not r.relrowsecurity
                    then 'row-level security is disabled' end,
                case when r.is_protected and not r.relforcerowsecurity
                    then 'row-level security is not forced' end,
                case when r.is_table and r.endangered
                    then 'app_user has TRUNCATE, REFERENCES or TRIGGER on it' end,
                case when r.is_table and r.owned
                    then 'app_user owns it' end,
                case when r.relkind = 'v' and r.reached and r.reads_past_policies
                    then 'reads with the rights of its owner, who bypasses row-level security' end,
                case when r.relkind in ('m', 'f') and r.reached
                    then 'app_user may use all its rows, and it cannot have policies' end), ''),
            nullif(concat_ws('; ',
                case when r.form = 'plain' and r.wanted = 'plain' and multigres.sealed()
                    then 'multigres_front() lets a query''s own conditions run before the policy'
                    end,
                case when r.form is not null then (
                    select string_agg(format(
                        'role %I sees no row: it is not a member of app_user', s), '; ' order by s)
                    from multigres.strangers(r.name) as s) end,
                case when multigres.is_bare(r.name, r.tenant_column)
                    then format('column %I has no default', r.tenant_column) end), '')
        from relations as r
    )
    select l.place, l.tenant_column, l.variable, l.protected, l.problems
    from (
        select distinct f.place, f.tenant_column, f.variable,
            case when f.tenant_column is not null and f.problems is null then 'yes' else 'no' end,
            concat_ws('; ', f.problems, f.notes), f.rank
        from findings as f
        where f.listed or f.problems is not null
    ) as l(place, tenant_column, variable, protected, problems, rank)
    order by l.rank, l.place, l.tenant_column
$$;

alter function public.multigres_status() owner to current_user;
revoke all on function public.multigres_status() from public;
