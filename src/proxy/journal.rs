//! What the log is told of a connection: a value for each event, and its line.
//! Knows nothing of how a connection comes to an event.

use std::fmt;
use std::io;
use std::time::Duration;

use log::{Level, log};

use crate::net::{Address, ClientAddress};
use crate::refusal::{Fault, Quoted, Refusal};
use crate::session::{Guard, Leg, Outcome, is_alarm};
use crate::tenant::Described;

/// One line.
pub(super) struct Entry<'a> {
    /// Serial number of the connection.
    pub(super) session: u64,
    pub(super) client: ClientAddress,
    /// As the session's own settings read it.
    pub(super) who: Described<'a>,
    pub(super) event: Event<'a>,
}

/// What has become of a connection.
pub(super) enum Event<'a> {
    /// Its leg cannot be registered.
    Dropped(&'a io::Error),
    /// An address of upstream does not answer.
    NotConnected(&'a Address, &'a io::Error),
    /// It has not come to the pipe.
    Stopped(&'a Outcome),
    /// The pipe is open.
    Up(Up),
    /// The pipe has ended.
    Ended(Ended),
}

/// A session as it comes up.
pub(super) struct Up {
    /// Whether the database asks for seals.
    pub(super) sealed: Option<bool>,
    pub(super) guard: Option<Guard>,
    /// The version of TLS.
    pub(super) client_tls: Option<&'static str>,
    pub(super) upstream_tls: Option<&'static str>,
    /// Since the connection was accepted.
    pub(super) login: Duration,
}

/// A session that was up.
pub(super) struct Ended {
    /// Since it came up.
    pub(super) duration: Duration,
    pub(super) client_bytes: u64,
    pub(super) upstream_bytes: u64,
    /// `None`: Multigres.
    pub(super) ended_by: Option<Leg>,
    pub(super) reason: String,
}

impl Entry<'_> {
    pub(super) fn log(&self) {
        log!(self.event.level(), "{self}");
    }
}

impl Event<'_> {
    fn level(&self) -> Level {
        match self {
            Event::Dropped(_) => Level::Warn,
            Event::NotConnected(..) => Level::Debug,
            Event::Stopped(Outcome::Refused(refusal)) if is_alarm(refusal) => Level::Error,
            Event::Stopped(Outcome::Refused(refusal)) => match refusal.fault {
                Fault::Upstream => Level::Warn,
                Fault::Client | Fault::Multigres => Level::Info,
            },
            Event::Stopped(Outcome::RefusedByUpstream { .. }) => Level::Info,
            Event::Stopped(Outcome::ClientLeft | Outcome::Cancelled) => Level::Debug,
            Event::Up(_) | Event::Ended(_) => Level::Info,
        }
    }
}

impl fmt::Display for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry { session, client, who, event } = self;
        write!(f, "session={session} ")?;
        match event {
            Event::Dropped(error) => write!(f, "dropped client={client}: {error}"),
            Event::NotConnected(address, error) => {
                write!(f, "cannot connect to {address}: {error}")
            }
            Event::Stopped(Outcome::Refused(refusal)) => {
                write!(f, "refused client={client}{who} {refusal}{}", AlarmHint(refusal))
            }
            Event::Stopped(Outcome::RefusedByUpstream { sqlstate, message }) => {
                let reason = format!("upstream said: {message}");
                write!(f, "refused client={client}{who} fault=upstream sqlstate={sqlstate} ")?;
                write!(f, "reason={}", Quoted(&reason))
            }
            Event::Stopped(Outcome::ClientLeft) => {
                write!(f, "left client={client}{who} during login")
            }
            Event::Stopped(Outcome::Cancelled) => f.write_str("passed a cancel request on"),
            Event::Up(up) => write!(f, "up client={client}{who}{up}"),
            Event::Ended(ended) => write!(f, "end client={client}{who}{ended}"),
        }
    }
}

/// Whoever runs the database has to act: they are told how.
struct AlarmHint<'a>(&'a Refusal);

impl fmt::Display for AlarmHint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !is_alarm(self.0) {
            return Ok(());
        }
        write!(f, " hint={}", Quoted(self.0.hint.as_deref().unwrap_or_default()))
    }
}

impl fmt::Display for Up {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sealed {
            None => {}
            Some(true) => f.write_str(" seal=on")?,
            Some(false) => f.write_str(" seal=off")?,
        }
        for (leg, version) in [("client", self.client_tls), ("upstream", self.upstream_tls)] {
            if let Some(version) = version {
                write!(f, " {leg}_tls={version}")?;
            }
        }
        write!(f, " login={}ms", self.login.as_millis())?;
        match self.guard {
            None => Ok(()),
            Some(Guard::Kept | Guard::Held) => f.write_str(" guard=on"),
            Some(Guard::Absent) => f.write_str(" guard=off"),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ended_by = match self.ended_by {
            Some(Leg::Client) => "client",
            Some(Leg::Upstream) => "upstream",
            None => "multigres",
        };
        write!(
            f,
            " duration={}ms client_bytes={} upstream_bytes={} ended_by={ended_by} reason={}",
            self.duration.as_millis(),
            self.client_bytes,
            self.upstream_bytes,
            Quoted(&self.reason),
        )
    }
}
