-- Settings that every login of app_user starts with. A role may ALTER ROLE itself: any tenant may
-- have left a setting for all of them.

-- How long such a setting lets a session wait, in seconds; NULL for no limit, or if it is not a
-- time.
create or replace function multigres.seconds(value text) returns numeric
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select nullif(t.parts[1]::numeric, 0) * case coalesce(nullif(t.parts[2], ''), 'ms')
        when 'us' then 0.000001 when 'ms' then 0.001 when 's' then 1 when 'min' then 60
        when 'h' then 3600 when 'd' then 86400 end
    from (
        select regexp_match(value, '^[\s'']*(\d+(?:\.\d+)?)\s*(us|ms|s|min|h|d)?[\s'']*$')
    ) as t(parts)
$$;


-- Those that are harmless whatever their value are left out.
create or replace function multigres.login_settings()
returns table (object text, name text, value text, lint text, effect text, fix text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with variables(name) as materialized (
        select lower(i.variable) from multigres.isolations() as i
        union
        select 'app.current_tenant_id'
    ),
    settings as (
        select case when s.setrole <> 0 then 'role app_user'
                when s.setdatabase <> 0 then format('database %I', current_database())
                else 'role all' end as object,
            lower(split_part(x.setting, '=', 1)) as name,
            substr(x.setting, strpos(x.setting, '=') + 1) as value,
            concat_ws(' ', 'alter',
                case when s.setrole <> 0 then 'role app_user'
                    when s.setdatabase = 0 then 'role all' end,
                case when s.setrole <> 0 and s.setdatabase <> 0 then 'in' end,
                case when s.setdatabase <> 0 then format('database %I', current_database()) end,
                'reset') as reset
        from pg_db_role_setting as s, unnest(s.setconfig) as x(setting)
        where s.setrole in (0, to_regrole('app_user')::oid)
            and s.setdatabase in (0, (
                select d.oid from pg_database as d where d.datname = current_database()))
    )
    select s.object, s.name, s.value, e.lint, e.effect,
        concat(s.reset, ' ', (
            select string_agg(quote_ident(p.part), '.')
            from unnest(string_to_array(s.name, '.')) as p(part)))
    from settings as s
    cross join lateral (
        select case
            when s.name in (select v.name from variables as v) or s.name ~ '_seal$'
                    or s.name in ('role', 'session_authorization')
                then array['login_setting_of_context', '']
            when s.name in ('statement_timeout', 'transaction_timeout', 'idle_session_timeout',
                    'idle_in_transaction_session_timeout')
                then case when multigres.seconds(s.value) < 1
                    then array['login_setting_timeout', ': nobody may be able to log in'] end
            when s.name = 'lock_timeout'
                then case when multigres.seconds(s.value) < 0.1
                    then array['login_setting', ': statements fail where they would wait'] end
            when s.name in ('local_preload_libraries', 'session_preload_libraries')
                then array['login_setting_library',
                    ': every login fails unless PostgreSQL can load it']
            when s.name in ('row_security', 'search_path')
                then array['login_setting', '']
            when s.name = 'gin_fuzzy_search_limit'
                then array['login_setting', ': queries may return only some of their rows']
            when s.name = 'timezone'
                then array['login_setting', ': times are read and written in another zone']
            when s.name in ('standard_conforming_strings', 'backslash_quote',
                    'session_replication_role', 'transform_null_equals',
                    'allow_system_table_mods') or s.name ~ '^plpgsql\.'
                then array['login_setting', ': statements do something else']
            when s.name in ('default_transaction_read_only', 'default_transaction_isolation',
                    'default_transaction_deferrable')
                then array['login_setting', ': transactions fail, or behave in another way']
            when s.name in ('datestyle', 'intervalstyle', 'bytea_output', 'client_encoding',
                    'array_nulls', 'xmlbinary', 'xmloption', 'default_text_search_config',
                    'quote_all_identifiers', 'extra_float_digits', 'lc_monetary', 'lc_numeric',
                    'lc_time')
                then array['login_setting', ': values are read or written in another way']
            when s.name in ('client_min_messages', 'check_function_bodies', 'exit_on_error',
                    'lc_messages')
                    or s.name ~ '^(debug|trace)_|^log_.*_stats$'
                then array['login_setting', ': clients receive other messages']
            when s.name in ('temp_buffers', 'work_mem', 'maintenance_work_mem',
                    'hash_mem_multiplier', 'logical_decoding_work_mem', 'max_stack_depth',
                    'temp_file_limit')
                then array['login_setting', ': queries may fail, or use up the memory']
            when s.name ~ '^tcp_' or s.name = 'client_connection_check_interval'
                then array['login_setting', ': connections may end']
            when s.name ~ '^(enable|jit|geqo|cpu|(max_|min_)?parallel)(_|$)|_(limit|cost)$'
                    or s.name in ('constraint_exclusion', 'cursor_tuple_fraction',
                    'default_statistics_target', 'effective_cache_size', 'effective_io_concurrency',
                    'maintenance_io_concurrency', 'plan_cache_mode', 'recursive_worktable_factor')
                then array['login_setting', ': logins and queries may take much longer']
            when s.name in ('application_name', 'track_io_timing')
                then null
            else array['login_setting_unknown', ''] end
    ) as j(judged)
    cross join lateral (select j.judged[1], j.judged[2]) as e(lint, effect)
    where j.judged is not null;
end
$$;

revoke all on function multigres.seconds(text), multigres.login_settings() from public;
