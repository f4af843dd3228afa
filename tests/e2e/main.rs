//! End-to-end tests: the daemon between real clients and a private PostgreSQL.
//!
//! They know the daemon's settings, its log lines and the wire, and nothing of its insides, except
//! that SCRAM's server side, which no daemon uses yet, is tried in `passwords` and `scram_server`.

mod addresses;
mod drizzle;
mod encodings;
mod failures;
mod guard_at_login;
mod isolation;
mod limits;
mod load;
mod log_reader;
mod login;
mod logs;
mod orms;
mod page;
mod passwords;
mod pipe;
mod quick_start;
mod refusals;
mod role_settings;
mod scram_server;
mod seal_keys;
mod sealed;
mod set_up_database;
mod settings;
mod shared_role;
mod signals;
mod tls_client;
mod tls_keys;
mod tls_matrix;
mod tls_upstream;
mod wrong_answers;
