//! How many sessions there may be, and who is one.
//! Knows nothing of connections that are no session.

use std::cell::Cell;
use std::rc::Rc;

use log::warn;

use super::Proxy;
use super::token::ConnectionKey;
use crate::net::Net;
use crate::refusal::{Fault, Refusal, sqlstate};
use crate::session::Stage;

/// Counts sessions.
#[derive(Default)]
pub(super) struct Admission {
    sessions: Rc<Cell<usize>>,
    /// That there are too many has been logged.
    warned_full: bool,
}

/// The right to be a session. Dropped, it is given back.
pub(super) struct Ticket(Rc<Cell<usize>>);

impl Admission {
    /// A ticket, unless `most` of them are out.
    fn admit(&mut self, most: usize) -> Option<Ticket> {
        if planted!(self.sessions.get() >= most, NeverFull => false) {
            return None;
        }
        self.warned_full = false;
        self.sessions.set(self.sessions.get() + 1);
        Some(Ticket(self.sessions.clone()))
    }

    fn warn_full(&mut self) {
        if !std::mem::replace(&mut self.warned_full, true) {
            warn!("max_connections is reached: logins are refused");
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !mutant!(StillCounted) {
            self.0.set(self.0.get() - 1);
        }
    }
}

impl<N: Net> Proxy<N> {
    /// A connection wants to become a session. It counts as one until it ends or is refused.
    pub(super) fn admit_session(&mut self, key: ConnectionKey) {
        let most = self.settings.connections_max;
        let Some(connection) = self.connections.get_mut(key.slot) else { return };
        if connection.relay.session().stage() != Stage::Login {
            return;
        }
        connection.ticket = self.admission.admit(most);
        if connection.ticket.is_none() {
            sometimes!(Full);
            connection.relay.session_mut().refuse(too_many().private("max_connections"));
            self.admission.warn_full();
        }
    }
}

/// The refusal of a login, or of a connection that is closed for another one.
pub(super) fn too_many() -> Refusal {
    let message = "Multigres has too many clients already";
    Refusal::new(Fault::Multigres, sqlstate::TOO_MANY_CONNECTIONS, message)
        .hint("\"max_connections\" of Multigres is reached, whatever PostgreSQL's is.")
}
