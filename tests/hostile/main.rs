//! Attacks: whoever wants another tenant's rows, or wants the daemon to crash, hang, spin, leak or
//! lose bytes, tries it here with bare sockets, from the client's side and from upstream's.
//!
//! The ground is that of the end-to-end tests: the daemon as it is installed, a real PostgreSQL.

mod bytes;
mod cancel;
mod check;
mod early;
mod encoding;
mod first_packet;
mod forgery;
mod log;
mod middle;
mod options;
mod password;
mod privilege;
mod resources;
mod scram;
mod search_path;
mod stop;
mod storm;
mod upstream;
mod user_name;
