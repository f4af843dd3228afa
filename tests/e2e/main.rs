//! End-to-end tests: the daemon between real clients and a private PostgreSQL.
//!
//! They know the daemon's settings, its log lines and the wire, and nothing of its insides.

mod addresses;
mod check;
mod check_constraints;
mod check_detours;
mod check_indexes;
mod check_references;
mod check_side_doors;
mod encodings;
mod failures;
mod growth;
mod guard;
mod harden;
mod harness;
mod isolation;
mod limits;
mod load;
mod login;
mod logs;
mod managed;
mod oracles;
mod pipe;
mod planted;
mod protect;
mod refusals;
mod seal;
mod sealed;
mod settings;
mod shared_role;
mod signals;
mod sql;
mod support;
mod tls_client;
mod tls_matrix;
mod tls_upstream;
mod upgrade;
