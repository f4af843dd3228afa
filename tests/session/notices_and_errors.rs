//! What upstream says beside the answers: notices, parameters, and errors that a setting of the
//! role has caused.

use multigres::session::{Outcome, Stage};

use super::{CANARY, acme, answer, authentication, error, ok, parameter, ready, start};
use testing::session::{Cast, at_every_chunk_size, message};

/// What a role with `client_min_messages = debug5` is told: too much of it, and too long.
#[test]
fn notices_of_any_amount_and_length_fail_no_login() {
    at_every_chunk_size(|cast| {
        let notice = |bytes: usize| {
            let text = vec![b'x'; bytes];
            message(b'N', &[b"SDEBUG\0C00000\0M", text.as_slice(), b"\0\0"].concat())
        };
        let flood = [notice(70_000), notice(10), notice(30_000).repeat(3)].concat();
        let mut play = acme(cast);
        play.take_to_upstream();
        let [before, ready] = [start()[..start().len() - 6].to_vec(), ready()];
        for part in [&before, flood.as_slice(), &ready].concat().chunks(16_000) {
            play.upstream(part);
        }
        for message in answer() {
            play.upstream(&[notice(10), message].concat());
        }
        assert_eq!(play.stage(), Stage::Piping);
        // Some of them, whole and in order, and everything else.
        let kept = [notice(10), notice(30_000).repeat(2), notice(10).repeat(14)].concat();
        assert_eq!(play.take_to_client(), [before, kept, ready].concat());
    });
}

#[test]
fn a_limit_that_ends_the_batch_is_named_with_the_role() {
    for (sqlstate, setting) in [
        ("57014", "RESET statement_timeout"),
        ("55P03", "RESET lock_timeout"),
        ("57P05", "RESET idle_session_timeout"),
        ("25P04", "RESET transaction_timeout"),
        ("42501", "pg_db_role_setting"),
    ] {
        let mut play = acme(Cast::whole());
        play.upstream(&start());
        play.upstream(&error(sqlstate, CANARY));
        let said = String::from_utf8_lossy(&play.expect_refusal("08004")).into_owned();
        assert!(said.contains(setting), "{said}");
        assert!(sqlstate == "42501" || said.contains("ALTER ROLE \"app_user\" RESET"), "{said}");
    }
}

#[test]
fn notices_and_parameters_during_the_batch_are_held_and_passed_on() {
    at_every_chunk_size(|cast| {
        let mut play = acme(cast);
        let notice = message(b'N', &[b"SNOTICE\0C00000\0M", b"hello".as_slice(), b"\0\0"].concat());
        let status = parameter("application_name", "x");
        play.upstream(&start());
        let mut messages = answer();
        messages.insert(5, notice.clone());
        messages.insert(11, status.clone());
        play.upstream(&messages.concat());
        assert_eq!(play.stage(), Stage::Piping);
        let start = start();
        let (before, ready) = start.split_at(start.len() - 6);
        assert_eq!(play.take_to_client(), [before, &notice, &status, ready].concat());
    });
}

#[test]
fn nothing_is_said_behind_half_a_message_to_upstream() {
    let mut play = acme(Cast::whole());
    play.take_to_upstream();
    play.upstream(&start());
    let batch = play.take_to_upstream();
    for taken in [0, 1, 7, batch.len() / 2, batch.len() - 5, batch.len() - 1, batch.len()] {
        let mut play = acme(Cast::whole());
        play.take_to_upstream();
        play.upstream_takes(taken);
        play.upstream(&start());
        play.upstream_takes(usize::MAX);
        play.times_out();
        let terminate = message(b'X', b"");
        let farewell = if taken == batch.len() { terminate.as_slice() } else { b"" };
        assert_eq!(play.take_to_upstream(), [&batch[..taken], farewell].concat(), "{taken}");
    }
}

#[test]
fn notices_are_kept_up_to_64_kib_together_and_all_else_up_to_256() {
    let notice = |bytes: usize| {
        message(b'N', &[b"SNOTICE\0M", &vec![b'x'; bytes - 16][..], b"\0\0"].concat())
    };
    assert_eq!(notice(30_000).len(), 30_000);
    let two = [notice(30_000), notice(65_536 - 30_000)].concat();
    let mut play = acme(Cast::whole());
    play.upstream(&ok());
    for part in [&two[..], &notice(20)].concat().chunks(4_096) {
        play.upstream(part);
    }
    play.upstream(&start()[ok().len()..]);
    play.upstream(&answer().concat());
    assert_eq!(play.stage(), Stage::Piping);
    assert_eq!(play.take_to_client(), [&ok(), &two, &start()[ok().len()..]].concat());

    let status = |bytes: usize| parameter("x", &"y".repeat(bytes - 8));
    assert_eq!(status(60_000).len(), 60_000);
    let most = 256 * 1024 - ok().len() - 4 * 60_000;
    for (last, is_kept) in [(most, true), (most + 1, false)] {
        let mut play = acme(Cast::whole());
        let said = [ok(), status(60_000).repeat(4), status(last)].concat();
        said.chunks(4_096).for_each(|part| play.upstream(part));
        let is_refused = play.stage() == Stage::Refusing;
        assert_eq!(is_refused, !is_kept, "{last}");
    }
}

/// GSSAPI: whether a reply comes is between client and upstream.
#[test]
fn a_request_that_need_not_be_answered_leaves_early_bytes_alone() {
    at_every_chunk_size(|cast| {
        let mut play = acme(cast);
        play.take_to_upstream();
        play.upstream(&authentication(7, b""));
        assert_eq!(play.take_to_client(), authentication(7, b""));
        let early = message(b'Q', b"select 1\0");
        play.client(&early);
        assert_eq!(play.take_to_upstream(), b"");
        play.upstream(&start());
        play.upstream(&answer().concat());
        assert_eq!(play.stage(), Stage::Piping);
        assert!(play.take_to_upstream().ends_with(&early));
    });
}

#[test]
fn a_client_that_leaves_amid_its_reply_is_gone() {
    let mut play = acme(Cast::whole());
    play.upstream(&authentication(3, b""));
    play.client(b"p\0\0\0\x0bsec");
    play.client_ends();
    assert_eq!(play.outcome(), Some(&Outcome::ClientLeft));
}
