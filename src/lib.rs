//! Multigres: tenant identity intrinsic to a PostgreSQL connection.
//!
//! The library behind the daemon, in layers that know each other in one direction only; the code
//! map with its invariants is in `docs/architecture.md`.

#[macro_use]
pub mod probe;

pub mod auth;
pub mod backend;
pub mod client;
pub mod config;
pub mod logging;
pub mod login;
pub mod net;
pub mod protocol;
pub mod proxy;
pub mod refusal;
pub mod relay;
pub mod server;
pub mod session;
pub mod sql;
pub mod tenant;
pub mod tls;
