-- The release of Multigres that this setup.sql belongs to.
create or replace function public.multigres_release() returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select '0.1.0'
$$;

alter function public.multigres_release() owner to current_user;
revoke all on function public.multigres_release() from public;


-- The functions of this release, so that multigres_check() finds one that an older release has left
-- or that somebody has changed. This is the last of all files.
do $$
begin
    delete from multigres.release;
    -- Those that this transaction has written: another function with such a name is not ours.
    insert into multigres.release
    select f.* from multigres.functions() as f
    join pg_proc as p on p.oid = f.function::regprocedure
    where age(p.xmin) <= age(pg_current_xact_id()::xid);
end
$$;
