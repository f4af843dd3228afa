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
    insert into multigres.release select f.* from multigres.functions() as f;
end
$$;
