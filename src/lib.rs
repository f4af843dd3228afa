//! Multigres: tenant identity intrinsic to a PostgreSQL connection.
