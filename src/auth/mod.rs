//! How a password is proven: SCRAM-SHA-256 from the client's side, and what PostgreSQL makes of a
//! password first. Knows nothing of messages, logins or sessions.

pub mod saslprep;
pub mod scram;
