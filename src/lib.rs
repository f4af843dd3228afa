//! Multigres: tenant identity intrinsic to a PostgreSQL connection.
pub mod protocol;
pub mod refusal;
pub mod session;
pub mod tenant;
