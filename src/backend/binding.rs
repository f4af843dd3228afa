//! The fourth state: binds the context to the session, and holds back all that upstream says until
//! the binding is proved.
//! Knows nothing of how upstream was authenticated, or of the client.

use bytes::BytesMut;

use super::batch::Batch;
use super::findings::Findings;
use super::proof::{Proof, check_idle};
use super::role;
use crate::login::{Step, UpstreamIo};
use crate::protocol::Message;
use crate::protocol::backend::{self, tag};
use crate::refusal::{Fault, Refusal};

/// Holds back what upstream says until the batch has been answered exactly right.
pub(crate) struct Binding {
    proof: Proof,
    /// AuthenticationOk and all that follows, for the client, up to ReadyForQuery.
    pub(crate) held: BytesMut,
    /// How much of it is notices.
    notice_bytes: usize,
    backend_pid: Option<i32>,
    /// Upstream has said ReadyForQuery for its own start, and has been sent the batch.
    is_batch_sent: bool,
}

/// The context is bound, and that is proved.
pub(crate) struct Bound {
    /// AuthenticationOk and all that followed, for the client, with a ReadyForQuery as the last.
    pub(crate) held: BytesMut,
    pub(crate) findings: Findings,
}

impl Binding {
    pub(crate) fn new(batch: Batch, authentication_ok: &Message) -> Self {
        let mut held = BytesMut::new();
        held.extend_from_slice(authentication_ok.as_bytes());
        Binding {
            proof: Proof::new(batch),
            held,
            notice_bytes: 0,
            backend_pid: None,
            is_batch_sent: false,
        }
    }

    pub(crate) fn step(&mut self, io: &mut UpstreamIo) -> Result<Step<Bound>, Refusal> {
        let Some(message) = io.take_message_but(tag::NOTICE_RESPONSE)? else {
            return Ok(Step::Wait);
        };
        match message.tag() {
            tag::PARAMETER_STATUS => {
                check_parameter_status(&message)?;
                self.hold(&message)
            }
            tag::NOTICE_RESPONSE => self.notice(&message),
            _ if self.is_batch_sent => self.answered(&message),
            _ => self.starting(message, io),
        }
    }

    /// Whoever set `client_min_messages = debug5` for the role, another tenant perhaps: some of
    /// what PostgreSQL then says is passed on, and no login fails for the rest.
    fn notice<T>(&mut self, message: &Message) -> Result<Step<T>, Refusal> {
        let bytes = self.notice_bytes + message.as_bytes().len();
        if bytes > NOTICE_BYTES_MAX {
            return Ok(Step::Again);
        }
        self.notice_bytes = bytes;
        self.hold(message)
    }

    fn hold<T>(&mut self, message: &Message) -> Result<Step<T>, Refusal> {
        if self.held.len() + message.as_bytes().len() > HELD_BYTES_MAX {
            return Err(Refusal::protocol(Fault::Upstream, "too much said before ReadyForQuery"));
        }
        self.held.extend_from_slice(message.as_bytes());
        Ok(Step::Again)
    }

    fn starting(&mut self, message: Message, io: &mut UpstreamIo) -> Result<Step<Bound>, Refusal> {
        match message.tag() {
            tag::BACKEND_KEY_DATA if self.backend_pid.is_none() => {
                let pid = backend::parse_backend_pid(message.body())
                    .map_err(Refusal::wire(Fault::Upstream))?;
                self.backend_pid = Some(pid);
                self.hold(&message)
            }
            tag::READY_FOR_QUERY => {
                check_idle(&message)?;
                self.proof.batch().encode(&mut io.output);
                self.is_batch_sent = true;
                if mutant!(GateOpensEarly) {
                    return Ok(self.open(&message, Findings::default()));
                }
                Ok(Step::Again)
            }
            // Unknown database, role denied, bad parameter: upstream's own word on the login.
            tag::ERROR_RESPONSE => Ok(Step::RefusedByUpstream(message)),
            other => Err(Refusal::protocol(
                Fault::Upstream,
                format!("a message of type {:?} before ReadyForQuery", other as char),
            )),
        }
    }

    fn answered(&mut self, message: &Message) -> Result<Step<Bound>, Refusal> {
        Ok(match self.proof.take(message, self.backend_pid)? {
            None => Step::Again,
            Some(findings) => self.open(message, findings),
        })
    }

    /// Lets through what was held, up to ReadyForQuery.
    fn open(&mut self, ready_for_query: &Message, findings: Findings) -> Step<Bound> {
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(ready_for_query.as_bytes());
        Step::Done(Bound { held, findings })
    }
}

/// PostgreSQL reports `is_superuser` of the session user at its start and of the current user
/// whenever it changes.
fn check_parameter_status(message: &Message) -> Result<(), Refusal> {
    let (name, value) =
        backend::parse_parameter_status(message.body()).map_err(Refusal::wire(Fault::Upstream))?;
    let value = planted!(value, SuperuserUnread => b"off");
    let is_superuser = name == b"is_superuser" && value != b"off";
    if is_superuser { Err(role::is_privileged()) } else { Ok(()) }
}

/// Far above what PostgreSQL says at the start of a session: some 15 parameters and a key.
const HELD_BYTES_MAX: usize = 256 * 1024;

/// Of it, what may be notices.
const NOTICE_BYTES_MAX: usize = 64 * 1024;
