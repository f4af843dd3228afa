//! The daemon's event loop in a simulated network, attacked from a seed.
//! `docs/simulation.md` says how it works and how to read a failure.

pub mod carrier;
pub mod client;
pub mod commit;
pub mod driver;
pub mod exhaust;
pub mod generate;
pub mod knowledge;
pub mod ledger;
pub mod lies;
pub mod life;
pub mod mutants;
pub mod net;
pub mod oracle;
pub mod pipe;
pub mod plan;
pub mod postgres;
pub mod probe;
pub mod record;
pub mod rng;
pub mod run;
pub mod scram;
pub mod shrink;
pub mod sock;
pub mod sweep;
pub mod talk;
pub mod tls;
pub mod watch;
pub mod wire;
