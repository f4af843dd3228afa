//! How a password is proven: SCRAM-SHA-256, and the form that PostgreSQL gives to a password first.
//! Knows nothing of messages, logins or sessions.

pub mod saslprep;
pub mod scram;
