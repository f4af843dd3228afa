//! What must be true after every attack.

use testing::{Daemon, ErrorFields, FakeUpstream, Raw, Run, TENANTS, swallow};

use crate::packets::messages;

/// A good login is served with its own rows, and nothing is left of anybody.
pub(crate) fn assert_serves(daemon: &Daemon) {
    let mut raw = daemon.raw();
    raw.login("app_user.acme", TENANTS);
    assert_eq!(raw.query_value("select string_agg(name, ' ') from contacts"), "Ada Alan");
    drop(raw);
    daemon.wait_until_idle();
}

/// Reads all that comes: one FATAL ErrorResponse with one of these SQLSTATEs, and the end. A reset
/// is no end: it may destroy what was said before it.
pub(crate) fn refused(raw: &mut Raw, sqlstates: &[&str]) -> ErrorFields {
    let said = messages(&raw.read_to_close());
    assert_eq!(said.iter().map(|message| message.tag).collect::<Vec<_>>(), b"E", "{said:?}");
    let fields = said[0].error_fields();
    assert_eq!(fields.severity, "FATAL", "{fields:?}");
    assert!(sqlstates.contains(&fields.sqlstate.as_str()), "not {sqlstates:?}: {fields:?}");
    fields
}

/// What the daemon answers to these bytes, all sent at once.
pub(crate) fn refusal_of(daemon: &Daemon, bytes: &[u8], sqlstate: &str) -> ErrorFields {
    let mut raw = daemon.raw();
    raw.send(bytes);
    refused(&mut raw, &[sqlstate])
}

/// A daemon with an upstream that no attack may reach.
pub(crate) struct Unreached {
    pub(crate) daemon: Daemon,
    fake: FakeUpstream,
}

impl Unreached {
    pub(crate) fn start() -> Unreached {
        Unreached::with(&[])
    }

    pub(crate) fn with(settings: &[(&str, &str)]) -> Unreached {
        let fake = FakeUpstream::serve(|mut raw| swallow(&mut raw));
        let run = Run::upstream(fake.port());
        let run = settings.iter().fold(run, |run, (key, value)| run.set(key, value));
        Unreached { daemon: run.start(), fake }
    }

    /// Sends the bytes; exactly this refusal, and no connection upstream, may come of it.
    pub(crate) fn refuses(&self, bytes: &[u8], sqlstate: &str) -> ErrorFields {
        refusal_of(&self.daemon, bytes, sqlstate)
    }

    /// Sends the bytes; the connection is closed without a word, and the log says why.
    pub(crate) fn closes(&self, bytes: &[u8], why: &str) {
        let mut raw = self.daemon.raw();
        let peer = format!("refused client={} ", raw.local_address());
        raw.send(bytes);
        assert_eq!(raw.read_to_close(), b"", "nothing is said to {bytes:?}");
        let line = self.daemon.wait_for_log(&peer);
        assert!(line.contains(why), "{line}");
    }

    /// Nobody was dialled, and nothing is left.
    pub(crate) fn assert_untouched(&self) {
        self.daemon.wait_until_idle();
        assert_eq!(self.fake.accepted(), 0, "upstream was dialled");
    }
}
