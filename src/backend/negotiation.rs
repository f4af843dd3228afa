//! TLS on the upstream leg: asking for it, and taking the one byte of the answer.
//! Knows nothing of what will be said once the leg is ready.

use crate::login::{Handshake, Leg, Step, UpstreamIo, UpstreamTls};
use crate::protocol::frontend;
use crate::refusal::{Fault, Refusal, sqlstate};

/// How far the upstream leg is on its way to its first message.
pub(crate) enum Negotiation {
    /// It is not connected yet.
    Connecting,
    /// It is connected; nothing has been said.
    Connected,
    /// SSLRequest has been sent.
    Asked,
    /// The TLS handshake is under way.
    Handshake,
    /// The first message can be sent; encrypted, if there is something to say of that.
    Ready(Option<Handshake>),
}

impl Negotiation {
    /// The leg is connected.
    pub(crate) fn connected(&mut self) {
        *self = Negotiation::Connected;
    }

    /// Hands over what is known of the leg's TLS, if any, once the first message can be sent.
    pub(crate) fn step(
        &mut self,
        mode: UpstreamTls,
        io: &mut UpstreamIo,
    ) -> Result<Step<Option<Handshake>>, Refusal> {
        match self {
            Negotiation::Connecting | Negotiation::Handshake => Ok(Step::Wait),
            Negotiation::Connected => Ok(self.start(mode, io)),
            Negotiation::Asked => self.take_answer(mode, io),
            Negotiation::Ready(handshake) => Ok(Step::Done(handshake.clone())),
        }
    }

    fn start<T>(&mut self, mode: UpstreamTls, io: &mut UpstreamIo) -> Step<T> {
        match mode {
            UpstreamTls::Disabled => {
                *self = Negotiation::Ready(None);
                Step::Again
            }
            UpstreamTls::Preferred | UpstreamTls::Required => {
                frontend::put_ssl_request(&mut io.output);
                *self = Negotiation::Asked;
                Step::Wait
            }
            UpstreamTls::Direct => {
                *self = Negotiation::Handshake;
                Step::StartTls(Leg::Upstream)
            }
        }
    }

    /// Takes the answer to SSLRequest, if it has come.
    ///
    /// Anything but `S` and `N` is never shown: whoever has not proved itself could have said it
    /// (CVE-2024-10977). What stands behind an `S` was not encrypted, though upstream may only
    /// speak again when it is (CVE-2021-23222).
    fn take_answer<T>(
        &mut self,
        mode: UpstreamTls,
        io: &mut UpstreamIo,
    ) -> Result<Step<T>, Refusal> {
        match (answer(&io.input), mode) {
            ([], _) => Ok(Step::Wait),
            (b"S", _) => {
                io.input.clear();
                *self = Negotiation::Handshake;
                Ok(Step::StartTls(Leg::Upstream))
            }
            (b"N", mode) if goes_on_without(mode) => {
                io.input.clear();
                *self = Negotiation::Ready(None);
                Ok(Step::Again)
            }
            (b"N", _) => Err(failed("upstream does not support TLS").hint(
                "Switch ssl on in upstream's postgresql.conf, or set \"upstream_tls\" in \
                     Multigres.",
            )),
            ([b'S' | b'N', ..], _) => {
                let private = "unencrypted bytes behind the answer to SSLRequest";
                Err(Refusal::protocol(Fault::Upstream, private))
            }
            ([other, ..], _) => Err(failed(format!("answer to SSLRequest: {:?}", *other as char))),
        }
    }

    /// The handshake is done.
    pub(crate) fn handshake_done(
        &mut self,
        handshake: Handshake,
        mode: UpstreamTls,
    ) -> Result<(), Refusal> {
        if !matches!(self, Negotiation::Handshake) {
            return Ok(());
        }
        if mode == UpstreamTls::Direct && !handshake.alpn {
            return Err(failed("direct TLS without ALPN"));
        }
        *self = Negotiation::Ready(Some(handshake));
        Ok(())
    }
}

/// All that has come: more than one byte is more than the answer.
fn answer(input: &[u8]) -> &[u8] {
    if mutant!(StuffedAnswerTaken) { &input[..input.len().min(1)] } else { input }
}

/// Whether the login goes on in clear when upstream declines TLS.
fn goes_on_without(mode: UpstreamTls) -> bool {
    match mode {
        UpstreamTls::Preferred => true,
        UpstreamTls::Disabled | UpstreamTls::Required | UpstreamTls::Direct => {
            mutant!(DeclinedTlsIgnored)
        }
    }
}

/// TLS with upstream could not be had.
pub(crate) fn failed(private: impl Into<String>) -> Refusal {
    Refusal::new(
        Fault::Upstream,
        sqlstate::UNABLE_TO_CONNECT,
        "could not establish TLS with the upstream server",
    )
    .private(private)
}
