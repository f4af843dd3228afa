//! What a plan says must come of each login, as far as that is certain.
//! Knows nothing of what has come of it.

use crate::plan::{
    Auth, AuthMode, ClientTls, Conduct, Cut, End, Fate, LookupAnswer, NO_TLS, Password, Plan,
    Prelude, Session, User,
};

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
    /// The client says no more: unless all was said, the deadline ends the login, or one of these.
    Silent(Vec<&'static str>),
    /// The client goes away: whatever it is told, it must be let go.
    Gone,
}

/// What a login must come to, in the order in which things are found out.
pub fn expected(plan: &Plan, session: &Session, confirmed: bool) -> Expected {
    let (client, script) = (&session.client, &session.script);
    if let Some(expected) = at_the_door(plan, session) {
        return expected;
    }
    match client.conduct {
        Conduct::Bad(bad) if bad.is_unanswered() => return Expected::Gone,
        Conduct::Bad(bad) if requires_tls(plan, session) && !bad.is_no_packet() => {
            return Expected::Refused(vec!["28000"]);
        }
        Conduct::Bad(bad) => return Expected::Refused(vec![bad.sqlstate()]),
        Conduct::Cut(cut) if cut.how == End::Silence => return silent(plan, session, confirmed),
        Conduct::Cut(cut) if cut.how == End::Garble && !plan.client_has_tls(session) => {}
        Conduct::Cut(cut) if cut.how != End::Pause => return Expected::Gone,
        Conduct::Flood => return Expected::Gone,
        _ => {}
    }
    if requires_tls(plan, session) {
        return Expected::Refused(vec!["28000"]);
    }
    if plan.client_has_tls(session) && client.prelude.contains(&Prelude::DirectWithoutAlpn) {
        return Expected::Refused(vec!["08P01"]);
    }
    let answer = plan.daemon.lookup.as_ref().map(|lookup| lookup.answer);
    match answer {
        Some(LookupAnswer::Unknown) => return Expected::Refused(vec![UNREACHABLE]),
        Some(LookupAnswer::Bad) if !plan.upstream_is_deaf() => {
            return Expected::Refused(vec![UNREACHABLE]);
        }
        // Whichever deadline comes first: that of the login runs from when the client was accepted,
        // that of the attempt from when it has said who it is, or from the resolver's answer.
        Some(LookupAnswer::Never) => return Expected::Refused(vec![UNREACHABLE, "57014"]),
        Some(LookupAnswer::Good | LookupAnswer::Bad | LookupAnswer::BadFirst) | None => {}
    }
    if plan.upstream_is_deaf() {
        return Expected::Refused(vec![UNREACHABLE, "57014"]);
    }
    let before = before_the_context(plan, session);
    let has_tls = plan.upstream_has_tls(session);
    let cut = match script.fate {
        Fate::Cut(cut) if !confirmed => match cut.how {
            End::Pause => None,
            End::Silence => Some("57014"),
            End::Garble if !has_tls => None,
            End::Garble | End::HalfClose | End::Close | End::Reset => Some("08006"),
        },
        _ => None,
    };
    if cut == Some("08006") && has_tls {
        return amid_tls(script.fate, before);
    }
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

/// Upstream's records end, or one is wrong: amid its handshake it cannot be told from one that has
/// no TLS.
fn amid_tls(fate: Fate, before: Option<Expected>) -> Expected {
    let mut codes = vec!["08006", NO_TLS];
    if matches!(fate, Fate::Cut(Cut { how: End::Garble, .. })) {
        // It may have been a length.
        codes.push("57014");
    }
    match before {
        Some(Expected::Refused(more)) => codes.extend(more),
        Some(Expected::RefusedByUpstream(code, _)) => codes.push(code),
        _ => {}
    }
    Expected::Refused(codes)
}

/// What becomes of a client with whom there can be no talking about TLS.
fn at_the_door(plan: &Plan, session: &Session) -> Option<Expected> {
    let client = &session.client;
    if session.is_direct() && !plan.client_has_tls(session) {
        return Some(Expected::Gone);
    }
    let is_cut = matches!(client.conduct, Conduct::Cut(_) | Conduct::Flood);
    if client.prelude.contains(&Prelude::DirectWithoutAlpn) && !is_cut {
        return Some(Expected::Refused(vec!["08P01"]));
    }
    // In pieces, what is behind the request comes where the handshake should.
    let is_whole = plan.faults.read_max > 100 && plan.network.window > 100 && client.chunk > 100;
    plan.is_stuffed(session)
        .then(|| if is_whole { Expected::Refused(vec!["08P01"]) } else { Expected::Gone })
}

fn requires_tls(plan: &Plan, session: &Session) -> bool {
    plan.daemon.tls.client == ClientTls::Require && !session.wants_tls()
}

/// A client that falls silent is refused when its time is over, unless something else is found out
/// before.
fn silent(plan: &Plan, session: &Session, confirmed: bool) -> Expected {
    let mut talking = session.clone();
    talking.client.conduct = Conduct::Good;
    let mut codes = vec!["57014"];
    match expected(plan, &talking, confirmed) {
        Expected::Up | Expected::Silent(_) => {}
        Expected::Refused(more) => codes.extend(more),
        Expected::RefusedByUpstream(code, _) => codes.push(code),
        Expected::Either(code, _, cut) => codes.extend([code, cut]),
        Expected::Gone => return Expected::Gone,
    }
    Expected::Silent(codes)
}

/// What ends a login up to AuthenticationOk, if anything does.
fn before_the_context(plan: &Plan, session: &Session) -> Option<Expected> {
    let (client, script) = (&session.client, &session.script);
    if let Some(codes) = plan.upstream_tls_fails(session) {
        return Some(Expected::Refused(codes));
    }
    let is_tenant = client.user != User::Bypass;
    let has_tls = plan.client_has_tls(session);
    let asks = |auth: Auth| match plan.daemon.auth {
        AuthMode::Password => true,
        AuthMode::Auto if auth == Auth::Scram => plan.breaks_binding(session),
        AuthMode::Auto => auth == Auth::Md5 && is_tenant,
        AuthMode::Relay => false,
    };
    let may_ask = has_tls || plan.faults.private_peers || plan.daemon.allow_cleartext;
    match script.fate {
        Fate::ErrorFirst => {
            return Some(Expected::RefusedByUpstream("53300", "no more connections"));
        }
        Fate::UnknownAuth => return Some(Expected::Refused(vec!["08P01"])),
        Fate::UnknownMechanism if asks(Auth::Scram) => {
            return Some(Expected::Refused(vec!["28000"]));
        }
        Fate::UnknownMechanism if says_query(client.conduct) => {
            return Some(Expected::Refused(vec!["08P01"]));
        }
        Fate::UnknownMechanism => return Some(Expected::Gone),
        Fate::Impatient => {
            let faults = &plan.faults;
            if faults.read_max > 100 && plan.network.window > 100 && script.chunk > 100 {
                return Some(Expected::Refused(vec!["08P01", "28000"]));
            }
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
    if says_query(client.conduct) {
        return Some(Expected::Refused(vec!["08P01"]));
    }
    let spoils = matches!(client.conduct, Conduct::WrongNonce | Conduct::ReplyTwice);
    if spoils && script.auth == Auth::Scram && !asks(Auth::Scram) {
        return Some(Expected::RefusedByUpstream("28P01", "password authentication failed"));
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

/// SQLSTATE of an upstream that cannot be reached.
pub(super) const UNREACHABLE: &str = "57P03";

fn says_query(conduct: Conduct) -> bool {
    matches!(conduct, Conduct::QueryForPassword | Conduct::QueryBehindStart)
}
