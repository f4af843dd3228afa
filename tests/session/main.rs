//! Stories of the login, told to the state machine alone, each at every chunk size.
//! Messages are built here by hand, so that an error of the codec's is not believed twice.

mod batch;
mod bypass;
mod first_packets;
mod guarded;
mod notices_and_errors;
mod room;
mod scram;
mod sealed;
mod short_batch;
mod texts;
mod tls;
mod user_names;
mod wrong_answers;

use multigres::refusal::Fault;
use multigres::session::{Auth, Outcome, Stage};
use testing::session::{Cast, Play, at_every_chunk_size, message, startup, startup_of};

/// Must never come out of the client leg before the context is bound.
const CANARY: &[u8] = b"\xf0canary";

fn text(parts: &[&str]) -> Vec<u8> {
    parts.iter().flat_map(|part| [part.as_bytes(), b"\0"].concat()).collect()
}

fn authentication(code: u32, data: &[u8]) -> Vec<u8> {
    message(b'R', &[&code.to_be_bytes()[..], data].concat())
}

fn ok() -> Vec<u8> {
    authentication(0, b"")
}

fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

fn key(pid: u32) -> Vec<u8> {
    message(b'K', &[&pid.to_be_bytes()[..], &[9, 9, 9, 9]].concat())
}

fn parameter(name: &str, value: &str) -> Vec<u8> {
    message(b'S', &text(&[name, value]))
}

fn error(sqlstate: &str, canary: &[u8]) -> Vec<u8> {
    let fields = [b"SFATAL\0C", sqlstate.as_bytes(), b"\0M", canary, b"\0\0"].concat();
    message(b'E', &fields)
}

fn row(columns: &[Option<&str>]) -> Vec<u8> {
    let mut body = (columns.len() as u16).to_be_bytes().to_vec();
    for column in columns {
        match column {
            None => body.extend((-1i32).to_be_bytes()),
            Some(value) => {
                body.extend((value.len() as u32).to_be_bytes());
                body.extend(value.as_bytes());
            }
        }
    }
    message(b'D', &body)
}

fn selected() -> Vec<u8> {
    message(b'C', b"SELECT 1\0")
}

/// What upstream says from AuthenticationOk to its first ReadyForQuery.
fn start() -> Vec<u8> {
    [ok(), parameter("is_superuser", "off"), parameter("server_version", "15"), key(42), ready()]
        .concat()
}

/// The right answer to the batch for app_user.acme, message by message.
fn answer() -> Vec<Vec<u8>> {
    let statement = |columns: &[Option<&str>]| {
        [message(b'1', b""), message(b'2', b""), row(columns), selected()]
    };
    let mut messages = Vec::new();
    messages.extend(statement(&[Some("acme")]));
    messages.extend(statement(&[Some("acme"), Some("app_user")]));
    messages.extend(statement(&[
        Some("acme"),
        Some("app_user"),
        Some("app_user"),
        Some("0"),
        Some("42"),
        Some("0"),
    ]));
    messages.push(message(b'3', b""));
    messages.push(ready());
    messages
}

fn acme(cast: Cast) -> Play {
    let mut play = Play::new(cast);
    play.client(&startup(&[("user", "app_user.acme"), ("database", "crm")]));
    play
}

#[test]
fn the_context_is_bound_before_anything_is_let_through() {
    at_every_chunk_size(|cast| {
        let mut play = acme(cast);
        let sent = startup_of(&play.take_to_upstream());
        let expected = [
            ("user", "app_user"),
            ("database", "crm"),
            ("app.current_tenant_id", "acme"),
            ("role", "app_user"),
        ];
        assert_eq!(sent, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        play.upstream(&start());
        assert_eq!(play.take_to_client(), b"", "upstream's start is held");
        let batch = play.take_to_upstream();
        assert!(batch.starts_with(b"P") && batch.ends_with(&message(b'S', b"")));
        let answer = answer();
        for message in &answer[..answer.len() - 1] {
            play.upstream(message);
            assert_eq!(play.take_to_client(), b"");
        }
        assert_eq!(play.stage(), Stage::Login);
        play.upstream(answer.last().unwrap());
        assert_eq!(play.stage(), Stage::Piping);
        assert_eq!(play.take_to_client(), start(), "once, and unaltered");
        assert_eq!((play.sealed(), play.guard()), (None, None), "neither was asked for");
        assert_eq!(play.take_to_upstream(), b"");
    });
}

#[test]
fn client_bytes_wait_until_the_context_is_bound() {
    at_every_chunk_size(|cast| {
        let mut play = acme(cast);
        play.take_to_upstream();
        let early = message(b'Q', b"select 1\0");
        play.client(&early);
        play.upstream(&start());
        assert!(!contains(&play.take_to_upstream(), b"select 1"));
        play.upstream(&answer()[..13].concat());
        assert_eq!(play.take_to_upstream(), b"");
        play.upstream(&ready());
        assert_eq!(play.take_to_upstream(), early);
    });
}

#[test]
fn what_the_client_says_before_a_reply_is_owed_stays_out_of_authentication() {
    at_every_chunk_size(|cast| {
        let mut play = acme(cast);
        play.take_to_upstream();
        play.client(&message(b'Q', b"select 1\0"));
        play.upstream(&authentication(3, b""));
        play.expect_refusal("08P01");
        assert!(!contains(&play.take_to_upstream(), b"select"));
    });
}

#[test]
fn any_other_answer_to_the_batch_refuses_the_login() {
    let right = answer();
    let mut wrong: Vec<(&str, Vec<Vec<u8>>)> = Vec::new();
    let mut replace = |what, at: usize, with: Vec<u8>| {
        let mut messages = right.clone();
        messages[at] = with;
        wrong.push((what, messages));
    };
    replace("another default", 2, row(&[Some("globex")]));
    replace("no default", 2, row(&[None]));
    replace("an empty default", 2, row(&[Some("")]));
    replace("another value set", 6, row(&[Some("globex"), Some("app_user")]));
    replace("another role set", 6, row(&[Some("acme"), Some("none")]));
    replace("a column too few", 6, row(&[Some("acme")]));
    replace("another value read", 10, session_row("globex", "app_user", Some("0"), "42"));
    replace(
        "a value that only begins right",
        10,
        session_row("acme2", "app_user", Some("0"), "42"),
    );
    replace("another user", 10, session_row("acme", "postgres", Some("0"), "42"));
    replace("a privileged role", 10, session_row("acme", "app_user", Some("1"), "42"));
    replace("a privilege that is not known", 10, session_row("acme", "app_user", None, "42"));
    replace("another backend", 10, session_row("acme", "app_user", Some("0"), "43"));
    let user = Some("app_user");
    let other_session = [Some("acme"), user, Some("postgres"), Some("0"), Some("42"), Some("0")];
    replace("another session user", 10, row(&other_session));
    let too_many = [Some("acme"), Some("x"), user, user, Some("0"), Some("42"), Some("0")];
    replace("a column too many", 10, row(&too_many));
    replace("a row that lies about its columns", 10, message(b'D', &[0, 9, 0, 0]));
    replace("no row", 10, selected());
    replace("two rows", 11, session_row("acme", "app_user", Some("0"), "42"));
    replace("another tag", 11, message(b'C', b"SELECT 2\0"));
    replace("an empty query", 11, message(b'I', b""));
    replace("an error", 5, error("42501", CANARY));
    replace("copy", 5, message(b'G', &[0, 0, 0]));
    replace("a suspended portal", 11, message(b's', b""));
    replace("no CloseComplete", 12, ready());
    replace("a transaction", 13, message(b'Z', b"T"));
    replace("a failed transaction", 13, message(b'Z', b"E"));
    replace("no status", 13, message(b'Z', b""));
    replace("superuser after all", 13, parameter("is_superuser", "on"));
    for (what, messages) in &wrong {
        at_every_chunk_size(|cast| {
            let mut play = acme(cast);
            play.client(&message(b'Q', b"select secret\0"));
            play.upstream(&start());
            play.upstream(&messages.concat());
            let refused = play.expect_refusal_of(&["08004", "08P01", "28000"]);
            assert!(!contains(&refused, CANARY), "{what}");
            let upstream = play.take_to_upstream();
            assert!(!contains(&upstream, b"secret"), "{what}");
            assert!(upstream.ends_with(&message(b'X', b"")), "{what}: upstream is told to end");
        });
    }
}

fn session_row(value: &str, user: &str, privileged: Option<&str>, pid: &str) -> Vec<u8> {
    row(&[Some(value), Some(user), Some("app_user"), privileged, Some(pid), Some("0")])
}

#[test]
fn upstream_that_ends_anywhere_in_the_login_is_told_to_the_client() {
    let whole = [start(), answer().concat()].concat();
    for cut in 0..whole.len() {
        let mut play = acme(Cast::whole());
        play.upstream(&whole[..cut]);
        play.upstream_ends();
        play.expect_refusal("08006");
    }
}

#[test]
fn an_error_of_upstreams_own_is_passed_on_alone() {
    let stories: [Vec<u8>; 4] = [
        vec![],
        ok(),
        [ok(), parameter("server_version", "15"), key(42)].concat(),
        message(b'v', &[0, 3, 0, 0, 0, 0, 0, 0]),
    ];
    for before in stories {
        at_every_chunk_size(|cast| {
            let mut play = acme(cast);
            play.upstream(&before);
            let negotiated = play.take_to_client();
            assert!(negotiated.is_empty() || negotiated == before);
            play.upstream(&error("3D000", b"database \"crm\" does not exist"));
            assert_eq!(play.stage(), Stage::Refusing);
            assert_eq!(play.take_to_client(), error("3D000", b"database \"crm\" does not exist"));
            let Some(Outcome::RefusedByUpstream { sqlstate, .. }) = play.outcome() else {
                panic!()
            };
            assert_eq!(sqlstate, "3D000");
        });
    }
}

#[test]
fn a_superuser_is_refused_as_soon_as_upstream_says_that_it_is_one() {
    at_every_chunk_size(|cast| {
        let mut play = acme(cast);
        play.upstream(&[ok(), parameter("is_superuser", "on")].concat());
        play.expect_refusal("28000");
    });
}

#[test]
fn scram_is_relayed_one_message_at_a_time() {
    at_every_chunk_size(|cast| {
        let mut play = acme(cast);
        play.take_to_upstream();
        let mechanisms = authentication(10, &text(&["SCRAM-SHA-256", ""]));
        play.upstream(&mechanisms);
        assert_eq!(play.take_to_client(), mechanisms);
        let first = message(b'p', b"SCRAM-SHA-256\0\0\0\0\x08n,,n=,r=");
        let early = message(b'p', b"not asked for");
        play.client(&first);
        play.client(&early);
        assert_eq!(play.take_to_upstream(), first, "one reply for one request");
        let challenge = authentication(11, b"r=abc,s=c2FsdA==,i=4096");
        play.upstream(&challenge);
        assert_eq!(play.take_to_client(), challenge);
        assert_eq!(play.take_to_upstream(), early);
        let last = authentication(12, b"v=proof");
        play.upstream(&last);
        assert_eq!(play.take_to_client(), last);
        play.upstream(&start());
        assert_eq!(play.take_to_client(), b"");
        play.upstream(&answer().concat());
        assert_eq!(play.stage(), Stage::Piping);
    });
}

#[test]
fn md5_is_answered_with_a_password_that_is_asked_for() {
    at_every_chunk_size(|cast| {
        let mut play = acme(cast);
        play.take_to_upstream();
        play.upstream(&authentication(5, &[1, 2, 3, 4]));
        assert_eq!(play.take_to_client(), authentication(3, b""));
        play.client(&message(b'p', b"secret\0"));
        // By md5sum(1): the hash of that of "secretapp_user", in hex, and the salt.
        let hash = message(b'p', b"md57108ce503126484fb3805f960107efa4\0");
        assert_eq!(play.take_to_upstream(), hash);
        play.upstream(&start());
        play.upstream(&answer().concat());
        assert_eq!(play.stage(), Stage::Piping);
    });
}

#[test]
fn md5_cannot_be_relayed_for_a_tenant_and_can_for_a_bypass_user() {
    let mut play = acme(Cast::whole().auth(Auth::Relay));
    play.upstream(&authentication(5, &[1, 2, 3, 4]));
    play.expect_refusal("28000");
    let mut play = Play::new(Cast::whole().auth(Auth::Relay));
    play.client(&startup(&[("user", "postgres")]));
    play.upstream(&authentication(5, &[1, 2, 3, 4]));
    assert_eq!(play.take_to_client(), authentication(5, &[1, 2, 3, 4]));
}

#[test]
fn a_password_is_asked_for_only_where_nobody_listens() {
    let mut play = acme(Cast::whole().public());
    play.upstream(&authentication(5, &[1, 2, 3, 4]));
    play.expect_refusal("28000");
    let mut play = acme(Cast::whole().public().cleartext_allowed());
    play.upstream(&authentication(5, &[1, 2, 3, 4]));
    assert_eq!(play.take_to_client(), authentication(3, b""));
}

#[test]
fn in_password_mode_no_mechanism_but_scram_is_answered() {
    let mut play = acme(Cast::whole().auth(Auth::Password));
    play.upstream(&authentication(10, &text(&["OAUTHBEARER", ""])));
    play.expect_refusal("28000");
}

#[test]
fn in_password_mode_upstream_must_prove_itself() {
    for instead in [ok(), authentication(12, b"v=AAAA"), authentication(11, b"r=other,s=eA==,i=1")]
    {
        at_every_chunk_size(|cast| {
            let mut play = acme(cast.auth(Auth::Password));
            play.take_to_upstream();
            play.upstream(&authentication(10, &text(&["SCRAM-SHA-256", ""])));
            assert_eq!(play.take_to_client(), authentication(3, b""));
            play.client(&message(b'p', b"secret\0"));
            assert!(play.take_to_upstream().starts_with(b"p"));
            play.upstream(&instead);
            play.expect_refusal_of(&["28000", "08P01"]);
        });
    }
}

#[test]
fn a_bypass_user_passes_untouched() {
    at_every_chunk_size(|cast| {
        let mut play = Play::new(cast);
        let sent = startup(&[("user", "postgres"), ("replication", "database"), ("role", "x")]);
        play.client(&sent);
        assert_eq!(play.take_to_upstream(), sent);
        let said = [start(), error("57P01", CANARY)].concat();
        play.upstream(&said);
        assert_eq!(play.stage(), Stage::Piping);
        assert_eq!(play.take_to_client(), said);
    });
}

#[test]
fn encryption_is_declined_once_each_in_either_order() {
    let ssl: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];
    let gss: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 48];
    for order in [[ssl, gss], [gss, ssl]] {
        at_every_chunk_size(|cast| {
            let mut play = Play::new(cast);
            play.client(&order.concat());
            assert_eq!(play.take_to_client(), b"NN");
            play.client(&startup(&[("user", "app_user.acme")]));
            assert!(!play.take_to_upstream().is_empty());
        });
    }
    for twice in [ssl, gss] {
        let mut play = Play::new(Cast::whole());
        play.client(&[twice, twice].concat());
        assert_eq!(play.take_to_client()[0], b'N');
        assert_eq!(play.stage(), Stage::Refusing);
    }
}

#[test]
fn a_cancel_request_is_passed_byte_for_byte() {
    for key_bytes in [4usize, 32, 256] {
        at_every_chunk_size(|cast| {
            let mut request = (12 + key_bytes as u32).to_be_bytes().to_vec();
            request.extend([4, 210, 22, 46, 0, 0, 0, 42]);
            request.extend(vec![7; key_bytes]);
            let mut play = Play::new(cast);
            play.client(&request);
            assert_eq!(play.stage(), Stage::Cancelling);
            assert_eq!(play.take_to_upstream(), request);
            play.client_ends();
            assert_eq!(play.stage(), Stage::Cancelling, "a client need not wait");
            play.upstream_ends();
            assert_eq!(play.outcome(), Some(&Outcome::Cancelled));
            assert_eq!(play.take_to_client(), b"", "nothing is ever answered");
        });
    }
}

#[test]
fn behind_a_pooler_the_batch_alone_binds() {
    at_every_chunk_size(|cast| {
        let mut play = acme(cast.pooler());
        let sent = startup_of(&play.take_to_upstream());
        assert_eq!(sent.len(), 2, "no parameter that a pooler would refuse: {sent:?}");
        play.upstream(&[ok(), ready()].concat());
        play.upstream(&answer()[4..].concat());
        assert_eq!(play.stage(), Stage::Piping);
    });
    let mut play = Play::new(Cast::whole().pooler());
    let options = ("options", "-c app.current_tenant_id=globex");
    play.client(&startup(&[("user", "app_user.acme"), options]));
    play.expect_refusal("22023");
}

#[test]
fn a_client_that_leaves_is_not_spoken_to() {
    let mut play = Play::new(Cast::whole());
    play.client(&[0, 0]);
    play.client_ends();
    assert_eq!(play.stage(), Stage::Ended);
    let mut play = acme(Cast::whole());
    play.upstream(&authentication(3, b""));
    play.take_to_client();
    play.client_ends();
    assert_eq!(play.outcome(), Some(&Outcome::ClientLeft));
    assert_eq!(play.take_to_client(), b"");
}

#[test]
fn a_client_that_is_gone_leaves_no_session_behind() {
    for before in [vec![], ok(), start()] {
        let mut play = acme(Cast::whole());
        play.upstream(&before);
        play.client_ends();
        assert_eq!(play.outcome(), Some(&Outcome::ClientLeft), "it has nothing to say");
        let mut play = acme(Cast::whole());
        play.client(&message(b'Q', b"delete from t\0"));
        play.upstream(&before);
        play.client_fails();
        assert_eq!(play.outcome(), Some(&Outcome::ClientLeft), "it cannot hear");
    }
}

#[test]
fn a_login_that_takes_too_long_is_the_fault_of_whoever_was_waited_for() {
    let stories: [(Vec<u8>, Fault); 3] = [
        (vec![], Fault::Upstream),
        (authentication(3, b""), Fault::Client),
        (start(), Fault::Upstream),
    ];
    for (before, fault) in stories {
        let mut play = acme(Cast::whole());
        play.upstream(&before);
        play.times_out();
        play.expect_refusal("57014");
        let Some(Outcome::Refused(refusal)) = play.outcome() else { panic!() };
        assert_eq!(refusal.fault, fault);
    }
}

#[test]
fn a_client_that_has_said_all_and_only_listens_gets_its_session() {
    at_every_chunk_size(|cast| {
        let mut play = acme(cast);
        let early = [message(b'Q', b"select 1\0"), message(b'X', b"")].concat();
        play.client(&early);
        play.client_ends();
        play.take_to_upstream();
        play.upstream(&start());
        play.take_to_upstream();
        play.upstream(&answer().concat());
        assert_eq!(play.stage(), Stage::Piping);
        assert_eq!(play.take_to_upstream(), early);
    });
}

#[test]
fn upstream_cannot_make_the_session_keep_what_it_says_without_end() {
    let mut play = acme(Cast::whole());
    play.upstream(&ok());
    let status = parameter("x", &"y".repeat(60_000));
    for _ in 0..8 {
        if play.stage() == Stage::Login {
            play.upstream(&status);
        }
    }
    play.expect_refusal("08P01");
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
