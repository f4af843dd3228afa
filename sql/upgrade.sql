-- Brings tables that an older version protected up to date. It kept what it had to undo in the
-- comments of its policies, of which each dimension had its own. They remain until those of today
-- take their place in the same transaction.
do $$
declare
    each record;
    policy record;
    lost record;
    memory jsonb;
    shared jsonb;
    dimensions jsonb;
    as_made boolean;
    bare text;
    call text;
    -- The text that a type may put around such a comparison without changing it.
    noise constant text := '\mSELECT\M|\mAS\M\s+"?\w+"?|[()\s]'
        '|::(character varying|"?\w+"?(\."?\w+"?)?)(\(\d+\))?';
begin
    perform multigres.adopt(p.polrelid) from pg_policy as p
    where p.polname = 'multigres_isolation' and obj_description(p.oid, 'pg_policy') is null
        and multigres.counts(p.polrelid);

    for each in
        select distinct c.oid::regclass as relation, pg_has_role(c.relowner, 'usage') as owned
        from pg_policy as p join pg_class as c on c.oid = p.polrelid
        where starts_with(p.polname::text, 'multigres_isolation')
            and c.oid not in (select d.relation from multigres.dimensions as d)
            and multigres.counts(p.polrelid)
        order by 1
    loop
        as_made := true;
        shared := null;
        dimensions := '{}';
        for policy in
            select p.polname, obj_description(p.oid, 'pg_policy') as comment,
                not p.polpermissive and p.polcmd = '*' and p.polroles = '{0}' as holds,
                pg_get_expr(p.polqual, p.polrelid) as qual,
                pg_get_expr(p.polwithcheck, p.polrelid) as given, a.attname
            from pg_policy as p
            left join lateral (
                select t.attname from pg_depend as d
                join pg_attribute as t on t.attrelid = p.polrelid and t.attnum = d.refobjsubid
                where d.classid = 'pg_policy'::regclass and d.objid = p.oid
                    and d.refclassid = 'pg_class'::regclass and d.refobjid = p.polrelid
                    and d.refobjsubid > 0
                order by t.attnum limit 1
            ) as a on true
            where p.polrelid = each.relation and starts_with(p.polname::text, 'multigres_')
            order by p.polname
        loop
            begin
                memory := policy.comment::jsonb;
            exception when invalid_text_representation then
                memory := null;
            end;
            memory := case when jsonb_typeof(memory) = 'object' then memory else '{}' end;
            if jsonb_typeof(memory -> 'dimensions') = 'object' then
                dimensions := dimensions || (memory -> 'dimensions');
            end if;
            continue when not starts_with(policy.polname::text, 'multigres_isolation');
            if jsonb_typeof(memory -> 'table') = 'object' then
                shared := coalesce(shared, memory -> 'table');
            end if;
            policy.attname := coalesce(policy.attname, (memory ->> 'column')::name);
            call := case when strpos(policy.qual, 'public.current_tenant_id()') > 0
                then 'app.current_tenant_id'
                else coalesce(substring(policy.qual
                    from 'public[.]multigres_context[(]''([a-z0-9_.$]+)''::text[)]'),
                    memory ->> 'variable') end;
            dimensions := dimensions - policy.polname::text;
            if call is null or exists (
                select from multigres.dimensions as d
                where d.relation = each.relation and d.variable = call)
            then
                as_made := false;
                continue;
            end if;
            perform multigres.note(each.relation, policy.attname, call, coalesce(shared, '{}'),
                memory - '{column,variable,table,dimensions}'::text[]);
            call := case call when 'app.current_tenant_id' then 'public.current_tenant_id'
                else format('public.multigres_context''%s''', call) end;
            bare := regexp_replace(quote_ident(policy.attname), noise, '', 'g');
            as_made := as_made and policy.holds
                and coalesce(policy.given, policy.qual) = policy.qual
                and exists (
                    select from multigres.kind(each.relation, policy.attname) as k
                    cross join lateral (
                        select regexp_replace(
                                replace(policy.qual, coalesce(
                                    format('::%s.citext', quote_ident(k.citext_schema)), ''), ''),
                                noise, '', 'g') as text,
                            bare || 'OPERATOR' || regexp_replace(quote_ident(k.citext_schema),
                                noise, '', 'g') || '.=' || call as by_citext,
                            bare || '=' || call as plainly
                    ) as e
                    where e.text in (e.plainly, e.by_citext, e.by_citext || 'AND' || e.plainly,
                        e.plainly || 'AND' || e.plainly));
        end loop;
        -- Dropped by hand, and still in the comments of the others.
        for lost in
            select d.value ->> 'column' as column_name, d.value ->> 'variable' as variable
            from jsonb_each(dimensions) as d
            where d.value ->> 'column' is not null and d.value ->> 'variable' is not null
                and not exists (
                    select from multigres.parts(each.relation) as p
                    where p.variable = d.value ->> 'variable'
                        or p.column_name = d.value ->> 'column')
        loop
            as_made := false;
            perform multigres.note(each.relation, lost.column_name::name, lost.variable,
                coalesce(shared, '{}'), (
                    select case when count(*) > 0 then '{"default": true}' else '{}' end::jsonb
                    from pg_attrdef as f
                    join pg_attribute as a on a.attrelid = f.adrelid and a.attnum = f.adnum
                    where f.adrelid = each.relation and a.attname = lost.column_name
                        and multigres.is_context_default(pg_get_expr(f.adbin, f.adrelid))));
        end loop;
        -- Row-level security was on before: the policies that are not ours are of then.
        update multigres.tables as t
        set undo = coalesce(shared, '{}') || case when shared ->> 'enabled' = 'true'
            then jsonb_build_object('policies', array(
                select p.polname from pg_policy as p
                where p.polrelid = t.relation
                    and not starts_with(p.polname::text, 'multigres_')))
            else '{}' end
        where t.relation = each.relation;
        if as_made and not each.owned then
            raise notice '% still has policies of an older version, because % does not own it',
                each.relation, current_user
                using hint = 'Its owner or a superuser should call multigres_protect() again.';
        elsif as_made then
            perform multigres.forget(each.relation);
            perform multigres.isolate(each.relation);
            perform multigres.remember(each.relation);
        end if;
    end loop;
end
$$;


-- Defaults of an older version, which verify a sealed context for every row, its indexes, and
-- functions that it had.
do $$
declare
    each record;
    old text;
begin
    for each in
        select d.relation, p.column_name, d.variable
        from multigres.dimensions as d
        join pg_class as c on c.oid = d.relation
        join multigres.parts(d.relation) as p on p.variable = d.variable
        join pg_attrdef as f on f.adrelid = d.relation and f.adnum = p.column_number
        where d.undo ->> 'default' = 'true' and pg_has_role(c.relowner, 'usage')
            and pg_get_expr(f.adbin, f.adrelid) ~ '^[(]*public[.]'
            and multigres.is_context_default(pg_get_expr(f.adbin, f.adrelid))
    loop
        perform multigres.set_default(each.relation, each.column_name, each.variable);
    end loop;

    for each in
        select i.indexrelid::regclass as index, i.indrelid::regclass as relation, a.attname
        from pg_index as i
        join pg_class as c on c.oid = i.indexrelid
        join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
        where c.relname ~ '^multigres_[0-9]+_[0-9]+$' and pg_has_role(c.relowner, 'usage')
            and obj_description(c.oid, 'pg_class') = 'made by multigres_protect()'
    loop
        execute format('alter index %s rename to %I', each.index,
            multigres.index_name(each.relation, each.attname));
    end loop;

    perform multigres.renew_policies();

    foreach old in array array['public.multigres_predicate(regclass, name, text)',
        'public.multigres_memory(text)', 'public.multigres_lost(regclass)',
        'public.multigres_record(regclass, name[])',
        'public.multigres_isolate(regclass, name, text, jsonb)',
        'public.multigres_admit(regclass)', 'public.multigres_noise()',
        -- Now in schema multigres.
        'public.multigres_dimensions(regclass)', 'public.multigres_isolations()',
        'public.multigres_family(regclass)', 'public.multigres_sequences(regclass)',
        'public.multigres_prepare(regclass, name, text, jsonb)',
        'public.multigres_restore_column(regclass, name, jsonb)',
        'public.multigres_restore_table(regclass, jsonb)',
        'public.multigres_app_roles()', 'public.multigres_reached(oid, text[])',
        'public.multigres_revoke(text, aclitem[], text[])',
        'public.multigres_revoke_table(oid, text[])', 'public.multigres_define_context()',
        'public.multigres_role_problems(oid)']
    loop
        if to_regprocedure(old) is not null then
            execute 'drop function ' || old;
        end if;
    end loop;
end
$$;
