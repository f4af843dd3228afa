//! PostgreSQL's own answer to the batch, altered on its way, and poolers: no client may get through
//! to another session than it was answered for. All wrong answers there are are told to the session
//! alone, in `tests/session/wrong_answers.rs`.

use std::sync::mpsc;

use testing::{
    ACME, Daemon, ErrorFields, FakeUpstream, Message, Raw, Run, TENANTS, Tamper, cluster, contacts,
    relay, sqlstate, startup_message,
};

/// Tells the messages that answer the batch by their places from 0; those before have none.
#[derive(Default)]
struct Answer {
    greeted: bool,
    next: usize,
}

impl Answer {
    fn place(&mut self, message: &Message) -> Option<usize> {
        // PostgreSQL reports a changed parameter wherever it likes, up to 13 within the answer.
        if message.tag == b'S' {
            return None;
        }
        if !self.greeted {
            self.greeted = message.tag == b'Z';
            return None;
        }
        self.next += 1;
        Some(self.next - 1)
    }
}

/// What PostgreSQL answers to the batch, with its ReadyForQuery.
fn answer() -> Vec<Message> {
    let (sender, receiver) = mpsc::channel();
    let fake = FakeUpstream::tamper(cluster(), move || {
        let (mut answer, sender) = (Answer::default(), sender.clone());
        move |message: &Message| {
            if answer.place(message).is_some() {
                let _ = sender.send(message.clone());
            }
            Tamper::Pass
        }
    });
    let daemon = Run::upstream(fake.port()).start();
    let client = daemon.raw().login("app_user.acme", TENANTS);
    assert_eq!(client.last(), Some(&Message::ready_for_query()));
    let mut messages = Vec::new();
    while messages.last() != Some(&Message::ready_for_query()) {
        messages.push(receiver.recv().unwrap());
    }
    messages
}

/// What a client is told when this happens to the message at this place of the answer.
fn refusal_at(place: usize, change: fn(&Message) -> Tamper) -> ErrorFields {
    refusal_through(move || {
        let mut answer = Answer::default();
        move |message: &Message| {
            if answer.place(message) == Some(place) { change(message) } else { Tamper::Pass }
        }
    })
}

fn contains(message: &Message, word: &[u8]) -> bool {
    message.tag == b'D' && message.body.windows(word.len()).any(|window| window == word)
}

/// The message with each occurrence of a word replaced by another of its length.
fn with_word(message: &Message, word: &[u8], other: &[u8]) -> Tamper {
    let mut changed = message.clone();
    while let Some(at) = changed.body.windows(word.len()).position(|window| window == word) {
        changed.body[at..at + word.len()].copy_from_slice(other);
    }
    Tamper::Replace(vec![changed])
}

/// What a client is told that logs in through an upstream changed in this way.
fn refusal_through<Change>(make_change: impl Fn() -> Change + Send + Sync + 'static) -> ErrorFields
where
    Change: FnMut(&Message) -> Tamper,
{
    let fake = FakeUpstream::tamper(cluster(), make_change);
    let daemon = Run::upstream(fake.port()).start();
    let refusal = refusal_of_login(&daemon);
    daemon.wait_until_idle();
    refusal
}

/// Logs in with a query right behind; nothing but a refusal may come of it.
fn refusal_of_login(daemon: &Daemon) -> ErrorFields {
    let mut raw = daemon.raw();
    let startup = startup_message(&[("user", "app_user.acme"), ("database", TENANTS)]);
    let query = Message::query("select 'reached', name from contacts").to_bytes();
    raw.send(&[startup, query].concat());
    let refusal = raw.read_refusal();
    assert_eq!(refusal.severity, "FATAL");
    refusal
}

#[test]
fn an_untampered_upstream_lets_the_login_through() {
    let fake = FakeUpstream::tamper(cluster(), || |_: &Message| Tamper::Pass);
    let daemon = Run::upstream(fake.port()).start();
    assert_eq!(contacts(&mut daemon.connect("app_user.acme")), ACME);
}

#[test]
fn a_context_or_role_that_reads_back_differently_is_refused_in_every_row() {
    let rows = |word: &[u8]| -> Vec<usize> {
        let answer = answer();
        (0..answer.len()).filter(|place| contains(&answer[*place], word)).collect()
    };
    let contexts = rows(b"acme");
    assert!(contexts.len() >= 2, "bound, and read back: {contexts:?}");
    for place in contexts {
        let refusal = refusal_at(place, |message| with_word(message, b"acme", b"evil"));
        assert_eq!(refusal.sqlstate, "08004", "{place}: {refusal:?}");
    }
    let roles = rows(b"app_user");
    assert!(roles.len() >= 2, "bound, and read back: {roles:?}");
    for place in roles {
        let refusal = refusal_at(place, |message| with_word(message, b"app_user", b"postgres"));
        assert_eq!(refusal.sqlstate, "08004", "{place}: {refusal:?}");
    }
}

#[test]
fn a_notice_amid_the_login_reaches_the_client_and_harms_nothing() {
    for place in [None, Some(0)] {
        let fake = FakeUpstream::tamper(cluster(), move || {
            let mut answer = Answer::default();
            move |message: &Message| {
                let text = b"SNOTICE\0VNOTICE\0C00000\0Mgood morning\0\0".as_slice();
                let here = match place {
                    None => answer.place(message).is_none() && message.tag == b'K',
                    Some(_) => answer.place(message) == place,
                };
                if here {
                    Tamper::Replace(vec![Message::new(b'N', text), message.clone()])
                } else {
                    Tamper::Pass
                }
            }
        });
        let daemon = Run::upstream(fake.port()).start();
        let mut raw = daemon.raw();
        let greeting = raw.login("app_user.acme", TENANTS);
        let notices = greeting.iter().filter(|message| message.tag == b'N').count();
        assert_eq!(notices, 1, "{place:?}");
        assert_eq!(raw.query_value("select count(*)::text from contacts"), "2");
    }
}

#[test]
fn the_backend_of_a_refused_login_is_gone() {
    let fake = FakeUpstream::tamper(cluster(), || {
        |message: &Message| match message.tag {
            b'K' => Tamper::Replace(vec![Message::backend_key_data(1, *b"keys")]),
            _ => Tamper::Pass,
        }
    });
    let daemon = Run::upstream(fake.port()).start();
    let mut config = daemon.config("app_user.acme");
    let login = config.application_name("to be refused").connect(postgres::NoTls);
    assert_eq!(sqlstate(&login.err().expect("a wrong pid")), "08004");
    cluster().wait_until(
        "select not exists (select from pg_stat_activity
             where application_name = 'to be refused')",
    );
}

/// A pooler in session mode: it keeps its own keys, and refuses parameters it does not know.
fn session_pooler() -> FakeUpstream {
    let upstream = ([127, 0, 0, 1], cluster().port()).into();
    FakeUpstream::serve(move |mut client| {
        let startup = client.read_startup();
        let known = ["user", "database", "client_encoding", "application_name"];
        if let Some((name, _)) = startup.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            let text = format!("unsupported startup parameter: {name}");
            return client.send_message(&Message::error("FATAL", "08P01", &text));
        }
        let mut upstream = Raw::tcp(upstream);
        let startup: Vec<_> = startup.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        upstream.send_startup(&startup);
        relay(client, upstream, |message| match message.tag {
            b'K' => Tamper::Replace(vec![Message::backend_key_data(1, *b"keys")]),
            _ => Tamper::Pass,
        });
    })
}

#[test]
fn a_pooler_in_session_mode_works_where_the_settings_say_so() {
    let pooler = session_pooler();
    let run = Run::upstream(pooler.port()).set("upstream_pooler", "session");
    let daemon = run.start();
    let mut raw = daemon.raw();
    raw.login("app_user.acme", TENANTS);
    assert_eq!(raw.query_value("select string_agg(name, ' ') from contacts"), "Ada Alan");
    assert_eq!(raw.query_value("select current_setting('role')"), "app_user");
}

#[test]
fn behind_a_pooler_a_reset_leaves_no_tenant_rather_than_any() {
    let pooler = session_pooler();
    let run = Run::upstream(pooler.port()).set("upstream_pooler", "session");
    let daemon = run.start();
    for reset in ["discard all", "reset all"] {
        let mut raw = daemon.raw();
        raw.login("app_user.acme", TENANTS);
        raw.query(reset);
        assert_eq!(raw.query_value("select count(*)::text from contacts"), "0", "{reset}");
    }
}

#[test]
fn a_pooler_is_refused_where_the_settings_do_not_allow_one() {
    let pooler = session_pooler();
    let daemon = Run::upstream(pooler.port()).start();
    let mut raw = daemon.raw();
    raw.send_startup(&[("user", "app_user.acme"), ("database", TENANTS)]);
    let refusal = raw.read_refusal();
    assert_eq!(refusal.severity, "FATAL", "{refusal:?}");
}
