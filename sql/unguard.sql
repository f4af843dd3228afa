-- The guard looks away while this changes what it watches; adopt.sql makes it anew.
do $$
declare
    name text;
begin
    if exists (
        select from pg_event_trigger as t
        where starts_with(t.evtname::text, 'multigres_guard')
            and not pg_has_role(t.evtowner, 'usage'))
    then
        raise exception 'the event triggers of Multigres belong to another role'
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Run this as the superuser that ran it before.';
    end if;
    for name in
        select t.evtname from pg_event_trigger as t
        where t.evtname in ('multigres_guard', 'multigres_guard_drop', 'multigres_guard_start',
            'multigres_guard_schema')
    loop
        execute format('drop event trigger %I', name);
    end loop;
end
$$;
