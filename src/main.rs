//! The `multigres` daemon.
fn main() {}
