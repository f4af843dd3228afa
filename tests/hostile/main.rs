//! Attacks: whoever wants another tenant's rows, or wants the daemon to crash, hang, spin, leak or
//! lose bytes, tries it here with bare sockets, from the client's side and from upstream's.
//!
//! The ground is that of the end-to-end tests: the daemon as it is installed, a real PostgreSQL.

mod after_attack;
mod broken_upstreams;
mod cancel;
mod early_messages;
mod encoding;
mod first_packet;
mod log;
mod man_in_the_middle;
mod options;
mod packets;
mod password;
mod privilege;
mod random_bytes;
mod resources;
mod scram;
mod search_path;
mod stop;
mod user_name;
