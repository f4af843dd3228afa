//! Every lie of upstream's and every wrong thing that a client can say, in every way to
//! authenticate and under every setting that decides what becomes of it. Enumerated, as the cuts.
//! Beside them, what chance would hardly ever bring together.

use crate::exhaust;
use crate::plan::{
    Auth, AuthMode, BadStart, Cancel, Client, ClientTls, Conduct, Cut, End, Ending, Fate, Lie,
    Lookup, LookupAnswer, Password, Plan, Prelude, Script, SealBind, Session, Tls, TlsAnswer,
    UpstreamTls, User,
};

/// All plans, each with a hundred logins or so.
pub fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for mode in [AuthMode::Auto, AuthMode::Relay, AuthMode::Password] {
        for auth in Auth::ALL {
            for pooler in [false, true] {
                for private in [true, false] {
                    plans.push(plan(mode, auth, pooler, private));
                }
            }
        }
    }
    for upstream in UpstreamTls::ALL {
        for old in [false, true] {
            plans.push(tls(ClientTls::Allow, upstream, old));
            plans.push(tls(ClientTls::Require, upstream, old));
        }
    }
    plans.push(cancels());
    plans.push(leavers());
    plans
}

/// Clients that leave after so many bytes, while upstream's address is being looked up.
fn leavers() -> Plan {
    let mut plan = exhaust::honest(AuthMode::Auto, Auth::Trust, 120);
    plan.daemon.lookup = Some(Lookup { delay_ms: 200, answer: LookupAnswer::Good });
    for (at, session) in plan.sessions.iter_mut().enumerate() {
        session.client.conduct = Conduct::Cut(Cut { at, how: End::Close });
    }
    plan
}

/// Cancel requests for which there is often no connection to upstream; what is known of the role
/// does not outlive that.
fn cancels() -> Plan {
    let mut plan = exhaust::honest(AuthMode::Auto, Auth::Trust, 40);
    plan.faults.connect_error_percent = 50;
    plan.daemon.verify_ttl_ms = 60_000;
    for (at, session) in plan.sessions.iter_mut().enumerate() {
        session.start_ms += 20 * at as u64;
        session.pipe.cancel = Cancel::Storm(4);
    }
    plan
}

fn plan(mode: AuthMode, auth: Auth, pooler: bool, private: bool) -> Plan {
    let lies = Lie::ALL.map(Fate::Lie);
    let others = [
        Fate::Honest,
        Fate::ErrorFirst,
        Fate::ErrorAfterOk,
        Fate::UnknownAuth,
        Fate::Impatient,
        Fate::BadSignature,
    ];
    let fates: Vec<Fate> = lies.into_iter().chain(others).collect();
    let conducts: Vec<Conduct> =
        BadStart::ALL.map(Conduct::Bad).into_iter().chain([Conduct::QueryForPassword]).collect();
    let passwords = [Password::Right, Password::Wrong, Password::Empty];
    let logins = fates.len() + conducts.len() + passwords.len() + 1 + GUARDED;
    let mut plan = exhaust::honest(mode, auth, logins);
    plan.daemon.pooler = pooler;
    plan.daemon.variables = 2;
    plan.faults.private_peers = private;
    let bind = if pooler { SealBind::None } else { SealBind::Address };
    plan.daemon.verify_ttl_ms = if private { 0 } else { 60_000 };
    plan.daemon.seal = private.then_some(bind);
    let mut sessions = plan.sessions.iter_mut();
    let mut next = || sessions.next().expect("as many as were asked for");
    for fate in fates {
        set(next(), |script, _| script.fate = fate);
    }
    for conduct in conducts {
        set(next(), |_, client| client.conduct = conduct);
    }
    for password in passwords {
        set(next(), |_, client| client.password = password);
    }
    set(next(), |_, client| client.user = User::Bypass);
    // Behind the others, by whose verdicts they must not be served.
    for at in 0..GUARDED {
        let session = next();
        set(session, |script, _| script.fate = Fate::Lie(Lie::GuardOpen));
        session.start_ms = 3_000 + 300 * at as u64;
    }
    plan
}

/// Every way to come with TLS or without, and every answer to the daemon's own wish for it.
fn tls(client: ClientTls, upstream: UpstreamTls, old: bool) -> Plan {
    let preludes = [
        vec![],
        vec![Prelude::Ssl],
        vec![Prelude::Gss, Prelude::Ssl],
        vec![Prelude::Direct],
        vec![Prelude::DirectWithoutAlpn],
    ];
    let mut plan = exhaust::honest(AuthMode::Auto, Auth::Scram, 4 * preludes.len() * TLS_WAYS);
    plan.daemon.tls = Tls { client, upstream, old };
    let mut sessions = plan.sessions.iter_mut();
    for prelude in preludes {
        for auth in Auth::ALL {
            for at in 0..TLS_WAYS {
                let session = sessions.next().expect("as many as were asked for");
                session.client.prelude.clone_from(&prelude);
                session.client.eager = at == 0;
                session.script.auth = auth;
                session.script.tls = TlsAnswer::ALL.get(at).copied().unwrap_or_default();
                session.pipe.ending = match at {
                    8 => Ending::ClientTruncates,
                    9 => Ending::UpstreamTruncates,
                    10 => Ending::UpstreamAbrupt(20),
                    _ => Ending::ClientFirst,
                };
            }
        }
    }
    plan
}

fn set(session: &mut Session, set: impl FnOnce(&mut Script, &mut Client)) {
    set(&mut session.script, &mut session.client);
    // Something to get through too early.
    session.pipe.early = 20;
}

/// Every answer, and for the first ones every end.
const TLS_WAYS: usize = TlsAnswer::ALL.len() + 3;
/// Twice for each of the roles.
const GUARDED: usize = 6;
