-- The record of what is protected, and the guard upon it.
create or replace function multigres.remember(table_name regclass) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
end
$$;

create or replace function multigres.forget(table_name regclass) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
end
$$;

revoke all on function multigres.remember(regclass), multigres.forget(regclass) from public;
