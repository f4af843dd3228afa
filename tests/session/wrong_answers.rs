//! An upstream that answers wrongly at any message of the login: every message forged, left out,
//! said twice, cut short, or with another in front of it. Knows nothing of what makes it do so.

use std::cell::Cell;

use multigres::session::{Outcome, Stage};
use multigres::tenant::{GuardDemand, SealBind};

use testing::session::{Cast, Play, at_some_chunk_sizes, message, startup};

use crate::sealed::{AT_54321, sealed_answer};
use crate::{
    CANARY, acme, answer, authentication, contains, error, key, ok, parameter, ready, row,
};

/// An honest login, message by message, from AuthenticationOk to the second ReadyForQuery.
struct Honest {
    cast: Cast,
    messages: Vec<Vec<u8>>,
}

/// Where the answer to the batch begins, behind the first ReadyForQuery.
const BATCH: usize = 5;

impl Honest {
    /// Logins whose batches ask for a different number of columns.
    fn all(cast: Cast) -> [Honest; 3] {
        let mut guarded = answer();
        let user = Some("app_user");
        let session = [Some("acme"), user, user, Some("0"), Some("42"), Some("0"), Some("held")];
        guarded[10] = row(&session);
        [
            (cast, answer()),
            (cast.sealed(SealBind::Address), sealed_answer(AT_54321)),
            (cast.guarded(GuardDemand::Prefer), guarded),
        ]
        .map(|(cast, answer)| {
            let server_version = parameter("server_version", "15");
            let start = [ok(), parameter("is_superuser", "off"), server_version, key(42), ready()];
            Honest { cast, messages: start.into_iter().chain(answer).collect() }
        })
    }

    fn places(&self) -> std::ops::Range<usize> {
        0..self.messages.len()
    }

    /// Places in the answer to the batch.
    fn batch(&self) -> std::ops::Range<usize> {
        BATCH..self.messages.len()
    }

    /// A login with a query right behind it, in which this comes in place of the message there.
    fn with(&self, place: usize, instead: &[u8]) -> Play {
        let mut play = acme(self.cast);
        play.client(&message(b'Q', b"select secret\0"));
        for (at, message) in self.messages.iter().enumerate() {
            play.upstream(if at == place { instead } else { message });
        }
        play
    }

    /// Such a login is refused; neither side hears what is not for it.
    fn refuses(&self, place: usize, instead: &[u8], sqlstates: &[&str], what: &str) -> Vec<u8> {
        let what = format!("{what} at message {place}");
        let mut play = self.with(place, instead);
        assert_eq!(play.stage(), Stage::Refusing, "{what}");
        let said = play.expect_refusal_of(sqlstates);
        assert!(!contains(&said, CANARY), "{what}: {}", said.escape_ascii());
        let sent = play.take_to_upstream();
        assert!(!contains(&sent, b"secret"), "{what}: {}", sent.escape_ascii());
        let is_told_to_end = sent.ends_with(&message(b'X', b""));
        assert!(is_told_to_end || place < BATCH, "{what}: {}", sent.escape_ascii());
        said
    }
}

/// Tells the story of each honest login.
fn of_each(story: impl Fn(&Honest)) {
    at_some_chunk_sizes(|cast| Honest::all(cast).iter().for_each(&story));
}

const WRONG: &[&str] = &["08004", "08P01"];

#[test]
fn an_honest_upstream_is_believed() {
    of_each(|honest| {
        let mut play = honest.with(usize::MAX, b"");
        assert_eq!(play.stage(), Stage::Piping);
        assert_eq!(play.take_to_client(), honest.messages[..BATCH].concat());
        assert!(play.take_to_upstream().ends_with(&message(b'Q', b"select secret\0")));
    });
}

#[test]
fn a_message_of_the_answer_that_is_left_out_is_refused() {
    of_each(|honest| {
        let last = honest.messages.len() - 1;
        for place in BATCH..last {
            honest.refuses(place, b"", WRONG, "left out");
        }
        let mut play = honest.with(last, b"");
        assert_eq!(play.take_to_client(), b"", "it is waited for");
        play.times_out();
        play.expect_refusal("57014");
        assert!(!contains(&play.take_to_upstream(), b"secret"));
    });
}

#[test]
fn a_message_that_comes_twice_is_refused() {
    of_each(|honest| {
        // Twice a ParameterStatus is two; what comes behind the last message is for the client.
        let may_repeat = [1, 2, honest.messages.len() - 1];
        for place in honest.places().filter(|place| !may_repeat.contains(place)) {
            let twice = honest.messages[place].repeat(2);
            honest.refuses(place, &twice, WRONG, "said twice");
        }
    });
}

#[test]
fn an_error_in_the_answer_is_refused_in_the_daemons_own_words() {
    of_each(|honest| {
        for place in honest.batch() {
            honest.refuses(place, &error("42501", CANARY), &["08004"], "an error");
        }
    });
}

#[test]
fn an_error_before_the_batch_is_upstreams_own_and_the_last() {
    of_each(|honest| {
        for place in 0..BATCH {
            let error = error("42704", b"as it was said");
            let behind = message(b'N', &[b"SNOTICE\0M", CANARY, b"\0\0"].concat());
            let mut play = honest.with(place, &[error.clone(), behind].concat());
            assert_eq!(play.take_to_client(), error, "{place}");
            let Some(Outcome::RefusedByUpstream { sqlstate, .. }) = play.outcome() else {
                panic!("{place}: {:?}", play.outcome())
            };
            assert_eq!(sqlstate, "42704");
        }
    });
}

/// What a client would be left to make sense of: an ErrorResponse without the fields that the
/// manual promises, or that is not made of fields.
#[test]
fn an_error_that_is_not_well_formed_is_never_passed_on() {
    let mut bodies: Vec<Vec<u8>> = [
        &b""[..],
        b"\0",
        b"S",
        b"SFATAL\0C42704\0Mx\0",
        b"SFATAL\0C42704\0Mx",
        b"SFATAL\0C42704\0Mx\0\0\0",
        b"SFATAL\0C42704\0Mx\0\0Hx\0\0",
        b"C42704\0Mx\0\0",
        b"SFATAL\0Mx\0\0",
        b"SFATAL\0C42704\0\0",
        b"S\0C42704\0Mx\0\0",
        b"SFATAL\0C\0Mx\0\0",
        b"SFATAL\0C4270\0Mx\0\0",
        b"SFATAL\0C427040\0Mx\0\0",
        b"SFATAL\0C4270\n\0Mx\0\0",
        b"SFATAL\0C4270\xc3\0Mx\0\0",
        b"SFATAL\0C42704\0Mx\0C4\0\0",
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    bodies.iter_mut().for_each(|body| {
        if let Some(at) = body.iter().position(|byte| *byte == b'x') {
            body.splice(at..=at, CANARY.to_vec());
        }
    });
    of_each(|honest| {
        for body in &bodies {
            let what = format!("{}", body.escape_ascii());
            for place in honest.places() {
                honest.refuses(place, &message(b'E', body), &["08P01"], &what);
            }
        }
    });
    at_some_chunk_sizes(|cast| {
        for body in &bodies {
            for before in [vec![], authentication(3, b""), authentication(10, b"SCRAM-SHA-256\0\0")]
            {
                let mut play = acme(cast);
                play.upstream(&[before, message(b'E', body)].concat());
                assert!(!contains(&play.expect_refusal("08P01"), CANARY));
            }
            let mut play = Play::new(cast);
            play.client(&startup(&[("user", "postgres")]));
            play.upstream(&message(b'E', body));
            assert!(!contains(&play.expect_refusal("08P01"), CANARY));
        }
    });
}

/// Whatever else PostgreSQL may say in a session, and what it never says.
#[test]
fn a_message_that_was_not_asked_for_is_refused_in_any_place() {
    let mut strays: Vec<Vec<u8>> =
        b"GHWdTAVnsItc~\0".iter().map(|tag| message(*tag, CANARY)).collect();
    strays.extend([ready(), message(b'G', &[0, 0, 0]), authentication(99, b"")]);
    of_each(|honest| {
        for place in honest.places() {
            // Behind the last message the client hears whatever upstream says.
            let stands = &honest.messages[place];
            let last = place + 1 == honest.messages.len();
            for stray in strays.iter().filter(|stray| !last || *stray != stands) {
                let instead = [&stray[..], stands].concat();
                let what = format!("{}, then its own", stray.escape_ascii());
                honest.refuses(place, &instead, WRONG, &what);
            }
        }
        for place in honest.batch() {
            honest.refuses(place, &[ok(), honest.messages[place].clone()].concat(), WRONG, "ok");
        }
    });
}

#[test]
fn a_length_that_cannot_be_is_refused_at_once_in_any_place() {
    of_each(|honest| {
        for (place, length) in
            honest.places().flat_map(|place| [0, 3, i32::MAX as u32, u32::MAX].map(|l| (place, l)))
        {
            let mut play = acme(honest.cast);
            play.upstream(&honest.messages[..place].concat());
            play.take_to_client();
            let tag = honest.messages[place][0];
            play.upstream(&[&[tag], &length.to_be_bytes()[..], CANARY].concat());
            assert!(!contains(&play.expect_refusal("08P01"), CANARY));
        }
    });
}

#[test]
fn what_upstream_says_before_a_refusal_is_heard_by_nobody() {
    of_each(|honest| {
        let mut play = acme(honest.cast);
        for (place, honest) in honest.messages.iter().enumerate() {
            if place > 0 {
                play.upstream(&message(b'N', &[b"SNOTICE\0M", CANARY, b"\0\0"].concat()));
                play.upstream(&message(b'S', &[CANARY, b"\0", CANARY, b"\0"].concat()));
            }
            play.upstream(if honest[0] == b'K' { &[] } else { honest });
        }
        assert!(!contains(&play.expect_refusal("08004"), CANARY));
    });
}

#[test]
fn a_forged_message_is_refused_wherever_it_stands() {
    for (what, forge) in FORGERIES {
        let forged = Cell::new(0);
        of_each(|honest| {
            for place in honest.places() {
                if let Some(instead) = forge(&honest.messages[place]) {
                    honest.refuses(place, &instead, WRONG, what);
                    forged.set(forged.get() + 1);
                }
            }
        });
        assert!(forged.get() > 0, "{what}");
    }
}

/// The same message, and not the truth; `None` where there is nothing to forge.
type Forge = fn(&[u8]) -> Option<Vec<u8>>;

const FORGERIES: [(&str, Forge); 24] = [
    ("another value", |it| columns(it, replacing("acme", "globex"))),
    ("a prefix of the value", |it| columns(it, replacing("acme", "acm"))),
    ("the value and more", |it| columns(it, replacing("acme", "acme "))),
    ("another role", |it| columns(it, replacing("app_user", "postgres"))),
    ("another seal", |it| columns(it, replacing(AT_54321, &"0".repeat(64)))),
    ("NULL in the first column", |it| columns(it, |values| values[0] = None)),
    ("NULL in the last column but one", |it| {
        columns(it, |values| *values.iter_mut().rev().nth(1).unwrap_or(&mut None) = None)
            .filter(|_| body(it)[1] > 1)
    }),
    ("nothing but NULL", |it| columns(it, |values| values.fill(None))),
    ("empty text in the first column", |it| columns(it, |values| values[0] = Some(String::new()))),
    ("one column more", |it| columns(it, |values| values.push(Some("acme".into())))),
    ("one column less", |it| columns(it, |values| drop(values.pop()))),
    ("no columns", |it| columns(it, Vec::clear)),
    ("columns in another order", |it| {
        columns(it, |values| values.rotate_left(1)).filter(|_| body(it)[1] > 1)
    }),
    ("more columns than there are", |it| with_body(it, b'D', &[b"\x7f\xff", behind_count(it)])),
    ("a negative count of columns", |it| with_body(it, b'D', &[b"\xff\xff", behind_count(it)])),
    ("a column beyond the end", |it| with_body(it, b'D', &[b"\0\x01\x7f\xff\xff\xffacme"])),
    ("a column of a negative length", |it| with_body(it, b'D', &[b"\0\x01\xff\xff\xff\xfeacme"])),
    ("another command", |it| with_body(it, b'C', &[b"SELECT 2\0"])),
    ("no row by the command's word", |it| with_body(it, b'C', &[b"SELECT 0\0"])),
    ("a command without its NUL", |it| with_body(it, b'C', &[b"SELECT 1"])),
    ("a transaction", |it| with_body(it, b'Z', &[b"T"])),
    ("a failed transaction", |it| with_body(it, b'Z', &[b"E"])),
    ("readiness of two bytes", |it| with_body(it, b'Z', &[b"II"])),
    ("readiness of none", |it| with_body(it, b'Z', &[b""])),
];

fn body(message: &[u8]) -> &[u8] {
    &message[5..]
}

/// The columns of a row.
fn behind_count(message: &[u8]) -> &[u8] {
    body(message).get(2..).unwrap_or_default()
}

/// A message of this tag, with another body.
fn with_body(message_: &[u8], tag: u8, parts: &[&[u8]]) -> Option<Vec<u8>> {
    (message_[0] == tag).then(|| message(tag, &parts.concat()))
}

/// A row, with its columns changed; `None` where that changes nothing.
fn columns(message: &[u8], change: impl FnOnce(&mut Vec<Option<String>>)) -> Option<Vec<u8>> {
    if message[0] != b'D' {
        return None;
    }
    let (mut values, mut rest) = (Vec::new(), &body(message)[2..]);
    while let Some((length, behind)) = rest.split_first_chunk() {
        let length = i32::from_be_bytes(*length);
        let (value, behind) = behind.split_at(usize::try_from(length).unwrap_or(0));
        values.push((length >= 0).then(|| String::from_utf8(value.to_vec()).unwrap()));
        rest = behind;
    }
    change(&mut values);
    let values: Vec<Option<&str>> = values.iter().map(Option::as_deref).collect();
    Some(row(&values)).filter(|changed| changed != message)
}

fn replacing(word: &str, other: &str) -> impl FnOnce(&mut Vec<Option<String>>) {
    move |values| {
        for value in values.iter_mut().flatten().filter(|value| *value == word) {
            *value = other.to_owned();
        }
    }
}

#[test]
fn a_false_greeting_is_refused() {
    let status = parameter("is_superuser", "on");
    let bad_key =
        |bytes: usize| message(b'K', &[&42u32.to_be_bytes()[..], &vec![7; bytes]].concat());
    let canary = message(b'S', CANARY);
    let greetings: [(&str, usize, Vec<u8>, &str); 14] = [
        ("no BackendKeyData", 3, vec![], "08004"),
        ("BackendKeyData twice", 3, key(42).repeat(2), "08P01"),
        ("another process", 3, key(1), "08004"),
        ("a key of three bytes", 3, bad_key(3), "08P01"),
        ("a key of 257 bytes", 3, bad_key(257), "08P01"),
        ("a superuser", 1, status.clone(), "28000"),
        ("a superuser by the way", 6, [status, answer().remove(1)].concat(), "28000"),
        ("a ParameterStatus that is none", 2, canary, "08P01"),
        ("AuthenticationOk twice", 0, ok().repeat(2), "08P01"),
        ("a request behind AuthenticationOk", 0, [ok(), authentication(3, b"")].concat(), "08P01"),
        ("an Authentication of no code", 0, message(b'R', &[0, 0]), "08P01"),
        ("an Authentication of an unknown code", 0, authentication(99, b""), "08P01"),
        ("readiness twice before the batch", 4, ready().repeat(2), "08004"),
        ("nothing but readiness", 0, ready(), "08P01"),
    ];
    of_each(|honest| {
        for (what, place, instead, sqlstate) in &greetings {
            let said = honest.refuses(*place, instead, &[sqlstate, "08P01"], what);
            if *what == "another process" {
                assert!(contains(&said, b"pooler"), "{}", said.escape_ascii());
            }
        }
    });
}
