//! The model PostgreSQL: one scripted dialogue for each connection, and a strict reader that
//! knows in which phase which byte may come.

mod auth;
mod batch;
mod seal;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::carrier::Listener;
use crate::ledger::{Ledger, database, role};
use crate::pipe::{self, Side, Way};
use crate::plan::{
    self, Conduct, Cut, End, Fate, Lie, Plan, Session, TlsAnswer, UpstreamTls, User,
};
use crate::record::{self, applied, violate};
use crate::rng::Rng;
use crate::sock::{Orphans, Sock};
use crate::talk::{Stop, Talk};
use crate::tls;
use crate::wire::{self, CANARY};

pub use seal::SEAL_KEY;

/// Everything that all connections share.
#[derive(Clone)]
struct Shared {
    plan: Rc<Plan>,
    ledger: Ledger,
    orphans: Orphans,
}

/// One connection of a session.
struct Backend<'a> {
    plan: &'a Plan,
    session: &'a Session,
    ledger: &'a Ledger,
    talk: Talk,
    pid: u32,
    key: [u8; 4],
    /// What is to be bound, with the seals.
    context: Vec<(String, String)>,
    /// When its connection was accepted.
    accepted: Duration,
    /// When the batch has asked for what the daemon can keep; `None` if it does not.
    asked: Option<Duration>,
}

/// Listens and serves until the host stops.
pub async fn run(plan: Rc<Plan>, ledger: Ledger) -> turmoil::Result {
    let orphans = Orphans::default();
    spawn_local(orphans.clone().keep());
    let listener = Listener::bind(PORT).await?;
    let shared = Shared { plan, ledger, orphans };
    loop {
        let stream = listener.accept().await?;
        let sock = Sock::new(stream, shared.plan.network.window, &shared.orphans);
        // A panic in a task beside the first is lost unless it is asked for.
        let served = spawn_local(serve(sock, shared.clone()));
        spawn_local(async move {
            if served.await.is_err_and(|error| error.is_panic()) {
                violate("PANIC", "in the model PostgreSQL");
            }
        });
    }
}

/// The port it listens on.
pub const PORT: u16 = 5432;

async fn serve(sock: Sock, shared: Shared) {
    let accepted = record::now();
    let mut talk = Talk::new(sock, None, usize::MAX, 0);
    let Ok(packet) = open(&mut talk, &shared).await else { return };
    let code = u32::from_be_bytes([packet[0], packet[1], packet[2], packet[3]]);
    if shared.plan.daemon.tls.upstream.is_demanded() && !talk.codec.is_tls() {
        violate("S11", "upstream is told something in clear");
    }
    if code == wire::CANCEL_REQUEST {
        return cancel(&packet[4..], &mut talk, &shared).await;
    }
    let Some((version, parameters)) = wire::startup(&packet) else {
        return violate("S1", "the StartupMessage does not end at its last NUL");
    };
    if version >> 16 != 3 {
        violate("S1", format!("version {version}"));
    }
    let number = parameters
        .iter()
        .find(|(name, _)| name == "application_name")
        .and_then(|(_, value)| value.strip_prefix("sim-")?.parse::<usize>().ok());
    let Some(session) = number.and_then(|number| shared.plan.sessions.get(number)) else {
        return violate("S1", "a StartupMessage of no session");
    };
    if !talk.input.is_empty() {
        violate("S1", format!("session {}: bytes behind StartupMessage", session.number));
    }
    let peer = talk.sock().peer_addr().ok();
    let context = seal::context(&shared.plan, session, peer);
    check_identity(&parameters, session, &shared.plan, &context);
    if talk.said == 0 {
        talk.go_on(cut_of(session), session.script.chunk, session.script.pace_ms);
    }
    let (pid, key) = pid_and_key(session.number, shared.plan.seed);
    let mut backend = Backend {
        plan: &shared.plan,
        session,
        ledger: &shared.ledger,
        talk,
        pid,
        key,
        context,
        accepted,
        asked: None,
    };
    {
        let upstream = &mut shared.ledger.entry(session.number).upstream;
        (upstream.started, upstream.started_at) = (true, record::now());
    }
    record::line(format_args!("upstream {} started", session.number));
    let stop = backend.dialogue().await;
    let mut entry = shared.ledger.entry(session.number);
    (entry.upstream.done, entry.upstream.ended) = (true, record::now());
    entry.upstream.login_bytes = backend.talk.said;
    record::line(format_args!("upstream {} done: {stop:?}", session.number));
}

/// Up to the first packet that is no SSLRequest.
async fn open(talk: &mut Talk, shared: &Shared) -> Result<Vec<u8>, Stop> {
    let tls = &shared.plan.daemon.tls;
    let first = talk.hear_bytes(1).await?;
    talk.input.splice(0..0, first.iter().copied());
    let is_direct = first == [TLS_HANDSHAKE] && tls.upstream == UpstreamTls::Direct;
    if !is_direct {
        let packet = first_packet(talk).await?;
        if packet != wire::SSL_REQUEST.to_be_bytes() {
            return Ok(packet);
        }
        if tls.upstream == UpstreamTls::Disable || tls.upstream == UpstreamTls::Direct {
            violate("S11", "upstream is asked for TLS");
        }
        if !talk.input.is_empty() {
            violate("S11", "bytes behind an SSLRequest");
        }
    }
    let peer = talk.sock().peer_addr().ok();
    let session = peer.and_then(|peer| shared.ledger.dialled_for(peer));
    let session = session.map(|number| &shared.plan.sessions[number]);
    let answer = session.map_or(TlsAnswer::Yes, |session| session.script.tls);
    if let Some(session) = session {
        talk.go_on(cut_of(session), session.script.chunk, session.script.pace_ms);
    }
    let stop = match open_tls(talk, tls, answer, is_direct).await {
        Ok(()) => return first_packet(talk).await,
        Err(stop) => stop,
    };
    if matches!(stop, Stop::Own | Stop::Cut(_)) {
        // The daemon lets go of it, having told it nothing but that it would begin TLS.
        let login = Duration::from_millis(shared.plan.daemon.login_timeout_ms);
        let _ = timeout(login + PATIENCE, talk.hear_end()).await;
        let is_clear = |first: &u8| *first != TLS_HANDSHAKE;
        if !talk.codec.is_tls() && talk.input.first().is_some_and(is_clear) {
            violate("S11", "upstream is told something although TLS has failed");
        }
    }
    Err(stop)
}

/// Answers the wish for TLS.
async fn open_tls(
    talk: &mut Talk,
    tls: &plan::Tls,
    answer: TlsAnswer,
    is_direct: bool,
) -> Result<(), Stop> {
    if !is_direct {
        match answer {
            TlsAnswer::No => {
                talk.say(b"N").await?;
                let goes_on = tls.upstream == UpstreamTls::Prefer;
                return if goes_on { Ok(()) } else { Err(Stop::Own) };
            }
            TlsAnswer::Error => {
                talk.say(&wire::report(b'E', "FATAL", "0A000", CANARY)).await?;
                return Err(Stop::Own);
            }
            TlsAnswer::Garbage => {
                talk.say(b"?").await?;
                return Err(Stop::Own);
            }
            TlsAnswer::Stuffed => {
                talk.say(&[b"S", CANARY].concat()).await?;
                let _ = talk.hear_end().await;
                return Err(Stop::Eof);
            }
            TlsAnswer::Yes | TlsAnswer::Stranger | TlsAnswer::OtherName | TlsAnswer::NoAlpn => {
                talk.say(b"S").await?
            }
        }
    }
    talk.start_tls(tls::server(tls, answer)).await?;
    applied("S11 upstream");
    Ok(())
}

fn cut_of(session: &Session) -> Option<Cut> {
    match session.script.fate {
        Fate::Cut(cut) => Some(cut),
        _ => None,
    }
}

async fn first_packet(talk: &mut Talk) -> Result<Vec<u8>, Stop> {
    let length = talk.hear_bytes(4).await?;
    let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
    if !(8..=10_004).contains(&length) {
        violate("S9", format!("a first packet of length {length} reached upstream"));
        return Err(Stop::Own);
    }
    talk.hear_bytes(length - 4).await
}

async fn cancel(rest: &[u8], talk: &mut Talk, shared: &Shared) {
    let known: BTreeMap<Vec<u8>, usize> = shared
        .plan
        .sessions
        .iter()
        .map(|session| {
            let (pid, key) = pid_and_key(session.number, shared.plan.seed);
            ([&pid.to_be_bytes()[..], &key].concat(), session.number)
        })
        .collect();
    match known.get(rest) {
        Some(&number) => {
            record::line(format_args!("upstream {number} cancelled"));
            shared.ledger.entry(number).upstream.cancels += 1;
        }
        None if is_wrong_on_purpose(rest, shared) => applied("S4 wrong key"),
        None => violate("S4", "a CancelRequest with an altered key"),
    }
    if !talk.is_quiet() {
        violate("S1", "bytes behind a CancelRequest");
    }
}

fn is_wrong_on_purpose(key: &[u8], shared: &Shared) -> bool {
    let sessions = 0..shared.plan.sessions.len();
    sessions
        .map(|number| shared.ledger.entry(number).client.wrong_key.clone())
        .any(|wrong| wrong.as_deref() == Some(key))
}

fn pid_and_key(number: usize, seed: u64) -> (u32, [u8; 4]) {
    (1000 + number as u32, Rng::fork(seed, &format!("key{number}")).bytes())
}

/// The role and the tenant are those of the login, and nothing of the client's comes after them.
fn check_identity(
    parameters: &[(String, String)],
    session: &Session,
    plan: &Plan,
    context: &[(String, String)],
) {
    let number = session.number;
    let role = role(session);
    let mut expected = vec![
        ("user".to_owned(), role.clone()),
        ("database".to_owned(), database(session).to_owned()),
        ("application_name".to_owned(), format!("sim-{number}")),
    ];
    if session.client.user != User::Bypass && !plan.daemon.pooler {
        expected.extend_from_slice(context);
        expected.push(("role".to_owned(), role));
    }
    if parameters != expected {
        violate("S4", format!("session {number}: StartupMessage has {parameters:?}"));
    }
}

impl Backend<'_> {
    async fn dialogue(&mut self) -> Stop {
        let stop = match self.login().await {
            Ok(()) => return self.pipe().await,
            Err(stop) => stop,
        };
        self.last_words(stop).await
    }

    /// Whatever has gone wrong: what still comes must be none of the client's bytes, and the
    /// connection must be closed soon.
    async fn last_words(&mut self, stop: Stop) -> Stop {
        let number = self.session.number;
        let end = match stop {
            Stop::Eof | Stop::Truncated | Stop::Garbled | Stop::Reset => stop,
            Stop::Cut(_) | Stop::Own => {
                self.ledger.entry(number).upstream.doomed = Some(record::now());
                match timeout(self.patience(stop), self.talk.hear_end()).await {
                    Ok(end) => end,
                    Err(_) if self.plan.is_disruptive() => Stop::Own,
                    Err(_) => {
                        violate("S3", format!("session {number}: upstream is not let go"));
                        Stop::Own
                    }
                }
            }
        };
        if self.session.client.user != User::Bypass {
            applied("S1 last words");
            self.check_leftovers();
        }
        end
    }

    /// A connection that has no future is closed as soon as that is certain; only silence has to
    /// be waited for.
    fn patience(&self, stop: Stop) -> Duration {
        let hushed = matches!(stop, Stop::Cut(End::Silence));
        // In pieces, what is wrong may look right but unfinished.
        let unfinished = matches!(
            self.session.script.fate,
            Fate::Impatient | Fate::Lie(Lie::LengthHuge) | Fate::BadSignature
        );
        // An offer that is passed on waits for a client that says nothing.
        let silent =
            matches!(self.session.client.conduct, Conduct::Cut(Cut { how: End::Silence, .. }));
        let undecided = self.session.script.fate == Fate::UnknownMechanism && silent;
        let login = Duration::from_millis(self.plan.daemon.login_timeout_ms);
        let slack = Duration::from_millis(self.plan.slack_ms()) + PATIENCE;
        let is_late = hushed || unfinished || undecided || self.plan.is_disruptive();
        if is_late { login + slack } else { slack }
    }

    /// Authentication replies, the batch and Terminate may still come, whole or not.
    fn check_leftovers(&mut self) {
        while let Some((tag, _)) = wire::take(&mut self.talk.input) {
            if !b"pPBECSX".contains(&tag) {
                let text = format!("session {}: {:?} before the pipe", self.session.number, tag);
                return violate("S1", text);
            }
        }
        if self.talk.input.first().is_some_and(|tag| !b"pPBECSX".contains(tag)) {
            violate("S1", format!("session {}: bytes before the pipe", self.session.number));
        }
    }

    async fn login(&mut self) -> Result<(), Stop> {
        if self.session.script.fate == Fate::ErrorFirst {
            return self.refuse("53300", "no more connections").await;
        }
        if self.session.script.talkative {
            let body = [&0x0003_0000u32.to_be_bytes()[..], &0u32.to_be_bytes()].concat();
            self.talk.say(&wire::message(b'v', &body)).await?;
            self.talk.say(&wire::report(b'N', "NOTICE", "00000", "who is there?")).await?;
        }
        self.authenticate().await?;
        let is_bypass = self.session.client.user == User::Bypass;
        if !is_bypass {
            self.expect_quiet();
        }
        let start = self.start();
        self.ledger.entry(self.session.number).upstream.authenticated = true;
        if is_bypass {
            // Its pipe begins behind AuthenticationOk.
            let ok = wire::authentication(0, &[]).len();
            let (last, more) = start.split_at(ok);
            return self.say_beyond(last, &[more, &self.rows()].concat()).await;
        }
        self.talk.say(&start).await?;
        if let Fate::ErrorAfterOk = self.session.script.fate {
            return Err(Stop::Own);
        }
        if let Fate::Lie(lie) = self.session.script.fate
            && is_told_at_the_start(lie)
        {
            return Err(Stop::Own);
        }
        self.hear_batch().await?;
        self.expect_quiet();
        let answer = self.answer();
        let (most, last) = answer.split_at(answer.len() - 1);
        self.talk.say(most).await?;
        self.expect_quiet();
        match self.session.script.fate {
            Fate::Lie(lie) if !(self.plan.daemon.pooler && lie.passes_behind_a_pooler()) => {
                self.talk.say(last).await?;
                Err(Stop::Own)
            }
            _ => self.say_beyond(last, &self.rows()).await,
        }
    }

    /// The first of the pipe, which comes in the same piece as the last of the login.
    fn rows(&self) -> Vec<u8> {
        pipe::bytes(self.session.number, Way::Down, 0, self.session.script.coalesced)
    }

    /// Says the last of the login, and the first of the pipe in the same piece.
    async fn say_beyond(&mut self, last: &[u8], more: &[u8]) -> Result<(), Stop> {
        let (ledger, session, asked) = (self.ledger, self.session, self.asked);
        let number = session.number;
        let confirmed = |end: usize| {
            record::line(format_args!("upstream {number} confirmed"));
            if let Some(asked) = asked {
                ledger.knowledge().told(session, asked);
            }
            let mut entry = ledger.entry(number);
            entry.upstream.confirmed = true;
            entry.upstream.login_end = Some(end as u64);
        };
        self.talk.say_beyond(last, more, confirmed).await
    }

    /// No byte has come that this side has not asked for.
    fn expect_quiet(&mut self) {
        applied("S1");
        if !self.talk.is_quiet() {
            violate("S1", format!("session {}: early bytes reach upstream", self.session.number));
        }
    }

    async fn refuse(&mut self, code: &str, words: &str) -> Result<(), Stop> {
        self.talk.say(&wire::report(b'E', "FATAL", code, words)).await?;
        self.talk.sock = None;
        Err(Stop::Own)
    }

    /// AuthenticationOk and what PostgreSQL says at the start of a session.
    fn start(&self) -> Vec<u8> {
        let fate = self.session.script.fate;
        let lie = if let Fate::Lie(lie) = fate { Some(lie) } else { None };
        let passes = self.plan.daemon.pooler && lie.is_some_and(Lie::passes_behind_a_pooler);
        // What must not reach a client says so.
        let version: &[u8] = if lie.is_some() && !passes { CANARY } else { b"17.0" };
        let mut out = wire::authentication(0, &[]);
        if lie == Some(Lie::OkTwice) {
            out.extend(wire::authentication(0, &[]));
        }
        out.extend(wire::parameter_status("server_version", version));
        if fate == Fate::ErrorAfterOk {
            out.extend(wire::report(b'E', "FATAL", "3D000", "no such database"));
            return out;
        }
        let superuser = if lie == Some(Lie::Superuser) { "on" } else { "off" };
        if self.session.client.user != User::Bypass {
            out.extend(wire::parameter_status("is_superuser", superuser));
        }
        if self.session.script.talkative {
            out.extend(wire::report(b'N', "NOTICE", "00000", "hello"));
            out.extend(wire::parameter_status("TimeZone", "Europe/Oslo"));
        }
        if lie == Some(Lie::Flood) {
            let status = wire::parameter_status("TimeZone", CANARY.repeat(100));
            out.extend(status.repeat(FLOOD_BYTES / status.len()));
        }
        if lie == Some(Lie::EarlyRow) {
            out.extend(wire::data_row(&[Some(CANARY)]));
        }
        if lie != Some(Lie::NoKey) {
            out.extend(wire::backend_key_data(self.pid, &self.key));
        }
        let status = if lie == Some(Lie::StartStatusT) { b'T' } else { b'I' };
        out.extend(wire::ready_for_query(status));
        if lie == Some(Lie::ReadyTwice) {
            out.extend(wire::ready_for_query(b'I'));
        }
        out
    }

    async fn pipe(&mut self) -> Stop {
        let sent = self.session.script.coalesced;
        let mut side =
            Side::new(self.session.number, Way::Down, &self.session.pipe, sent, self.ledger);
        side.tolerate_terminate(self.plan.is_disruptive() || self.plan.ends_at().is_some());
        side.receive(&std::mem::take(&mut self.talk.input));
        let report = side.run(&mut self.talk).await;
        self.ledger.entry(self.session.number).upstream.pipe = Some(report);
        if report.left
            && let Some(sock) = self.talk.sock.take()
        {
            sock.reset();
        }
        self.talk.sock = None;
        Stop::Own
    }
}

fn is_told_at_the_start(lie: Lie) -> bool {
    matches!(
        lie,
        Lie::OkTwice
            | Lie::Superuser
            | Lie::EarlyRow
            | Lie::StartStatusT
            | Lie::ReadyTwice
            | Lie::Flood
    )
}

/// The first byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// Until the daemon has let go of what it has found to be wrong.
const PATIENCE: Duration = Duration::from_millis(500);
/// More than what the daemon holds back.
const FLOOD_BYTES: usize = 300 * 1024;
