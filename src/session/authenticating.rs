//! The third state: upstream asks, the client or Multigres answers, until AuthenticationOk.
//! Knows nothing of the context that will be bound.

use std::mem;
use std::rc::Rc;

use postgres_protocol::authentication::sasl::SCRAM_SHA_256_PLUS;

use super::Nonce;
use super::password::{Exchange, Request};
use crate::login::{Auth, ChannelBinding, ClientIo, Legs, LoginSettings, Step, UpstreamIo};
use crate::protocol::backend::{self, Authentication, tag};
use crate::protocol::{Message, frontend, take_message};
use crate::refusal::{Fault, Refusal, sqlstate};
use crate::tenant::{Login, User};

/// Relays authentication messages one at a time, or answers them with the client's password.
pub(super) struct Authenticating {
    login: Rc<Login>,
    legs: Legs,
    owed: Owed,
    /// Upstream has asked for something.
    is_asked: bool,
    nonce: Nonce,
    exchange: Exchange,
}

/// Upstream is content with who logs in.
pub(super) struct Authenticated {
    pub(super) login: Rc<Login>,
    /// Its AuthenticationOk, for the client.
    pub(super) ok: Message,
}

/// The reply that is outstanding.
enum Owed {
    /// None: it is upstream's turn.
    Nothing,
    /// The client owes upstream an answer, which is passed on.
    Reply,
    /// Like `Reply`: the first message of SCRAM, to an offer from which channel binding was taken.
    UnboundReply,
    /// Like `Reply`, but upstream may go on without it: the last step of GSSAPI has none.
    PerhapsReply,
    /// The client owes Multigres its password, with which to answer this request.
    Password(Request),
}

impl Authenticating {
    pub(super) fn new(login: Rc<Login>, legs: Legs, nonce: Nonce) -> Self {
        let exchange = Exchange::default();
        Authenticating { login, legs, owed: Owed::Nothing, is_asked: false, nonce, exchange }
    }

    pub(super) fn step(
        &mut self,
        client: &mut ClientIo,
        upstream: &mut UpstreamIo,
        settings: &LoginSettings,
    ) -> Result<Step<Authenticated>, Refusal> {
        if let Some(step) = self.client_step(client, upstream)? {
            return Ok(step);
        }
        if client.is_gone() {
            sometimes!(LeftAuthenticating);
            return Ok(Step::ClientLeft);
        }
        match upstream.take_message()? {
            None => Ok(Step::Wait),
            Some(message) => self.upstream_message(message, client, upstream, settings),
        }
    }

    /// Whether it is the client's turn.
    pub(super) fn waits_for_client(&self) -> bool {
        matches!(self.owed, Owed::Reply | Owed::UnboundReply | Owed::Password(_))
    }

    /// Takes the one message that the client owes. What it says without being asked stays where it
    /// is, for the pipe.
    fn client_step<T>(
        &mut self,
        client: &mut ClientIo,
        upstream: &mut UpstreamIo,
    ) -> Result<Option<Step<T>>, Refusal> {
        if matches!(self.owed, Owed::Nothing) {
            return Ok(None);
        }
        let tag = client.input.first();
        match planted!(tag, AnyReply => tag.and(Some(&frontend::AUTHENTICATION_REPLY))) {
            None | Some(&frontend::AUTHENTICATION_REPLY) => {}
            // Not a reply at all, and none has to come: the client speaks early.
            Some(_) if matches!(self.owed, Owed::PerhapsReply) => return Ok(None),
            Some(other) => {
                let private = format!("a message of type {:?} for a reply", *other as char);
                return Err(Refusal::protocol(Fault::Client, private));
            }
        }
        let limit = frontend::AUTHENTICATION_REPLY_BYTES_MAX;
        let message = take_message(&mut client.input, limit);
        match message.map_err(Refusal::wire(Fault::Client))? {
            None if client.has_ended => Ok(Some(Step::ClientLeft)),
            None => Ok(None),
            Some(message) => {
                match mem::replace(&mut self.owed, Owed::Nothing) {
                    Owed::Password(request) => self.answer(request, &message, upstream)?,
                    Owed::UnboundReply if frontend::believes_no_channel_binding(message.body()) => {
                        return Err(binding_breaks());
                    }
                    Owed::Reply | Owed::UnboundReply | Owed::PerhapsReply | Owed::Nothing => {
                        upstream.output.extend_from_slice(message.as_bytes());
                    }
                }
                Ok(Some(Step::Again))
            }
        }
    }

    fn answer(
        &mut self,
        request: Request,
        message: &Message,
        upstream: &mut UpstreamIo,
    ) -> Result<(), Refusal> {
        let password = frontend::parse_password(message.body())
            .ok_or_else(|| Refusal::protocol(Fault::Client, "not a PasswordMessage"))?;
        if password.is_empty() {
            return Err(Refusal::new(
                Fault::Client,
                sqlstate::INVALID_PASSWORD,
                "empty password returned by client",
            ));
        }
        request.check_password(password)?;
        let user = match &self.login.user {
            User::Bypass(user) => user,
            User::Tenant(tenant) => tenant.role(),
        };
        let end_point = self.legs.upstream.as_ref().and_then(|tls| tls.end_point.as_deref());
        let to_upstream = &mut upstream.output;
        self.exchange.start(request, user, password, end_point, self.nonce, to_upstream);
        Ok(())
    }

    fn upstream_message(
        &mut self,
        message: Message,
        client: &mut ClientIo,
        upstream: &mut UpstreamIo,
        settings: &LoginSettings,
    ) -> Result<Step<Authenticated>, Refusal> {
        match message.tag() {
            tag::AUTHENTICATION => {
                let authentication = backend::parse_authentication(message.body())
                    .map_err(Refusal::wire(Fault::Upstream))?;
                self.authentication(authentication, message, client, upstream, settings)
            }
            tag::ERROR_RESPONSE => Ok(Step::RefusedByUpstream(message)),
            tag::NOTICE_RESPONSE | tag::NEGOTIATE_PROTOCOL_VERSION => {
                client.output.extend_from_slice(message.as_bytes());
                Ok(Step::Again)
            }
            other => Err(Refusal::protocol(
                Fault::Upstream,
                format!("a message of type {:?} before AuthenticationOk", other as char),
            )),
        }
    }

    fn authentication(
        &mut self,
        authentication: Authentication,
        message: Message,
        client: &mut ClientIo,
        upstream: &mut UpstreamIo,
        settings: &LoginSettings,
    ) -> Result<Step<Authenticated>, Refusal> {
        let is_early = planted!(self.waits_for_client(), ReplyNotAwaited => false);
        if is_early {
            return Err(Refusal::protocol(Fault::Upstream, "upstream did not wait for a reply"));
        }
        let (request, owed) = match authentication {
            Authentication::Ok => return self.authenticated(message, settings),
            Authentication::CleartextPassword => (Some(Request::Cleartext), Owed::Reply),
            Authentication::Md5Password(salt) => (Some(Request::Md5(salt)), Owed::Reply),
            Authentication::Sasl(mechanisms) => (Some(Request::Sasl(mechanisms)), Owed::Reply),
            Authentication::SaslContinue(data) if self.exchange.is_running() => {
                self.exchange.proceed(&data, &mut upstream.output)?;
                return Ok(Step::Again);
            }
            Authentication::SaslFinal(data) if self.exchange.is_running() => {
                self.exchange.finish(&data)?;
                return Ok(Step::Again);
            }
            Authentication::SaslContinue(_) => (None, Owed::Reply),
            Authentication::SaslFinal(_) => (None, Owed::Nothing),
            Authentication::Gss => (None, Owed::PerhapsReply),
            Authentication::Unknown(code) => {
                let private = format!("authentication request {code}");
                return Err(Refusal::protocol(Fault::Upstream, private));
            }
        };
        self.is_asked = true;
        if self.exchange.has_started() {
            return Err(Refusal::protocol(Fault::Upstream, "a second authentication request"));
        }
        if matches!(request, Some(Request::Cleartext)) {
            self.check_upstream(settings)?;
        }
        self.owed = match request {
            Some(request) if self.answers_itself(&request, settings.auth)? => {
                let request = request.checked()?;
                self.check_leg(settings)?;
                sometimes!(PasswordAsked);
                backend::put_cleartext_password_request(&mut client.output);
                Owed::Password(request)
            }
            Some(Request::Cleartext) => {
                self.check_leg(settings)?;
                client.output.extend_from_slice(message.as_bytes());
                owed
            }
            Some(Request::Sasl(offered))
                if self.legs.channel_binding() != ChannelBinding::Holds =>
            {
                let offered = offered.iter().map(String::as_str);
                let unbound = offered.filter(|name| *name != SCRAM_SHA_256_PLUS);
                backend::put_sasl_mechanisms(&mut client.output, unbound);
                Owed::UnboundReply
            }
            Some(Request::Md5(_) | Request::Sasl(_)) | None => {
                client.output.extend_from_slice(message.as_bytes());
                owed
            }
        };
        Ok(Step::Again)
    }

    /// Whether Multigres answers upstream's request, or the client does.
    fn answers_itself(&self, request: &Request, auth: Auth) -> Result<bool, Refusal> {
        // The client hashes with the user name that it knows, upstream with the role.
        let md5_fails = matches!((request, &self.login.user), (Request::Md5(_), User::Tenant(_)));
        // A client that binds the channel would be taken for one that is lied to.
        let binding_breaks = matches!(
            (request, self.legs.channel_binding()),
            (Request::Sasl(_), ChannelBinding::Breaks)
        );
        match auth {
            Auth::Password => Ok(true),
            Auth::Auto => Ok(md5_fails || binding_breaks),
            Auth::Relay if md5_fails => Err(Refusal::new(
                Fault::Upstream,
                sqlstate::INVALID_AUTHORIZATION,
                "MD5 password authentication cannot be relayed",
            )
            .detail("An MD5 password is hashed with the user name, and the tenant is part of it.")
            .hint(
                "Set \"auth = auto\" in Multigres, or use scram-sha-256 in upstream's pg_hba.conf.",
            )),
            Auth::Relay => Ok(false),
        }
    }

    /// A password is asked for in clear only where nobody listens, whoever asks.
    fn check_leg(&self, settings: &LoginSettings) -> Result<(), Refusal> {
        let client = self.legs.client;
        let is_allowed = client.is_local || client.has_tls || settings.allow_cleartext_password;
        let is_allowed = planted!(is_allowed, CleartextAnywhere => true);
        if !is_allowed {
            return Err(Refusal::new(
                Fault::Client,
                sqlstate::INVALID_AUTHORIZATION,
                "a password cannot be asked for over an unencrypted connection",
            )
            .hint(
                "Connect with TLS (\"tls_cert\" in Multigres, \"sslmode=require\" in the client), \
                 use scram-sha-256 in upstream's pg_hba.conf with \"auth = auto\", connect through \
                 a unix socket or a loopback address, or set \"allow_cleartext_password = on\".",
            ));
        }
        Ok(())
    }

    /// A client that asked for TLS believes that its password stays inside; whoever stands in
    /// upstream's place can ask for it in clear instead of by SCRAM.
    fn check_upstream(&self, settings: &LoginSettings) -> Result<(), Refusal> {
        let has_tls = self.legs.upstream.is_some();
        if has_tls || settings.upstream_is_local || settings.allow_cleartext_password {
            return Ok(());
        }
        Err(Refusal::new(
            Fault::Upstream,
            sqlstate::INVALID_AUTHORIZATION,
            "upstream asks for a password over an unencrypted connection",
        )
        .hint(
            "Set \"upstream_tls\" in Multigres, use scram-sha-256 in upstream's pg_hba.conf, or \
             set \"allow_cleartext_password = on\".",
        ))
    }

    fn authenticated(
        &self,
        ok: Message,
        settings: &LoginSettings,
    ) -> Result<Step<Authenticated>, Refusal> {
        if self.exchange.is_running() {
            return Err(Refusal::protocol(Fault::Upstream, "SCRAM ended without its proof"));
        }
        let is_bypass = matches!(self.login.user, User::Bypass(_));
        if is_bypass && !self.is_asked && settings.upstream_may_know_multigres {
            return Err(is_unproven());
        }
        Ok(Step::Done(Authenticated { login: self.login.clone(), ok }))
    }
}

/// PostgreSQL has believed Multigres, which has asked the client for nothing: whoever reaches
/// Multigres would be a superuser.
fn is_unproven() -> Refusal {
    Refusal::new(
        Fault::Upstream,
        sqlstate::INVALID_AUTHORIZATION,
        "a bypass user has to prove to PostgreSQL who they are",
    )
    .detail(
        "PostgreSQL let the connection in without asking for anything. It may have taken Multigres \
         for the user, by \"peer\" on the unix socket or by the certificate of Multigres.",
    )
    .hint(
        "Use scram-sha-256 for this user in upstream's pg_hba.conf, or connect to PostgreSQL \
         itself.",
    )
}

/// The client binds the channel and has been told that the server does not: a server with TLS
/// takes that for an attack, and would say so in words that lead nowhere.
fn binding_breaks() -> Refusal {
    Refusal::new(
        Fault::Client,
        sqlstate::INVALID_AUTHORIZATION,
        "SCRAM with channel binding cannot be relayed",
    )
    .detail("Multigres ends the client's TLS and shows another certificate than PostgreSQL does.")
    .hint(
        "Set \"auth = auto\" in Multigres, give it the certificate of the upstream server, or \
         connect with \"channel_binding=disable\".",
    )
}
