//! Judges what both peers of each session have seen against what the plan says must come of it.
//! Knows nothing of how the run went in between.

mod expected;

use std::time::Duration;

use crate::ledger::{ClientSide, Entry, Ledger, LoginEnd, tells_of_the_end};
use crate::pipe::Report;
use crate::plan::{Cancel, Conduct, Ending, Fate, Lie, LookupAnswer, Plan, Session};
use crate::record::{applied, violate};

use expected::UNREACHABLE;
pub use expected::{Expected, expected};

/// Judges all sessions.
pub fn judge(plan: &Plan, ledger: &Ledger) {
    for session in &plan.sessions {
        let entry = ledger.entry(session.number).clone();
        judge_always(plan, session, &entry);
        judge_times(plan, session, &entry);
        if session.probe {
            judge_probe(plan, session, &entry);
        } else if !plan.is_disruptive() && !is_drained(plan, session, &entry) {
            judge_exactly(plan, session, &entry);
        }
    }
}

/// What holds whatever befalls the network.
fn judge_always(plan: &Plan, session: &Session, entry: &Entry) {
    let Entry { client, upstream, .. } = entry;
    let fail = |invariant, text: String| {
        violate(invariant, format!("session {}: {text}", session.number));
    };
    if client.up && !upstream.confirmed {
        fail("S2", "the client is in, and upstream has not confirmed the context".into());
    }
    if client.up && !matches!(expected(plan, session, upstream.confirmed), Expected::Up) {
        // A client that is cut may well be in before that.
        if !matches!(session.client.conduct, Conduct::Cut(_) | Conduct::Flood) {
            fail("S3", "the client is in although its login had to fail".into());
        }
    }
    if upstream.cancels > session.pipe.cancel.count() {
        fail("S4", format!("it was cancelled {} times", upstream.cancels));
    }
    if !plan.is_disruptive() && upstream.started && !upstream.done {
        fail("S3", "upstream's connection was never let go".into());
    }
}

/// No deadline comes early. That none comes late is seen in the kernel.
fn judge_times(plan: &Plan, session: &Session, entry: &Entry) {
    let (Some((code, words)), Some(accepted), Some(shut)) =
        (&entry.client.refused, entry.accepted, entry.shut)
    else {
        return;
    };
    let never_told = plan.daemon.lookup.as_ref().map(|it| it.answer) == Some(LookupAnswer::Never);
    let no_connection = never_told || plan.upstream_is_deaf() && plan.daemon.lookup.is_none();
    let (deadline_ms, state) = match code.as_str() {
        "57014" => (plan.daemon.login_timeout_ms, silent_in(entry)),
        UNREACHABLE if no_connection && !plan.is_disruptive() && !tells_of_the_end(code, words) => {
            (plan.daemon.connect_timeout_ms, "L3 no connection")
        }
        _ => return,
    };
    let took = shut - accepted;
    if took < Duration::from_millis(deadline_ms) {
        violate("L3", format!("session {}: {code} after only {took:?}", session.number));
    }
    applied(state);
}

/// The state in which a login has run out of time.
fn silent_in(entry: &Entry) -> &'static str {
    let upstream = &entry.upstream;
    if upstream.confirmed {
        "L3 silent at the end"
    } else if upstream.authenticated {
        "L3 silent amid the batch"
    } else if upstream.started {
        "L3 silent amid authentication"
    } else if entry.client.login_bytes == 0 {
        "L3 silent from the first"
    } else {
        "L3 silent in the first packet"
    }
}

/// What is broken stays broken, and a new session gets through all the same.
fn judge_probe(plan: &Plan, session: &Session, entry: &Entry) {
    let fail = |_, text: String| {
        violate("L2", format!("session {}: {text}; {entry:?}", session.number));
    };
    if !entry.client.up {
        return fail("L2", "nothing is in its way any more, and it does not come up".into());
    }
    applied(if plan.may_hang() { "L2" } else { "L2 all well" });
    let took = entry.client.ended.saturating_sub(entry.client.began);
    let most = Duration::from_millis(plan.login_ms() + plan.slack_ms() + plan.accept_ms()) + PROBE;
    if took > most {
        fail("L2", format!("it has taken {took:?}"));
    }
    check_pipe(plan, session, entry, &fail);
}

/// Whether a drain has ended the login, or has not let it begin. Whoever is in when it comes is not
/// harmed by it.
fn is_drained(plan: &Plan, session: &Session, entry: &Entry) -> bool {
    let Some(at) = plan.ends_at().map(Duration::from_millis) else { return false };
    let client = &entry.client;
    if client.up {
        applied(if client.up_at <= at && client.ended > at { "L5 unharmed" } else { "L5 up" });
        return false;
    }
    if client.refused.as_ref().is_some_and(|(code, words)| tells_of_the_end(code, words)) {
        applied("L5 refused");
        // A client that goes away by itself does not hear of the end, though the refusal may have
        // reached it just before.
        let goes = expected(plan, session, entry.upstream.confirmed) == Expected::Gone;
        if !(goes && client.login_ended == Some(LoginEnd::Own)) {
            check_end(client, &|invariant, text| {
                violate(invariant, format!("session {}: {text}", session.number));
            });
        }
        return true;
    }
    if plan.client_has_tls(session) && !client.secured && client.ended >= at {
        // Amid its handshake there is no way to tell it.
        return true;
    }
    let slack = Duration::from_millis(plan.slack_ms());
    let is_late = entry.accepted.is_some() && entry.shut.is_some_and(|shut| shut > at + slack);
    if is_late && !entry.upstream.confirmed {
        violate("L5", format!("session {}: its login outlives the drain", session.number));
    }
    // Nobody has taken its connection.
    entry.accepted.is_none() && client.ended >= at
}

/// What holds while nothing but the peers' own scripts goes wrong.
fn judge_exactly(plan: &Plan, session: &Session, entry: &Entry) {
    let Entry { client, upstream, .. } = entry;
    let fail = |invariant, text: String| {
        violate(invariant, format!("session {}: {text}; {entry:?}", session.number));
    };
    if plan.is_crowded() && !client.up && client.refused.is_none() {
        // It had not said anything yet when there had to be room for others.
        return;
    }
    if client.gave_up {
        return fail("L1", "the client gave up waiting".into());
    }
    match expected(plan, session, upstream.confirmed) {
        Expected::Gone => {}
        Expected::Silent(codes) => match &client.refused {
            _ if upstream.confirmed => {}
            Some((code, _)) if codes.contains(&code.as_str()) => {}
            Some((code, _)) if code == "53300" && may_be_full(plan, entry) => {}
            // Amid a handshake there is no way to tell it anything.
            None if plan.client_has_tls(session) && !client.secured => {}
            other => fail("L3", format!("a silent client is told {other:?}")),
        },
        Expected::Either(code, _, cut) => match &client.refused {
            Some((found, _)) if found == code || found == cut => check_end(client, &fail),
            Some((found, _)) if found == "53300" && may_be_full(plan, entry) => {}
            other => fail("S3", format!("{code} or {cut} became {other:?}")),
        },
        Expected::Refused(mut codes) => {
            if may_be_full(plan, entry) {
                codes.push("53300");
            }
            match &client.refused {
                Some((code, _)) if code == "53300" && plan.is_crowded() => {}
                Some((code, _)) if codes.contains(&code.as_str()) => check_end(client, &fail),
                Some((code, words)) => {
                    fail("S3", format!("refused with {code} ({words}) in place of {codes:?}"));
                }
                None => fail("S3", format!("not refused, which it had to be with {codes:?}")),
            }
        }
        Expected::RefusedByUpstream(code, words) => match &client.refused {
            Some((found, said)) if found == code && said == words => check_end(client, &fail),
            Some((found, _)) if found == "53300" && may_be_full(plan, entry) => {}
            other => fail("S3", format!("upstream's {code} became {other:?}")),
        },
        Expected::Up => match &client.refused {
            Some((code, _)) if code == "53300" && may_be_full(plan, entry) => {}
            Some((code, words)) => fail("L1", format!("refused with {code} ({words})")),
            None if !client.up => fail("L1", "the session did not come up".into()),
            None => {
                applied("L1");
                check_pipe(plan, session, entry, &fail);
                check_share(plan, session, entry, &fail);
            }
        },
    }
}

fn check_end(client: &ClientSide, fail: &impl Fn(&'static str, String)) {
    applied("S3");
    if client.login_ended != Some(LoginEnd::Eof) {
        fail("S3", format!("no EOF behind the refusal but {:?}", client.login_ended));
    }
}

fn check_pipe(plan: &Plan, session: &Session, entry: &Entry, fail: &impl Fn(&'static str, String)) {
    let Entry { client, upstream, .. } = entry;
    let pipe = &session.pipe;
    let (Some(told), Some(heard)) = (client.pipe, upstream.pipe) else {
        // It may have gone before upstream had said the last of the login.
        let goes = |told: Report| told.left || pipe.ending == Ending::ClientTruncates;
        if !(client.pipe.is_some_and(goes) && upstream.done) {
            fail("L1", "the pipe has no end".into());
        }
        return;
    };
    if session.client.eager && !session.client.prelude.is_empty() {
        applied("S9");
    }
    match pipe.ending {
        Ending::ClientFirst | Ending::UpstreamLast | Ending::UpstreamFirst => {
            applied("S6");
            if told.received != pipe.down || heard.received != pipe.up {
                fail("S6", "bytes are missing".into());
            }
            let is_cut = told.truncated || heard.truncated;
            if told.reset || heard.reset || !told.eof || is_cut {
                fail("S7", "the end of the stream is not passed on as such".into());
            }
            applied("S7");
            if pipe.ending != Ending::UpstreamLast && !heard.eof {
                fail("S7", "the half-close is not passed on".into());
            }
        }
        Ending::Mute => {
            if told.received != pipe.down || heard.received != pipe.up {
                fail("S6", "bytes are missing".into());
            }
            if !told.eof || !heard.eof {
                fail("L3", "neither side has ended, and the daemon has not either".into());
            }
        }
        Ending::Deaf => check_flush(plan, entry, fail),
        Ending::ClientTruncates => {
            let (from, to) = (plan.client_has_tls(session), plan.upstream_has_tls(session));
            check_cut(pipe.up, heard, (from, to), fail);
            let is_said = told.eof && !told.truncated && !told.reset;
            if from && is_said && told.received < pipe.down {
                fail("S7", "a client that is cut takes what it got for all of it".into());
            }
        }
        Ending::UpstreamTruncates => {
            let (from, to) = (plan.upstream_has_tls(session), plan.client_has_tls(session));
            check_cut(pipe.down, told, (from, to), fail);
        }
        Ending::ClientAbrupt(_) => {
            if !heard.eof && !heard.reset && heard.received < pipe.up {
                fail("S7", "upstream does not hear that the client has gone".into());
            }
        }
        Ending::UpstreamAbrupt(_) => {
            if !told.eof && !told.reset {
                fail("S7", "the client does not hear that upstream has gone".into());
            }
            if plan.client_has_tls(session) && !told.truncated && !told.reset {
                fail("S7", "the client takes what upstream has said for all of it".into());
            }
        }
    }
    check_cancels(plan, session, entry, fail);
}

fn check_cancels(
    plan: &Plan,
    session: &Session,
    entry: &Entry,
    fail: &impl Fn(&'static str, String),
) {
    let Entry { client, upstream, .. } = entry;
    let pipe = &session.pipe;
    let has_key = session.script.fate != Fate::Lie(Lie::NoKey);
    let wanted = if has_key { pipe.cancel.count() } else { 0 };
    let is_done = upstream.cancels == wanted && client.cancelled >= wanted;
    let excused = plan.ends_at().is_some() || plan.is_disruptive() || plan.is_crowded();
    if !is_done && !excused {
        fail("S4", format!("{} cancel requests came through", upstream.cancels));
    }
    if pipe.cancel != Cancel::None {
        applied("S4");
    }
}

/// All bytes have come through up to an end of which the sender's TLS did not say that it was one,
/// and the receiver's says so neither.
fn check_cut(
    bytes: usize,
    got: Report,
    (from_tls, to_tls): (bool, bool),
    fail: &impl Fn(&'static str, String),
) {
    if got.received != bytes {
        fail("S6", "bytes before a cut are missing".into());
    }
    applied("S7 cut");
    let is_over = got.eof || got.reset;
    if !is_over || from_tls && to_tls && !got.truncated && !got.reset {
        fail("S7", "a cut is not passed on as such".into());
    }
    if !from_tls && to_tls && got.truncated {
        fail("S7", "an end is passed on as a cut".into());
    }
}

/// A client that does not take upstream's last words is waited for, but not for ever.
fn check_flush(plan: &Plan, entry: &Entry, fail: &impl Fn(&'static str, String)) {
    let Some(closed) = entry.closed else { return fail("L3", "it is never closed".into()) };
    applied("L3 last words");
    let since = closed.saturating_sub(entry.upstream.ended);
    let slack = Duration::from_millis(plan.slack_ms()) + TIMER_GRAIN;
    if since < FLUSH || since > FLUSH + slack {
        fail("L3", format!("it is closed {since:?} after upstream's last words"));
    }
}

/// Few bytes get through soon, however many others have.
fn check_share(
    plan: &Plan,
    session: &Session,
    entry: &Entry,
    fail: &impl Fn(&'static str, String),
) {
    let pipe = &session.pipe;
    if !pipe.pingpong || pipe.cancel != Cancel::None || pipe.ending == Ending::Mute {
        return;
    }
    if plan.sessions.iter().any(|other| other.pipe.up + other.pipe.down > BULK_BYTES) {
        applied("L4");
    }
    let rounds = (pipe.up.max(pipe.down) / 16 + 8) as u64;
    let bytes = if plan.has_tls() { 256 } else { 64 };
    let round =
        5 * plan.hop_ms() + pipe.client.pause_ms + pipe.upstream.pause_ms + plan.turns_ms(bytes);
    let most = Duration::from_millis(rounds * round + 2 * plan.slack_ms()) + SHARE;
    let took = entry.client.ended.saturating_sub(entry.client.up_at);
    if took > most {
        fail("L4", format!("{took:?} for {rounds} rounds, which may take {most:?}"));
    }
}

/// More connections than `max_connections` may be there at once.
fn may_be_full(plan: &Plan, entry: &Entry) -> bool {
    let connections_max = plan.daemon.connections_max;
    if plan.takes_at_once() && !plan.is_crowded() {
        applied("S8 as full as it says");
        return entry.others >= connections_max;
    }
    // A host's last connection, its cancel, and what still lingers.
    plan.sessions.len() * 2 > connections_max
}

/// What its timers are rounded to, and turns of no length.
const TIMER_GRAIN: Duration = Duration::from_millis(4);
/// How long the pipe of a probe may take.
const PROBE: Duration = Duration::from_secs(4);
/// Beside so much, a session of few bytes has to get its share.
const BULK_BYTES: usize = 20_000;
/// As long as a drained connection lingers, which a client may wait for.
const SHARE: Duration = Duration::from_millis(500);
/// How long the daemon waits for a client that takes nothing.
const FLUSH: Duration = Duration::from_secs(60);
