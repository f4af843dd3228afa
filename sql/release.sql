-- Which functions this release of setup.sql brought, so that multigres_check() finds one that an
-- older release has left, or that somebody has put in the place of ours. The last of all files.
do $$
begin
    delete from multigres.release;
    insert into multigres.release select f.* from multigres.functions() as f;
end
$$;
