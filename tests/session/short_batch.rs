//! Stories of a login of whose role and database an earlier one has told: what it asks for still.

use multigres::session::{Findings, Guard, Stage};
use multigres::tenant::{GuardDemand, SealBind};

use testing::session::{Cast, Play, at_every_chunk_size};

use crate::guarded::{SPELLING, VERDICT};
use crate::sealed::{ANYWHERE, sealed_answer};
use crate::{acme, answer, contains, key, ok, parameter, ready, row, start};

#[test]
fn a_verdict_that_is_kept_is_not_asked_for_and_the_spelling_is() {
    at_every_chunk_size(|cast| {
        let mut play = kept(cast.guarded(GuardDemand::Require), HELD);
        let batch = play.take_to_upstream();
        assert!(!contains(&batch, VERDICT) && contains(&batch, SPELLING));
        play.upstream(&short_answer(&[Some("acme"), USER, USER, Some("42"), Some("held")]));
        assert_eq!(play.stage(), Stage::Piping);
        assert_eq!(play.guard(), Some(Guard::Kept));
    });
    for bad in ["absent", "lost", "foreign", "tenant: is not a value of type uuid"] {
        let mut play = kept(Cast::whole().guarded(GuardDemand::Require), HELD);
        play.upstream(&short_answer(&[Some("acme"), USER, USER, Some("42"), Some(bad)]));
        play.expect_refusal_of(&["55000", "22023"]);
    }
}

#[test]
fn what_is_known_of_role_and_seal_is_not_asked_again_and_the_session_is() {
    at_every_chunk_size(|cast| {
        let mut play = kept(cast, Findings::default());
        let batch = play.take_to_upstream();
        for left_out in [&b"rolbypassrls"[..], b"seal_keys", VERDICT, SPELLING] {
            assert!(!contains(&batch, left_out), "{}", left_out.escape_ascii());
        }
        for asked in [&b"set_config"[..], b"current_user, session_user", b"pg_backend_pid()"] {
            assert!(contains(&batch, asked), "{}", asked.escape_ascii());
        }
        play.upstream(&short_answer(&[Some("acme"), USER, USER, Some("42")]));
        assert_eq!(play.stage(), Stage::Piping);
    });
    for wrong in [
        &[Some("globex"), USER, USER, Some("42")][..],
        &[None, USER, USER, Some("42")],
        &[Some("acme"), Some("postgres"), USER, Some("42")],
        &[Some("acme"), USER, Some("postgres"), Some("42")],
        &[Some("acme"), USER, USER, Some("43")],
        &[Some("acme"), USER, USER, None],
        &[Some("acme"), USER, USER],
        &[Some("acme"), USER, USER, Some("42"), Some("0")],
        &[Some("acme"), USER, USER, Some("0"), Some("42"), Some("0")],
    ] {
        let mut play = kept(Cast::whole(), Findings::default());
        play.upstream(&short_answer(wrong));
        play.expect_refusal("08004");
    }
}

#[test]
fn a_role_that_has_become_a_superuser_is_refused_whatever_is_known_of_it() {
    let mut play = acme(Cast::whole());
    play.keeps_verdict(Findings::default());
    play.upstream(&[ok(), parameter("is_superuser", "on"), key(42), ready()].concat());
    play.expect_refusal("28000");
}

#[test]
fn the_seals_are_verified_whatever_is_known_of_the_database() {
    let known = Findings { sealed: Some(true), guard: None };
    let sealed = || kept(Cast::whole().sealed(SealBind::None), known);
    let answer = |verified| {
        let mut messages = sealed_answer(ANYWHERE);
        messages[10] = row(&[Some("acme"), Some(ANYWHERE), USER, USER, Some("42"), verified]);
        messages.concat()
    };
    let mut play = sealed();
    let batch = play.take_to_upstream();
    assert!(contains(&batch, b"public.multigres_context($1)"));
    assert!(!contains(&batch, b"seal_keys") && !contains(&batch, b"rolbypassrls"));
    play.upstream(&answer(Some("acme")));
    assert_eq!((play.stage(), play.sealed()), (Stage::Piping, Some(true)));
    for wrong in [Some("globex"), None] {
        let mut play = sealed();
        play.upstream(&answer(wrong));
        play.expect_refusal("08004");
    }
}

#[test]
fn a_guard_that_was_absent_is_asked_again() {
    let known = Findings { sealed: None, guard: Some(Guard::Absent) };
    let mut play = kept(Cast::whole().guarded(GuardDemand::Prefer), known);
    let batch = play.take_to_upstream();
    assert!(contains(&batch, VERDICT) && !contains(&batch, b"rolbypassrls"));
    play.upstream(&short_answer(&[Some("acme"), USER, USER, Some("42"), Some("open: t: wide")]));
    play.expect_refusal("55000");
}

/// A login of app_user.acme of which this is known, with its batch sent.
fn kept(cast: Cast, known: Findings) -> Play {
    let mut play = acme(cast);
    play.keeps_verdict(known);
    play.upstream(&start());
    play
}

/// The answer to the short batch, with this as its last row.
fn short_answer(session: &[Option<&str>]) -> Vec<u8> {
    let mut messages = answer();
    messages[10] = row(session);
    messages.concat()
}

const HELD: Findings = Findings { sealed: None, guard: Some(Guard::Held) };

const USER: Option<&str> = Some("app_user");
