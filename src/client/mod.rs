//! The client's half of a login: what one says before anything is dialled.
//! Knows nothing of upstream.

mod await_startup;

pub(crate) use await_startup::{AwaitStartup, Wanted};
