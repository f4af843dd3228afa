//! The first state: from the first byte to a login that may dial upstream.
//! Knows nothing of what upstream will answer.

use std::mem;
use std::rc::Rc;

use super::connecting::Connecting;
use super::{Action, ClientPlace, Io, Outcome, Settings, State, Step};
use crate::probe::{Mutant, previous};
use crate::protocol::{FirstPacket, StartupError, StartupMessage, take_first_packet};
use crate::refusal::{Fault, Refusal, sqlstate};

/// Waits for a StartupMessage or a CancelRequest.
pub(super) struct AwaitStartup {
    place: ClientPlace,
    tls_asked: bool,
    gss_asked: bool,
}

impl AwaitStartup {
    pub(super) fn new(place: ClientPlace) -> Self {
        AwaitStartup { place, tls_asked: false, gss_asked: false }
    }

    pub(super) fn step(&mut self, io: &mut Io, settings: &Settings) -> Result<Step, Refusal> {
        let packet = take_first_packet(&mut io.from_client).map_err(|error| refusal(&error))?;
        match packet {
            None if io.client_ended => {
                sometimes!(LeftAtStartup);
                Ok(Step::End(Outcome::ClientLeft))
            }
            None => Ok(Step::Wait),
            Some(FirstPacket::SslRequest) => decline(&mut self.tls_asked, io),
            Some(FirstPacket::GssEncRequest) => decline(&mut self.gss_asked, io),
            Some(FirstPacket::CancelRequest(packet)) => {
                sometimes!(CancelPassed);
                let packet = previous(Mutant::PreviousCancel, packet);
                io.to_upstream.extend_from_slice(&packet);
                io.action = Some(Action::Connect);
                Ok(Step::Next(State::Cancelling))
            }
            Some(FirstPacket::Startup(startup)) => self.start(startup, io, settings),
        }
    }

    fn start(
        &self,
        startup: StartupMessage,
        io: &mut Io,
        settings: &Settings,
    ) -> Result<Step, Refusal> {
        let login = Rc::new(settings.policy.identify(&startup)?);
        let login = previous(Mutant::PreviousIdentity, login);
        let startup = settings.policy.upstream_startup(startup, &login)?;
        io.action = Some(Action::Connect);
        let next = Connecting::new(login, startup, self.place != ClientPlace::Network);
        Ok(Step::Next(State::Connecting(Box::new(next))))
    }
}

/// What stands behind a declined request is plain text in any case, so it may be there already.
fn decline(asked: &mut bool, io: &mut Io) -> Result<Step, Refusal> {
    if mem::replace(asked, true) {
        return Err(Refusal::protocol(Fault::Client, "an encryption request came twice"));
    }
    sometimes!(EncryptionDeclined);
    io.to_client.extend_from_slice(b"N");
    Ok(Step::Again)
}

fn refusal(error: &StartupError) -> Refusal {
    let (state, message) = match error {
        StartupError::Length(_) => {
            (sqlstate::PROTOCOL_VIOLATION, "invalid length of startup packet")
        }
        StartupError::RequestLength => {
            (sqlstate::PROTOCOL_VIOLATION, "invalid length of encryption request packet")
        }
        StartupError::CancelKeyLength => {
            (sqlstate::PROTOCOL_VIOLATION, "invalid length of cancel request packet")
        }
        StartupError::Version { .. } => {
            (sqlstate::FEATURE_NOT_SUPPORTED, "unsupported frontend protocol: only version 3 is")
        }
        StartupError::Layout => (sqlstate::PROTOCOL_VIOLATION, "invalid startup packet layout"),
        StartupError::DuplicateParameter(_) => {
            (sqlstate::PROTOCOL_VIOLATION, "duplicate parameter in startup packet")
        }
    };
    Refusal::new(Fault::Client, state, message).private(error.to_string())
}
