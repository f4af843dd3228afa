//! SCRAM-SHA-256 (RFC 5802, RFC 7677).
//! Knows nothing of messages of PostgreSQL's.

mod client;

pub use client::{Binding, Client, fresh_nonce};
