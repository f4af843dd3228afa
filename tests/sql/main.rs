//! The SQL on a private PostgreSQL, without the daemon: `setup.sql` and `teardown.sql`, the seal,
//! the guard and the linter, as an owner runs them and as a tenant tries them.

mod check;
mod check_constraints;
mod check_copies;
mod check_functions;
mod check_indexes;
mod check_owners;
mod check_references;
mod check_role;
mod check_triggers;
mod cluster;
mod constraint_leaks;
mod cost_by_tables;
mod event_guard;
mod event_guard_parts;
mod extra_errors;
mod harden;
mod harden_record;
mod lints;
mod managed;
mod objects_of_others;
mod owner;
mod policies_of_others;
mod protect;
mod record;
mod schema_tools;
mod seal;
mod seal_attacks;
mod seal_default;
mod seal_keys;
mod seal_logs;
mod setup;
mod shop;
mod side_channels;
mod upgrade;
