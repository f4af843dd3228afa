//! TLS of both legs: what the settings make of files, and handshakes in memory between what they
//! make and every kind of peer.

mod client_leg;
mod end_point;
mod handshake;
mod other_keys;
mod settings;
mod upstream_leg;
