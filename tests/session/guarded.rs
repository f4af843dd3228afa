//! Stories of the guard's question in the batch: what each answer comes to, and when it is asked.

use multigres::session::{Guard, Outcome, Stage, is_alarm};
use multigres::tenant::{GuardDemand, SealBind};

use testing::session::{Cast, Play, at_every_chunk_size, message, startup};

use crate::sealed::{AT_54321, sealed_answer};
use crate::{acme, answer, contains, error, ready, row, start};

pub(crate) const VERDICT: &[u8] = b"public.multigres_verdict()";
pub(crate) const SPELLING: &[u8] = b"public.multigres_misspelt()";

/// The answer to the batch for app_user.acme with this verdict behind it.
fn answer_with(verdict: &[Option<&str>]) -> Vec<u8> {
    let mut messages = answer();
    let user = Some("app_user");
    let session = [Some("acme"), user, user, Some("0"), Some("42"), Some("0")];
    messages[10] = row(&[&session, verdict].concat());
    messages.concat()
}

fn asked(cast: Cast) -> Play {
    let mut play = acme(cast);
    play.client(&message(b'Q', b"select secret\0"));
    play.take_to_upstream();
    play.upstream(&start());
    assert!(contains(&play.take_to_upstream(), VERDICT));
    play
}

fn refused(cast: Cast, verdict: &[Option<&str>], sqlstate: &str) -> Vec<u8> {
    let mut play = asked(cast);
    play.upstream(&answer_with(verdict));
    let said = play.expect_refusal(sqlstate);
    let sent = play.take_to_upstream();
    assert!(!contains(&sent, b"secret"), "{}", sent.escape_ascii());
    assert_eq!(play.guard(), None);
    said
}

#[test]
fn a_database_that_holds_all_is_served() {
    at_every_chunk_size(|cast| {
        for demand in [GuardDemand::Prefer, GuardDemand::Require] {
            let mut play = asked(cast.guarded(demand));
            play.upstream(&answer_with(&[Some("held")]));
            assert_eq!(play.stage(), Stage::Piping);
            assert_eq!(play.guard(), Some(Guard::Held));
            assert_eq!(play.take_to_upstream(), message(b'Q', b"select secret\0"));
        }
    });
}

#[test]
fn an_open_table_refuses_the_login_and_is_not_named_to_the_client() {
    let open = "open: public.canary: row-level security is off";
    at_every_chunk_size(|cast| {
        for demand in [GuardDemand::Prefer, GuardDemand::Require] {
            let said = refused(cast.guarded(demand), &[Some(open)], "55000");
            assert!(!contains(&said, b"canary"), "{}", said.escape_ascii());
            assert!(contains(&said, b"multigres_unprotect"), "{}", said.escape_ascii());
        }
    });
}

#[test]
fn a_database_without_a_guard_is_served_unless_one_is_required() {
    at_every_chunk_size(|cast| {
        let mut play = asked(cast.guarded(GuardDemand::Prefer));
        play.upstream(&answer_with(&[Some("absent")]));
        assert_eq!(play.stage(), Stage::Piping);
        assert_eq!(play.guard(), Some(Guard::Absent));
        let said = refused(cast.guarded(GuardDemand::Require), &[Some("absent")], "55000");
        assert!(contains(&said, b"sql/setup.sql"), "{}", said.escape_ascii());
    });
}

#[test]
fn no_other_answer_is_believed() {
    for verdict in ["lost", "foreign", "", "HELD", "held ", "open", "tenant", "absent2"] {
        for demand in [GuardDemand::Prefer, GuardDemand::Require] {
            refused(Cast::whole().guarded(demand), &[Some(verdict)], "55000");
        }
    }
    let cast = Cast::whole().guarded(GuardDemand::Prefer);
    refused(cast, &[None], "55000");
    refused(cast, &[], "08004");
    refused(cast, &[Some("held"), Some("held")], "08004");
    let lost = refused(cast, &[Some("lost")], "55000");
    assert!(contains(&lost, b"protect its tables again"), "{}", lost.escape_ascii());
    let foreign = refused(cast, &[Some("foreign")], "55000");
    assert!(contains(&foreign, b"drop the function"), "{}", foreign.escape_ascii());
}

/// What an operator has to be woken for: a database that is open, and no login that is wrong.
#[test]
fn a_refusal_by_the_guard_is_an_alarm_and_no_other_is() {
    let is_alarm_after = |cast: Cast, answer: &[u8]| {
        let mut play = acme(cast);
        play.upstream(&start());
        play.upstream(answer);
        let Some(Outcome::Refused(refusal)) = play.outcome() else { panic!("it is refused") };
        is_alarm(refusal)
    };
    let cast = Cast::whole().guarded(GuardDemand::Prefer);
    assert!(is_alarm_after(cast, &answer_with(&[Some("open: public.t: it is open")])));
    assert!(is_alarm_after(cast, &answer_with(&[Some("lost")])));
    assert!(!is_alarm_after(cast, &answer_with(&[])));
    assert!(!is_alarm_after(cast, &answer_with(&[Some("tenant: must be spelt Acme")])));
}

#[test]
fn an_error_of_the_function_refuses_the_login() {
    let mut play = asked(Cast::whole().guarded(GuardDemand::Prefer));
    play.upstream(&answer()[..8].concat());
    play.upstream(&[error("42501", b"canary"), ready()].concat());
    assert!(!contains(&play.expect_refusal("08004"), b"canary"));
    for (demand, at, is_told) in [
        (GuardDemand::Prefer, 10, true),
        (GuardDemand::Prefer, 0, false),
        (GuardDemand::Off, 10, false),
    ] {
        let mut play = acme(Cast::whole().guarded(demand));
        play.upstream(&start());
        play.upstream(&[&answer()[..at].concat(), &error("0A000", b"canary")[..]].concat());
        let said = play.expect_refusal("08004");
        assert_eq!(contains(&said, b"built with libxml; \"guard = off\""), is_told);
        assert_eq!(contains(&said, b"pg_db_role_setting"), !is_told);
    }
}

/// An overload, a function that another statement has replaced, a right that was taken away, a
/// schema or a table that was dropped: no setting of the role is the cause.
#[test]
fn an_error_of_the_functions_names_their_mend_and_no_setting() {
    let hint = |cast: Cast, at: usize, state: &str| {
        let mut play = acme(cast);
        let sealed = contains(&play.take_to_upstream(), AT_54321.as_bytes());
        let answer = if sealed { sealed_answer(AT_54321) } else { answer() };
        play.upstream(&start());
        play.upstream(&[&answer[..at].concat(), &error(state, b"canary")[..]].concat());
        let said = play.expect_refusal("08004");
        assert!(!contains(&said, b"canary"), "{}", said.escape_ascii());
        String::from_utf8_lossy(&said).into_owned()
    };
    let guarded = Cast::whole().guarded(GuardDemand::Prefer);
    let sealed = Cast::whole().sealed(SealBind::Address);
    let casts = [guarded, sealed, guarded.sealed(SealBind::Address)];
    for cast in casts {
        for at in [8, 9, 10] {
            let said = hint(cast, at, "42725");
            assert!(said.contains("another function in schema public with the name"), "{said}");
            assert!(said.contains("multigres_check()") && said.contains("Drop"), "{said}");
            assert!(!said.contains("pg_db_role_setting"), "{said}");
            for state in ["42883", "42501", "42P13", "42P01", "42703", "3F000"] {
                let said = hint(cast, at, state);
                assert!(said.contains("sql/setup.sql"), "{state}: {said}");
                assert!(!said.contains("pg_db_role_setting"), "{state}: {said}");
            }
        }
        for state in ["42725", "42501", "22023", "3F000"] {
            let said = hint(cast, 4, state);
            assert!(said.contains("pg_db_role_setting"), "it binds by itself, {state}: {said}");
        }
        assert!(hint(cast, 10, "25006").contains("pg_db_role_setting"));
        assert!(hint(cast, 10, "57014").contains("RESET statement_timeout"));
    }
    let mut play = acme(guarded.sealed(SealBind::Address));
    play.upstream(&start());
    play.upstream(&sealed_answer(AT_54321)[..10].concat());
    play.upstream(&error("42501", b"permission denied for function multigres_verdict"));
    let said = play.expect_refusal("08004");
    assert!(contains(&said, b"sql/setup.sql") && !contains(&said, b"multigres_context"));
    let said = hint(Cast::whole(), 10, "42725");
    assert!(said.contains("pg_db_role_setting"), "none is called: {said}");
}

#[test]
fn a_tenant_in_another_spelling_is_told_the_right_one() {
    let wrong = "tenant: must be spelt \"7\": a column is of type integer";
    let said = refused(Cast::whole().guarded(GuardDemand::Prefer), &[Some(wrong)], "22023");
    assert!(contains(&said, b"must be spelt \"7\""), "{}", said.escape_ascii());
}

#[test]
fn nobody_asks_with_guard_off_or_for_a_bypass_user() {
    let mut play = acme(Cast::whole().guarded(GuardDemand::Off));
    play.upstream(&start());
    let batch = play.take_to_upstream();
    assert!(!contains(&batch, VERDICT) && !contains(&batch, SPELLING));
    play.upstream(&answer().concat());
    assert_eq!((play.stage(), play.guard()), (Stage::Piping, None));

    let mut play = Play::new(Cast::whole().guarded(GuardDemand::Require));
    let sent = startup(&[("user", "postgres")]);
    play.client(&sent);
    assert_eq!(play.take_to_upstream(), sent);
}

#[test]
fn the_seal_is_looked_at_beside_the_guard() {
    let mut play = acme(Cast::whole().sealed(SealBind::None).guarded(GuardDemand::Prefer));
    play.upstream(&start());
    assert!(contains(&play.take_to_upstream(), b"public.multigres_context($1), CASE WHEN"));
    play.upstream(&answer_with(&[Some("held")]));
    play.expect_refusal("08004");
}
