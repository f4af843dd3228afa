//! End-to-end tests: the daemon between real clients and a private PostgreSQL.
//!
//! They know the daemon's settings, its log lines and the wire, and nothing of its insides.

mod addresses;
mod check;
mod check_detours;
mod check_hidden;
mod check_kept;
mod check_owned;
mod check_side_doors;
mod encodings;
mod event_guard;
mod failures;
mod growth;
mod guard;
mod harden;
mod harden_record;
mod harness;
mod isolation;
mod limits;
mod load;
mod login;
mod logs;
mod managed;
mod oracles;
mod owner;
mod pipe;
mod planted;
mod protect;
mod refusals;
mod seal;
mod seal_keys;
mod sealed;
mod settings;
mod shared_role;
mod signals;
mod sql;
mod strict;
mod support;
mod tls_client;
mod tls_matrix;
mod tls_upstream;
mod upgrade;
mod verdict;
