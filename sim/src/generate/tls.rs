//! TLS for a plan that has none.
//! Changing anything here changes what every seed of its profile means.

use crate::plan::{
    ClientTls, Conduct, Cut, End, Ending, Fate, Plan, Prelude, Session, Tls, TlsAnswer, UpstreamTls,
};
use crate::rng::Rng;

impl Plan {
    /// Adds TLS to either leg, and what can go wrong with it.
    pub(super) fn add_tls(&mut self, rng: &mut Rng) {
        // What a deaf client leaves must be in a buffer.
        if self.sessions.iter().any(|session| session.pipe.ending == Ending::Deaf) {
            return;
        }
        self.daemon.tls = Tls {
            client: rng.pick(&[
                ClientTls::Off,
                ClientTls::Allow,
                ClientTls::Allow,
                ClientTls::Require,
            ]),
            upstream: rng.pick(&UpstreamTls::ALL),
            old: rng.percent(30),
        };
        // A handshake has some thousand bytes.
        self.faults.read_max = self.faults.read_max.max(16);
        self.faults.write_max = self.faults.write_max.max(16);
        let Plan { sessions, daemon, network, .. } = self;
        for session in sessions {
            if session.probe {
                let is_on = daemon.tls.client != ClientTls::Off;
                session.client.prelude = match rng.size(0..2) {
                    0 if is_on => vec![Prelude::Direct],
                    _ => vec![Prelude::Ssl],
                };
                session.client.eager &= !is_on;
            } else {
                spoil(rng, session);
            }
            if session.pipe.early + LAST_BYTES > network.window {
                session.pipe.early = 0;
                session.script.coalesced = 0;
            }
        }
    }
}

fn spoil(rng: &mut Rng, session: &mut Session) {
    let Session { client, script, pipe, .. } = session;
    if client.conduct != SSL_TWICE {
        match rng.size(0..10) {
            0..=3 => client.prelude = vec![Prelude::Ssl],
            4 => client.prelude = vec![Prelude::Gss, Prelude::Ssl],
            5..=7 => client.prelude = vec![Prelude::Direct],
            8 if rng.percent(30) => client.prelude = vec![Prelude::DirectWithoutAlpn],
            _ => {}
        }
        client.eager &= rng.percent(30);
    }
    if rng.percent(30) {
        script.tls = rng.pick(&TlsAnswer::ALL);
    }
    let mut cut = |cut: &mut Cut, most: usize| {
        if cut.at > 0 {
            cut.at = rng.size(0..most);
            cut.how = if rng.percent(20) { End::Garble } else { cut.how };
        }
    };
    if let Conduct::Cut(it) = &mut client.conduct {
        cut(it, 900);
    }
    if let Fate::Cut(it) = &mut script.fate {
        cut(it, 2_500);
    }
    if rng.percent(20) {
        pipe.ending = match pipe.ending {
            Ending::ClientFirst => Ending::ClientTruncates,
            Ending::UpstreamLast => Ending::UpstreamTruncates,
            other => other,
        };
    }
}

const SSL_TWICE: Conduct = Conduct::Bad(crate::plan::BadStart::SslTwice);

/// The last of a client's login as a record.
const LAST_BYTES: usize = 250;
