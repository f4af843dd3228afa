//! The model clients: each logs in as its plan says and checks every byte that it is told.
//! Knows nothing of what upstream does but through what it is told.

mod cancel;
mod start;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::{JoinSet, spawn_local};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::carrier;
use crate::ledger::{Ledger, LoginEnd, password, role, tells_of_the_end, values};
use crate::pipe::{self, Side, Way};
use crate::plan::{
    Auth, BadStart, Cancel, Conduct, End, Ending, Password, Plan, Prelude, Session, User,
};
use crate::record::{self, applied, violate};
use crate::rng::Rng;
use crate::scram::{self, Secrets};
use crate::sock::{Orphans, Sock};
use crate::talk::{Stop, Talk};
use crate::tls;
use crate::wire::{self, CANARY};

/// Plays the sessions of one host, its lanes side by side.
pub async fn run(plan: Rc<Plan>, ledger: Ledger, host: usize) -> turmoil::Result {
    let orphans = Orphans::default();
    spawn_local(orphans.clone().keep());
    let lanes: BTreeSet<usize> =
        plan.sessions.iter().filter(|it| it.host == host).map(|it| it.lane).collect();
    let mut playing = JoinSet::new();
    for lane in lanes {
        let (plan, ledger, orphans) = (plan.clone(), ledger.clone(), orphans.clone());
        playing.spawn_local(async move { play_lane(&plan, &ledger, &orphans, (host, lane)).await });
    }
    while let Some(played) = playing.join_next().await {
        // A panic in a task beside the first is lost unless it is asked for.
        played?;
    }
    std::future::pending().await
}

async fn play_lane(plan: &Plan, ledger: &Ledger, orphans: &Orphans, place: (usize, usize)) {
    let begin = Instant::now();
    for session in plan.sessions.iter().filter(|it| (it.host, it.lane) == place) {
        sleep_until(begin + Duration::from_millis(session.start_ms)).await;
        ledger.entry(session.number).client.began = record::now();
        let login = Login::play(plan, ledger, session, orphans);
        if timeout(patience(plan, session), login).await.is_err() {
            record::line(format_args!("client {} gave up", session.number));
            ledger.entry(session.number).client.gave_up = true;
        }
        let mut entry = ledger.entry(session.number);
        (entry.client.done, entry.client.ended) = (true, record::now());
        record::line(format_args!("client {} done", session.number));
    }
}

fn patience(plan: &Plan, session: &Session) -> Duration {
    let beyond = if session.pipe.ending == Ending::Deaf {
        DEAF_PATIENCE
    } else if plan.is_disruptive() {
        LOST_PATIENCE
    } else {
        PIPE_PATIENCE
    };
    Duration::from_millis(plan.daemon.login_timeout_ms + session.client.linger_ms) + beyond
}

/// One client that logs in.
struct Login<'a> {
    plan: &'a Plan,
    ledger: &'a Ledger,
    session: &'a Session,
    talk: Talk,
    user: String,
    key: Option<Vec<u8>>,
    authenticated: bool,
    asked: bool,
    scram: Option<Exchange>,
    early_sent: bool,
}

/// What becomes of an encryption request.
enum Answer {
    Declined,
    Granted,
    /// An ErrorResponse comes in place of an answer.
    Refused,
}

/// A SCRAM exchange under way.
struct Exchange {
    bare: String,
    secrets: Option<Secrets>,
}

impl<'a> Login<'a> {
    async fn play(plan: &'a Plan, ledger: &'a Ledger, session: &'a Session, orphans: &Orphans) {
        let to = daemon();
        let sock = match Sock::connect(to, plan.network.window, orphans).await {
            Ok(sock) => sock,
            Err(_) => {
                ledger.entry(session.number).client.login_ended = Some(LoginEnd::Reset);
                return;
            }
        };
        if let Ok(local) = sock.local_addr() {
            ledger.is_at(session.number, local);
        }
        ledger.entry(session.number).client.connected = true;
        let client = &session.client;
        let cut = if let Conduct::Cut(cut) = client.conduct { Some(cut) } else { None };
        let mut login = Login {
            plan,
            ledger,
            session,
            talk: Talk::new(sock, cut, client.chunk, client.pace_ms),
            user: user(session, plan.daemon.variables),
            key: None,
            authenticated: false,
            asked: false,
            scram: None,
            early_sent: false,
        };
        let ended = login.login().await;
        ledger.entry(session.number).client.login_bytes = login.talk.said;
        match ended {
            Ok(()) => login.pipe(orphans).await,
            Err(stop) => login.end(stop).await,
        }
    }

    async fn login(&mut self) -> Result<(), Stop> {
        self.say_first().await?;
        loop {
            let (tag, body) = self.talk.hear().await?;
            if self.message(tag, &body).await? {
                return Ok(());
            }
        }
    }

    async fn say_first(&mut self) -> Result<(), Stop> {
        let client = &self.session.client;
        let mut said = Vec::new();
        for prelude in &client.prelude {
            let code = match prelude {
                Prelude::Ssl => wire::SSL_REQUEST,
                Prelude::Gss => wire::GSSENC_REQUEST,
                Prelude::Direct | Prelude::DirectWithoutAlpn => {
                    self.start_tls(*prelude == Prelude::Direct).await?;
                    continue;
                }
            };
            said.extend(wire::packet(&code.to_be_bytes()));
            if !client.eager {
                self.talk.say(&std::mem::take(&mut said)).await?;
                match self.hear_answer().await? {
                    Answer::Declined => {}
                    Answer::Granted => self.start_tls(true).await?,
                    Answer::Refused => return Ok(()),
                }
            }
        }
        said.extend(self.start());
        self.talk.say(&said).await?;
        let unheard = match client.conduct {
            Conduct::Bad(BadStart::SslTwice) => 1,
            _ if client.eager => client.prelude.iter().filter(|it| it.is_request()).count(),
            _ => 0,
        };
        for _ in 0..unheard {
            match self.hear_answer().await? {
                Answer::Declined => {}
                // What it has said already cannot have been TLS: the daemon sees that.
                Answer::Granted => return Err(self.talk.hear_end().await),
                Answer::Refused => return Ok(()),
            }
        }
        if client.conduct == Conduct::Flood {
            for _ in 0..FLOOD_BYTES / 4096 {
                self.talk.say(&[b'Q'; 4096]).await?;
            }
        }
        Ok(())
    }

    /// Whatever this client takes for a StartupMessage, and what it says behind it at once.
    fn start(&mut self) -> Vec<u8> {
        if let Conduct::Bad(bad) = self.session.client.conduct {
            return self.bad_start(bad);
        }
        let mut bytes = self.startup(&self.user, &[]);
        if self.session.client.conduct == Conduct::QueryBehindStart {
            bytes.extend(wire::message(b'Q', &wire::text("select 1")));
        } else if self.session.script.auth == Auth::Trust {
            bytes.extend(self.early());
        }
        bytes
    }

    async fn hear_answer(&mut self) -> Result<Answer, Stop> {
        let answer = self.talk.hear_bytes(1).await?;
        match answer[0] {
            b'N' => Ok(Answer::Declined),
            b'S' if self.plan.client_has_tls(self.session)
                || self.plan.is_stuffed(self.session) =>
            {
                Ok(Answer::Granted)
            }
            b'E' => {
                self.talk.input.insert(0, b'E');
                Ok(Answer::Refused)
            }
            other => {
                self.violate("S9", &format!("{other} answers an encryption request"));
                Err(Stop::Own)
            }
        }
    }

    async fn start_tls(&mut self, alpn: bool) -> Result<(), Stop> {
        // An alert says that the daemon has ended it meanwhile.
        if self.talk.input.first().is_some_and(|first| *first != TLS_ALERT) {
            self.violate("S11", "there are bytes behind the grant of TLS");
        }
        self.talk.start_tls(tls::client(&self.plan.daemon.tls, alpn)).await?;
        applied("S11 client");
        Ok(())
    }

    /// What is said before it is asked for. It counts as the pipe's.
    fn early(&mut self) -> Vec<u8> {
        if std::mem::replace(&mut self.early_sent, true) {
            return Vec::new();
        }
        pipe::bytes(self.session.number, Way::Up, 0, self.session.pipe.early)
    }

    fn violate(&self, invariant: &'static str, text: &str) {
        violate(invariant, format!("session {}: {text}", self.session.number));
    }

    /// Takes one message of the login; whether the session is up now.
    async fn message(&mut self, tag: u8, body: &[u8]) -> Result<bool, Stop> {
        self.check_canary(body);
        self.ledger.entry(self.session.number).client.secured = self.talk.codec.is_tls();
        match tag {
            b'N' => {}
            b'v' if !self.asked && !self.authenticated => {}
            b'R' if !self.authenticated => self.authentication(body).await?,
            b'S' if self.authenticated => {}
            b'K' if self.authenticated && self.key.is_none() => self.key = Some(body.to_vec()),
            b'Z' if self.authenticated && body == b"I" => {
                let confirmed = self.ledger.entry(self.session.number).upstream.confirmed;
                if !confirmed {
                    self.violate("S2", "ReadyForQuery before the context was bound");
                }
                record::line(format_args!("client {} up", self.session.number));
                let mut entry = self.ledger.entry(self.session.number);
                (entry.client.up, entry.client.up_at) = (true, record::now());
                return Ok(true);
            }
            b'E' => return Err(self.refused(body).await),
            other => {
                self.violate("S2", &format!("message {:?} during the login", other as char));
                return Err(Stop::Own);
            }
        }
        Ok(false)
    }

    /// What upstream says too early, or wrongly, must not come through.
    fn check_canary(&self, bytes: &[u8]) {
        applied("S2");
        if bytes.windows(CANARY.len()).any(|window| window == CANARY) {
            self.violate("S2", "a client is told what upstream said before the context was bound");
        }
    }

    async fn refused(&mut self, body: &[u8]) -> Stop {
        let fields = wire::fields(body).unwrap_or_default();
        let field = |kind: u8| {
            fields.iter().find(|(found, _)| *found == kind).map(|(_, text)| text.clone())
        };
        if let (Some("FATAL"), Some(code), Some(words)) =
            (field(b'S').as_deref(), field(b'C'), field(b'M'))
        {
            record::line(format_args!("client {} refused {code}", self.session.number));
            let mut entry = self.ledger.entry(self.session.number);
            let is_drained = tells_of_the_end(&code, &words) && self.plan.ends_at().is_some();
            if entry.upstream.confirmed && !self.plan.is_disruptive() && !is_drained {
                drop(entry);
                self.violate("L1", &format!("refused with {code} although upstream has confirmed"));
            } else {
                entry.client.refused = Some((code, words));
                if entry.upstream.started {
                    let began = entry.upstream.started_at;
                    drop(entry);
                    self.ledger.knowledge().refused(self.session, began, record::now());
                }
            }
        } else {
            self.violate("S3", "an ErrorResponse that is not well formed or not FATAL");
        }
        let stop = self.talk.hear_end().await;
        if !self.talk.input.is_empty() {
            self.violate("S3", "there are bytes behind the last ErrorResponse");
        }
        sleep(Duration::from_millis(self.session.client.linger_ms)).await;
        stop
    }

    async fn authentication(&mut self, body: &[u8]) -> Result<(), Stop> {
        let Some((code, data)) = body.split_first_chunk::<4>() else {
            self.violate("S2", "an authentication message without its code");
            return Err(Stop::Own);
        };
        let role = role(self.session);
        let secret = match self.session.client.password {
            Password::Right => password(&role),
            Password::Wrong => "something else".into(),
            Password::Empty => String::new(),
        };
        let code = u32::from_be_bytes(*code);
        if self.session.client.conduct == Conduct::QueryForPassword && code != 0 {
            self.talk.say(&wire::message(b'Q', &wire::text("select 1"))).await?;
            return Ok(());
        }
        self.asked = true;
        match code {
            0 => {
                self.authenticated = true;
                let client = self.session.client.password;
                let proves = self.session.script.auth != Auth::Trust;
                if proves && client != Password::Right {
                    self.violate("S4", "AuthenticationOk without the right password");
                }
            }
            3 => self.reply(&wire::text(secret), true).await?,
            5 => {
                let salt = data.try_into().unwrap_or_default();
                let answer = scram::md5_answer(&self.user, &secret, salt);
                self.reply(&wire::text(answer), true).await?;
            }
            10..=12 => self.scram(code, data, &secret).await?,
            _ => self.violate("S2", &format!("authentication request {code}")),
        }
        Ok(())
    }

    async fn reply(&mut self, body: &[u8], last: bool) -> Result<(), Stop> {
        let mut bytes = wire::message(b'p', body);
        if last {
            bytes.extend(self.early());
        }
        self.talk.say(&bytes).await
    }

    async fn scram(&mut self, code: u32, data: &[u8], secret: &str) -> Result<(), Stop> {
        let text = String::from_utf8_lossy(data).into_owned();
        match (code, self.scram.take()) {
            (10, _) if text.contains("-PLUS") && !self.talk.codec.is_tls() => {
                self.violate("S4", "a client without TLS is offered to bind to its channel");
                Err(Stop::Own)
            }
            // Its Query is the answer.
            (10, None) if self.session.client.conduct == Conduct::QueryBehindStart => Ok(()),
            (10, None) if !text.contains("SCRAM-SHA-256") => Err(Stop::Own),
            (10, None) => {
                let purpose = format!("client nonce {}", self.session.number);
                let nonce: [u8; 18] = Rng::fork(self.plan.seed, &purpose).bytes();
                let bare = format!("n=,r={}", scram::encode(&nonce));
                let first = format!("n,,{bare}");
                let length = (first.len() as u32).to_be_bytes();
                let body = [&wire::text("SCRAM-SHA-256")[..], &length, first.as_bytes()].concat();
                self.scram = Some(Exchange { bare, secrets: None });
                if self.session.client.conduct == Conduct::ReplyTwice {
                    let reply = wire::message(b'p', &body);
                    return self.talk.say(&[&reply[..], &reply].concat()).await;
                }
                self.reply(&body, false).await
            }
            (11, Some(Exchange { bare, secrets: None })) => {
                let nonce = scram::attribute(&text, 'r').unwrap_or_default();
                let salt = scram::attribute(&text, 's').and_then(scram::decode).unwrap_or_default();
                let rounds = scram::attribute(&text, 'i').and_then(|it| it.parse().ok());
                let wrong = self.session.client.conduct == Conduct::WrongNonce;
                let without_proof = format!("c=biws,r={nonce}{}", if wrong { "x" } else { "" });
                let auth_message = format!("{bare},{text},{without_proof}");
                let secrets = Secrets::new(secret, &salt, rounds.unwrap_or(1), auth_message);
                let last = format!("{without_proof},p={}", scram::encode(&secrets.proof()));
                self.scram = Some(Exchange { bare, secrets: Some(secrets) });
                self.reply(last.as_bytes(), true).await
            }
            (12, Some(Exchange { secrets: Some(secrets), .. })) => {
                let expected = format!("v={}", scram::encode(&secrets.server_signature()));
                if text == expected { Ok(()) } else { Err(Stop::Own) }
            }
            _ => {
                self.violate("S2", &format!("SASL message {code} out of turn"));
                Err(Stop::Own)
            }
        }
    }

    /// The login has ended without a session.
    async fn end(&mut self, stop: Stop) {
        if stop == Stop::Cut(End::Garble) {
            self.ledger.entry(self.session.number).client.farewell = true;
        }
        let end = match stop {
            Stop::Eof => LoginEnd::Eof,
            Stop::Truncated => LoginEnd::Truncated,
            Stop::Reset => LoginEnd::Reset,
            Stop::Own | Stop::Garbled => LoginEnd::Own,
            Stop::Cut(_) => self.hear_end().await,
        };
        record::line(format_args!("client {} login ended {end:?}", self.session.number));
        self.ledger.entry(self.session.number).client.login_ended = Some(end);
    }

    /// It still listens, and the daemon has to end it, unless all of the login was said.
    async fn hear_end(&mut self) -> LoginEnd {
        let login = Duration::from_millis(self.plan.daemon.login_timeout_ms);
        let slack = Duration::from_millis(self.plan.slack_ms() + self.plan.accept_ms());
        let end = timeout(login + slack + LINGER_PATIENCE, self.talk.hear_end()).await;
        self.check_canary(&self.talk.input);
        // An answer to an encryption request has no length.
        while self.talk.input.first() == Some(&b'N') && self.talk.input.get(1) != Some(&0) {
            self.talk.input.remove(0);
        }
        while let Some((tag, body)) = wire::take(&mut self.talk.input) {
            if let (b'E', Some(fields)) = (tag, wire::fields(&body)) {
                let field = |kind: u8| {
                    let found = fields.iter().find(|(found, _)| *found == kind);
                    found.map(|(_, text)| text.clone()).unwrap_or_default()
                };
                self.ledger.entry(self.session.number).client.refused =
                    Some((field(b'C'), field(b'M')));
            }
        }
        match end {
            Ok(Stop::Eof) => LoginEnd::Eof,
            Ok(Stop::Truncated) => LoginEnd::Truncated,
            Ok(Stop::Reset) => LoginEnd::Reset,
            Ok(Stop::Cut(_) | Stop::Own | Stop::Garbled) => LoginEnd::Own,
            Err(_) => {
                let confirmed = self.ledger.entry(self.session.number).upstream.confirmed;
                if !confirmed && !self.plan.is_disruptive() {
                    self.violate("L3", "a login that does not go on is not ended");
                }
                LoginEnd::Own
            }
        }
    }

    async fn pipe(mut self, orphans: &Orphans) {
        let session = self.session;
        if session.pipe.cancel != Cancel::None && self.key.is_some() {
            self.cancel(orphans).await;
        }
        let sent = if self.early_sent { session.pipe.early } else { 0 };
        let mut side = Side::new(session.number, Way::Up, &session.pipe, sent, self.ledger);
        side.receive(&std::mem::take(&mut self.talk.input));
        let report = side.run(&mut self.talk).await;
        record::line(format_args!("client {} pipe {report:?}", session.number));
        self.ledger.entry(session.number).client.pipe = Some(report);
    }
}

/// The user name with which a session logs in.
fn user(session: &Session, variables: usize) -> String {
    match session.client.user {
        User::Bypass => role(session),
        User::Tenant(_) => format!("{}.{}", role(session), values(session, variables).join(":")),
    }
}

fn daemon() -> SocketAddr {
    carrier::daemon(DAEMON_PORT)
}

/// Where the daemon listens.
pub const DAEMON_PORT: u16 = 6432;

/// A client that is refused has so long to close its side.
const LINGER_PATIENCE: Duration = Duration::from_secs(3);

/// How long a whole session may take beyond its login.
const PIPE_PATIENCE: Duration = Duration::from_secs(60);
/// Where sessions may hang through no fault of the daemon's.
const LOST_PATIENCE: Duration = Duration::from_secs(6);
/// The daemon itself waits for a minute.
const DEAF_PATIENCE: Duration = Duration::from_secs(75);
/// The first byte of a record in which TLS says what is wrong.
const TLS_ALERT: u8 = 0x15;
/// More than anybody has room for.
const FLOOD_BYTES: usize = 300 * 1024;
