//! Judges what both peers of each session have seen against what the plan says must come of it.
//! Knows nothing of how the run went in between.

use crate::ledger::{ClientSide, Entry, Ledger};
use crate::plan::{
    Auth, AuthMode, Conduct, End, Ending, Fate, LookupAnswer, Password, Plan, Session, User,
};
use crate::record::violate;

/// What a login must come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The session is up, and its pipe runs to its end.
    Up,
    /// Multigres refuses it with one of these SQLSTATEs.
    Refused(Vec<&'static str>),
    /// Upstream refuses it, and that is passed on.
    RefusedByUpstream(&'static str, &'static str),
    /// One or the other.
    Either(&'static str, &'static str, &'static str),
    /// The client goes away: whatever it is told, it must be let go.
    Gone,
}

/// Judges all sessions.
pub fn judge(plan: &Plan, ledger: &Ledger) {
    for session in &plan.sessions {
        let entry = ledger.entry(session.number).clone();
        judge_always(plan, session, &entry);
        if !plan.is_disruptive() {
            judge_exactly(plan, session, &entry);
        }
    }
}

/// What holds whatever befalls the network.
fn judge_always(plan: &Plan, session: &Session, entry: &Entry) {
    let Entry { client, upstream } = entry;
    let fail = |invariant, text: String| {
        violate(invariant, format!("session {}: {text}", session.number));
    };
    if client.up && !upstream.confirmed {
        fail("S2", "the client is in, and upstream has not confirmed the context".into());
    }
    if client.up && !matches!(expected(plan, session, upstream.confirmed), Expected::Up) {
        // A client that is cut may well be in before that.
        if !matches!(session.client.conduct, Conduct::Cut(_)) {
            fail("S3", "the client is in although its login had to fail".into());
        }
    }
    if upstream.cancels > 0 && !session.pipe.cancel {
        fail("S4", "it was cancelled by another session".into());
    }
    if !plan.is_disruptive() && upstream.started && !upstream.done {
        fail("S3", "upstream's connection was never let go".into());
    }
}

/// What holds while nothing but the peers' own scripts goes wrong.
fn judge_exactly(plan: &Plan, session: &Session, entry: &Entry) {
    let Entry { client, upstream } = entry;
    let fail = |invariant, text: String| {
        violate(invariant, format!("session {}: {text}; {entry:?}", session.number));
    };
    if client.gave_up {
        return fail("L1", "the client gave up waiting".into());
    }
    match expected(plan, session, upstream.confirmed) {
        Expected::Gone => {}
        Expected::Either(code, _, cut) => match &client.refused {
            Some((found, _)) if found == code || found == cut => check_end(client, &fail),
            Some((found, _)) if found == "53300" && may_be_full(plan) => {}
            other => fail("S3", format!("{code} or {cut} became {other:?}")),
        },
        Expected::Refused(mut codes) => {
            if may_be_full(plan) {
                codes.push("53300");
            }
            match &client.refused {
                Some((code, _)) if codes.contains(&code.as_str()) => check_end(client, &fail),
                Some((code, words)) => {
                    fail("S3", format!("refused with {code} ({words}) in place of {codes:?}"));
                }
                None => fail("S3", format!("not refused, which it had to be with {codes:?}")),
            }
        }
        Expected::RefusedByUpstream(code, words) => match &client.refused {
            Some((found, said)) if found == code && said == words => check_end(client, &fail),
            Some((found, _)) if found == "53300" && may_be_full(plan) => {}
            other => fail("S3", format!("upstream's {code} became {other:?}")),
        },
        Expected::Up => match &client.refused {
            Some((code, _)) if code == "53300" && may_be_full(plan) => {}
            Some((code, words)) => fail("L1", format!("refused with {code} ({words})")),
            None if !client.up => fail("L1", "the session did not come up".into()),
            None => check_pipe(session, entry, &fail),
        },
    }
}

fn check_end(client: &ClientSide, fail: &impl Fn(&'static str, String)) {
    if client.login_ended != Some(crate::ledger::LoginEnd::Eof) {
        fail("S3", format!("no EOF behind the refusal but {:?}", client.login_ended));
    }
}

fn check_pipe(session: &Session, entry: &Entry, fail: &impl Fn(&'static str, String)) {
    let Entry { client, upstream } = entry;
    let (Some(told), Some(heard)) = (client.pipe, upstream.pipe) else {
        return fail("L1", "the pipe has no end".into());
    };
    let pipe = &session.pipe;
    match pipe.ending {
        Ending::ClientFirst | Ending::UpstreamLast => {
            if told.received != pipe.down || heard.received != pipe.up {
                fail("S6", "bytes are missing".into());
            }
            if told.reset || heard.reset || !told.eof {
                fail("S7", "the end of the stream is not passed on as such".into());
            }
            if pipe.ending == Ending::ClientFirst && !heard.eof {
                fail("S7", "the half-close is not passed on".into());
            }
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
        }
    }
    if pipe.cancel && (upstream.cancels != 1 || !client.cancelled) {
        fail("S4", format!("{} cancel requests came through", upstream.cancels));
    }
}

/// More connections than `max_connections` may be there at once.
fn may_be_full(plan: &Plan) -> bool {
    // A host's last connection, its cancel, and what still lingers.
    plan.sessions.len() * 2 > plan.daemon.connections_max
}

/// What a login must come to, in the order in which things are found out.
pub fn expected(plan: &Plan, session: &Session, confirmed: bool) -> Expected {
    let (client, script) = (&session.client, &session.script);
    match client.conduct {
        Conduct::Bad(bad) => return Expected::Refused(vec![bad.sqlstate()]),
        Conduct::Cut(cut) if cut.how != End::Pause => return Expected::Gone,
        Conduct::Cut(_) | Conduct::Good | Conduct::QueryForPassword => {}
    }
    let answer = plan.daemon.lookup.as_ref().map(|lookup| lookup.answer);
    if matches!(answer, Some(LookupAnswer::Unknown | LookupAnswer::Never)) {
        return Expected::Refused(vec!["08001"]);
    }
    let before = before_the_context(plan, session);
    let cut = match script.fate {
        Fate::Cut(cut) if !confirmed => match cut.how {
            End::Pause => None,
            End::Silence => Some("57014"),
            End::HalfClose | End::Close | End::Reset => Some("08006"),
        },
        _ => None,
    };
    match (before, cut) {
        (Some(Expected::Refused(mut codes)), Some(cut)) => {
            codes.push(cut);
            Expected::Refused(codes)
        }
        (Some(Expected::RefusedByUpstream(code, words)), Some(cut)) => {
            Expected::Either(code, words, cut)
        }
        (Some(before), _) => before,
        (None, Some(cut)) => Expected::Refused(vec![cut]),
        (None, None) => match script.fate {
            Fate::ErrorAfterOk => Expected::RefusedByUpstream("3D000", "no such database"),
            Fate::Lie(lie) if !(plan.daemon.pooler && lie.passes_behind_a_pooler()) => {
                Expected::Refused(vec![lie.sqlstate()])
            }
            _ => Expected::Up,
        },
    }
}

/// What ends a login up to AuthenticationOk, if anything does.
fn before_the_context(plan: &Plan, session: &Session) -> Option<Expected> {
    let (client, script) = (&session.client, &session.script);
    let is_tenant = client.user != User::Bypass;
    let asks = |auth: Auth| match plan.daemon.auth {
        AuthMode::Password => true,
        AuthMode::Auto => auth == Auth::Md5 && is_tenant,
        AuthMode::Relay => false,
    };
    let may_ask = plan.faults.private_peers || plan.daemon.allow_cleartext;
    match script.fate {
        Fate::ErrorFirst => {
            return Some(Expected::RefusedByUpstream("53300", "no more connections"));
        }
        Fate::UnknownAuth => return Some(Expected::Refused(vec!["08P01"])),
        Fate::Impatient => {
            // In pieces, it can look like a patient upstream that then says nothing more.
            return Some(Expected::Refused(vec!["08P01", "57014", "28000", "28P01"]));
        }
        _ => {}
    }
    if script.auth == Auth::Trust {
        return None;
    }
    if script.auth == Auth::Md5 && is_tenant && plan.daemon.auth == AuthMode::Relay {
        return Some(Expected::Refused(vec!["28000"]));
    }
    if (asks(script.auth) || script.auth == Auth::Cleartext) && !may_ask {
        return Some(Expected::Refused(vec!["28000"]));
    }
    if client.conduct == Conduct::QueryForPassword {
        return Some(Expected::Refused(vec!["08P01"]));
    }
    if asks(script.auth) && client.password == Password::Empty {
        return Some(Expected::Refused(vec!["28P01"]));
    }
    if client.password != Password::Right {
        return Some(Expected::RefusedByUpstream("28P01", "password authentication failed"));
    }
    if script.fate == Fate::BadSignature && script.auth == Auth::Scram {
        let asked = Expected::Refused(vec!["28000"]);
        return Some(if asks(Auth::Scram) { asked } else { Expected::Gone });
    }
    None
}
