-- What is protected in this database, and what stands against it. One line per table, or per
-- dimension of a table that has several; a view, a schema or a role has a line only where it is a
-- problem. `protected` is yes where there is none: policies as multigres_protect() makes them, and
-- no way past them for app_user.
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
    lost as (
        select l.relation, string_agg(format('the policy of column %I is gone', l.column_name),
            '; ' order by l.column_name) as columns
        from public.multigres_lost() as l group by l.relation
    ),
    relations as (
        select c.oid::regclass as name, c.relkind, c.relrowsecurity, c.relforcerowsecurity,
            c.relkind in ('r', 'p') as is_table, d.policy,
            case when d.intact then d.column_name end as tenant_column,
            case when d.intact then d.variable end as variable,
            lost.columns as gone,
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
        left join public.multigres_dimensions() as d on d.relation = c.oid
        left join lost on lost.relation = c.oid
        where c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relpersistence <> 't'
            and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast', 'multigres')
            and not exists (
                select from pg_depend as d
                where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
    ),
    findings(place, rank, tenant_column, variable, listed, problems) as (
        select 'role app_user', 0, null, null, false,
            case
                when app.id is null then 'does not exist'
                else public.multigres_role_problems(app.id)
            end
        from app
        union all
        select format('schema %I', n.nspname), 1, null, null, false,
            'app_user may create objects in it'
        from app, pg_namespace as n
        where has_schema_privilege(app.id, n.oid, 'create') and n.nspname !~ '^pg_'
        union all
        select r.name::text, 2, r.tenant_column, r.variable,
            r.is_table and r.name::text <> all (
                '{public.multigres_seal_keys, public.multigres_hardening}'),
            nullif(concat_ws('; ',
                case when r.is_table and r.reached and r.policy is null
                    then 'app_user reaches all its rows' end,
                case when r.policy is not null and r.tenant_column is null
                    then format('policy %I was changed', r.policy) end,
                r.gone,
                case when r.policy is not null and not r.relrowsecurity
                    then 'row-level security is off' end,
                case when r.policy is not null and not r.relforcerowsecurity
                    then 'row-level security is not forced upon the owner' end,
                case when r.is_table and r.endangered
                    then 'app_user may TRUNCATE it, or put a trigger or a reference on it' end,
                case when r.is_table and r.owned
                    then 'app_user owns it' end,
                case when r.relkind = 'v' and r.reached and r.reads_past_policies
                    then 'reads with the rights of its owner, whom no policy holds' end,
                case when r.relkind in ('m', 'f') and r.reached
                    then 'app_user reaches all its rows: it cannot have policies' end), '')
        from relations as r
    )
    select f.place, f.tenant_column, f.variable,
        case when f.tenant_column is not null and f.problems is null then 'yes' else 'no' end,
        coalesce(f.problems, '')
    from findings as f
    where f.listed or f.problems is not null
    order by f.rank, f.place, f.tenant_column
$$;

alter function public.multigres_status() owner to current_user;
revoke all on function public.multigres_status() from public;
