-- The database side of Multigres: tenants held apart by row-level security.
--
--     psql -U postgres -d DB -v ON_ERROR_STOP=1 -f sql/setup.sql
--     psql -U postgres -d DB -c "select multigres_protect('contacts', 'tenant_id')"
--     psql -U postgres -d DB -c "select * from multigres_status()"
--
-- PostgreSQL 13 to 18. Once per database, by a superuser, or by a role with CREATEROLE that owns
-- the tables and may create functions in schema public. It is one transaction and plain SQL; run
-- again, it brings an older version up to date, and a sealed database stays sealed.
-- sql/teardown.sql takes it all out.
--
-- app_user is made without a password. In psql, `\password app_user` sets one: it hashes it
-- before it is sent, so that no log and no history contains it.
--
-- Names are schema-qualified, operators too, wherever a function runs with its caller's
-- search_path: a caller may put a schema of their own in front of pg_catalog.

begin;

set local search_path = pg_catalog, pg_temp;

\ir origin.sql
\ir unguard.sql
\ir schema.sql
\ir seal_keys.sql
\ir context.sql
\ir seal.sql
\ir role.sql
\ir policy.sql
\ir protect.sql
\ir unprotect.sql
\ir maintain.sql
\ir status.sql
\ir guard.sql
\ir upgrade.sql
\ir alter.sql
\ir check/lints.sql
\ir check/privileges.sql
\ir check/settings.sql
\ir check/role.sql
\ir check/tables.sql
\ir check/policies.sql
\ir check/key_columns.sql
\ir check/constraints.sql
\ir check/indexes.sql
\ir check/views.sql
\ir check/triggers.sql
\ir check/connections.sql
\ir check/installation.sql
\ir check/owners.sql
\ir check/functions.sql
\ir check/expressions.sql
\ir check/system_privileges.sql
\ir check.sql
\ir harden.sql
\ir adopt.sql
\ir release.sql

commit;
