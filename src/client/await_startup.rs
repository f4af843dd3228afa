//! The first state: from the first byte to a login that may dial upstream.
//! Knows nothing of upstream.

use std::mem;
use std::rc::Rc;

use bytes::Bytes;

use crate::login::{
    ClientChannel, ClientIo, ClientPlace, ClientTls, Handshake, Leg, LoginSettings, Step,
};
use crate::probe::{Mutant, previous};
use crate::protocol::{FirstPacket, StartupError, StartupMessage, take_first_packet};
use crate::refusal::{Fault, Refusal, sqlstate};
use crate::tenant::Login;

/// Waits for a StartupMessage or a CancelRequest.
pub(crate) struct AwaitStartup {
    place: ClientPlace,
    encryption: Encryption,
    gss_asked: bool,
}

/// How far the client leg is with TLS.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Encryption {
    /// The first byte has not come: it may be one of TLS'.
    Untouched,
    /// The client has not asked for it yet.
    Plain,
    /// An SSLRequest was declined.
    Declined,
    /// The handshake is under way, since an SSLRequest or from the first byte on.
    Handshake { direct: bool },
    /// What comes was encrypted.
    Established,
}

/// What a client has come for.
pub(crate) enum Wanted {
    /// That this CancelRequest is passed on.
    Cancel(Bytes),
    /// A session.
    Session {
        /// Whose.
        login: Rc<Login>,
        /// For upstream, still without the context.
        startup: StartupMessage,
        channel: ClientChannel,
    },
}

impl AwaitStartup {
    pub(crate) fn new(place: ClientPlace) -> Self {
        AwaitStartup { place, encryption: Encryption::Untouched, gss_asked: false }
    }

    pub(crate) fn step(
        &mut self,
        io: &mut ClientIo,
        settings: &LoginSettings,
    ) -> Result<Step<Wanted>, Refusal> {
        if self.encryption == Encryption::Untouched
            && let Some(&first) = io.input.first()
        {
            self.encryption = Encryption::Plain;
            if first == TLS_HANDSHAKE && self.offers_tls(settings) {
                self.encryption = Encryption::Handshake { direct: true };
                return Ok(Step::StartTls(Leg::Client));
            }
        }
        if matches!(self.encryption, Encryption::Handshake { .. }) {
            return Ok(if io.has_ended { Step::ClientLeft } else { Step::Wait });
        }
        let packet = match take_first_packet(&mut io.input) {
            Err(error) if is_unanswered(&error) => {
                return Ok(Step::RefusedSilently(refusal(&error)));
            }
            taken => taken.map_err(|error| refusal(&error))?,
        };
        match packet {
            None if io.has_ended => {
                sometimes!(LeftAtStartup);
                Ok(Step::ClientLeft)
            }
            None => Ok(Step::Wait),
            Some(FirstPacket::SslRequest) => self.ssl_request(io, settings),
            Some(FirstPacket::GssEncRequest) => {
                // Nobody encrypts twice: inside TLS it counts as asked already.
                if mem::replace(&mut self.gss_asked, true)
                    || self.encryption == Encryption::Established
                {
                    return Err(twice());
                }
                decline(io);
                Ok(Step::Again)
            }
            Some(FirstPacket::CancelRequest(packet)) => {
                sometimes!(CancelPassed);
                Ok(Step::Done(Wanted::Cancel(previous(Mutant::PreviousCancel, packet))))
            }
            Some(FirstPacket::Startup(startup)) => self.start(startup, settings),
        }
    }

    /// The handshake is done. From the first byte on, TLS must have agreed on the protocol by ALPN,
    /// or a server of another protocol's certificate could be lent to this one.
    pub(crate) fn handshake_done(&mut self, handshake: Handshake) -> Result<(), Refusal> {
        let Encryption::Handshake { direct } = self.encryption else { return Ok(()) };
        self.encryption = Encryption::Established;
        if direct && !handshake.alpn {
            let message = "direct TLS needs ALPN, with the protocol \"postgresql\"";
            return Err(Refusal::new(Fault::Client, sqlstate::PROTOCOL_VIOLATION, message));
        }
        Ok(())
    }

    /// As PostgreSQL, no TLS on unix sockets.
    fn offers_tls(&self, settings: &LoginSettings) -> bool {
        settings.client_tls != ClientTls::Disabled && self.place != ClientPlace::UnixSocket
    }

    /// What stands behind a request that is declined is plain text in any case, so it may be there
    /// already. Behind one that is granted it was not encrypted, though the client will believe
    /// that all it says from now on is (CVE-2021-23214).
    fn ssl_request<T>(
        &mut self,
        io: &mut ClientIo,
        settings: &LoginSettings,
    ) -> Result<Step<T>, Refusal> {
        match self.encryption {
            Encryption::Untouched | Encryption::Plain => {}
            Encryption::Declined | Encryption::Handshake { .. } | Encryption::Established => {
                return Err(twice());
            }
        }
        if !self.offers_tls(settings) {
            self.encryption = Encryption::Declined;
            decline(io);
            return Ok(Step::Again);
        }
        let is_stuffed = !io.input.is_empty() && !mutant!(StuffedRequestTaken);
        if is_stuffed {
            let message = "received unencrypted data behind an SSLRequest";
            return Err(Refusal::new(Fault::Client, sqlstate::PROTOCOL_VIOLATION, message));
        }
        self.encryption = Encryption::Handshake { direct: false };
        io.output.extend_from_slice(b"S");
        Ok(Step::StartTls(Leg::Client))
    }

    fn start(
        &self,
        startup: StartupMessage,
        settings: &LoginSettings,
    ) -> Result<Step<Wanted>, Refusal> {
        let has_tls = self.encryption == Encryption::Established;
        let is_required =
            planted!(settings.client_tls == ClientTls::Required, ClearLoginAllowed => false);
        if is_required && !has_tls && self.place != ClientPlace::UnixSocket {
            let message = "connections without TLS are not accepted";
            let refusal = Refusal::new(Fault::Client, sqlstate::INVALID_AUTHORIZATION, message);
            return Err(refusal.hint("Connect with \"sslmode=require\" or stronger."));
        }
        let login = Rc::new(settings.policy.identify(&startup)?);
        let login = previous(Mutant::PreviousIdentity, login);
        let startup = settings.policy.upstream_startup(startup, &login)?;
        let channel = ClientChannel { is_local: self.place != ClientPlace::Network, has_tls };
        Ok(Step::Done(Wanted::Session { login, startup, channel }))
    }
}

fn decline(io: &mut ClientIo) {
    sometimes!(EncryptionDeclined);
    io.output.extend_from_slice(b"N");
}

fn twice() -> Refusal {
    Refusal::protocol(Fault::Client, "an encryption request came twice")
}

/// Whether PostgreSQL says nothing to whoever sends this (`ProcessStartupPacket` in
/// `backend_startup.c`): a length that cannot be is of another protocol, and no CancelRequest is
/// answered. node-postgres sends a Terminate in place of a StartupMessage when it is ended early,
/// and an ErrorResponse would come as an error that nobody waits for.
fn is_unanswered(error: &StartupError) -> bool {
    match error {
        StartupError::Length(_) | StartupError::CancelKeyLength => true,
        StartupError::RequestLength
        | StartupError::Version { .. }
        | StartupError::Layout
        | StartupError::DuplicateParameter(_) => false,
    }
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

/// The content type of a TLS record that holds a ClientHello (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
