//! Stories of sealed contexts: what is sent, what must come back, what a database that does not
//! fit is told.

use multigres::session::Stage;
use multigres::tenant::SealBind;

use testing::session::{Cast, Play, at_every_chunk_size, message, startup, startup_of};

use crate::{acme, answer, contains, error, key, ok, ready, row, start};

/// By openssl(1), for acme in crm as app_user from 127.0.0.1:54321, then from nowhere:
/// `multigres-seal-2`, `address` or `none`, `app.current_tenant_id`, `acme`, `crm` and `app_user`,
/// each with the byte 01 behind it, then in the first one the bytes 02 20 00 04 7f 00 00 01 00 00
/// d4 31, go into `openssl dgst -sha256 -mac HMAC -macopt hexkey:000102…1f`.
pub(crate) const AT_54321: &str =
    "bcd55d67bf8ab52f9fdba60d9970937a1d6d520d7c96fbc6e6d08381c6e63b11";
pub(crate) const ANYWHERE: &str =
    "70d654506798780ae2663edd909ffb1fa5c27ee622ae1a5ebdd2553dba21c83d";

/// The right answer to the batch for app_user.acme with this seal.
pub(crate) fn sealed_answer(seal: &str) -> Vec<Vec<u8>> {
    let mut messages = answer();
    messages[2] = row(&[Some("acme"), Some(seal)]);
    messages[6] = row(&[Some("acme"), Some(seal), Some("app_user")]);
    messages[10] = session_row(seal, &[Some("acme")]);
    messages
}

fn session_row(seal: &str, verified: &[Option<&str>]) -> Vec<u8> {
    let user = Some("app_user");
    let columns = [Some("acme"), Some(seal), user, user, Some("0"), Some("42")];
    row(&[&columns, verified, &[Some("t"), None]].concat())
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

#[test]
fn each_variable_is_sealed_for_the_connection_and_role_is_last() {
    at_every_chunk_size(|cast| {
        let mut play = acme(cast.sealed(SealBind::Address));
        let expected = [
            ("user", "app_user"),
            ("database", "crm"),
            ("app.current_tenant_id", "acme"),
            ("app.current_tenant_id_seal", AT_54321),
            ("role", "app_user"),
        ];
        assert_eq!(startup_of(&play.take_to_upstream()), pairs(&expected));
        play.upstream(&start());
        let batch = play.take_to_upstream();
        assert!(contains(&batch, AT_54321.as_bytes()), "bound, too");
        assert!(contains(&batch, b", public.multigres_context($1), CASE WHEN public."));
        assert!(contains(&batch, b"acldefault('r', c.relowner)"), "who else has the key");
        let answer = sealed_answer(AT_54321);
        let (last, most) = answer.split_last().unwrap();
        play.upstream(&most.concat());
        assert_eq!(play.take_to_client(), b"");
        play.upstream(last);
        assert_eq!(play.stage(), Stage::Piping);
        assert_eq!(play.take_to_client(), start(), "the client hears of no seal");
    });
}

#[test]
fn several_variables_have_their_own_seals() {
    let mut play = Play::new(Cast::whole().two_variables().sealed(SealBind::None));
    play.client(&startup(&[("user", "app_user.acme:ada"), ("database", "crm")]));
    let sent = startup_of(&play.take_to_upstream());
    let names: Vec<&str> = sent[2..].iter().map(|(name, _)| name.as_str()).collect();
    let variables = ["app.current_tenant_id", "app.current_tenant_id_seal"];
    assert_eq!(names, [&variables[..], &["App.User", "App.User_seal", "role"]].concat());
    assert_eq!(sent[3].1, ANYWHERE);
    // By openssl(1) as above, for the variable app.user.
    assert_eq!(sent[5].1, "dde34ae9b5575018cb1e0c61280a2234bb9e2abdbefb0a1abe68ce6fbf64da10");
    play.upstream(&start());
    let batch = play.take_to_upstream();
    assert!(contains(&batch, b", public.multigres_context($1), public.multigres_context($3), "));
    let bound = [Some("acme"), Some(ANYWHERE), Some("ada"), Some(&sent[5].1)];
    let user = Some("app_user");
    let session = [user, user, Some("0"), Some("42"), Some("acme"), Some("ada"), Some("t"), None];
    let mut answer = answer();
    answer[2] = row(&bound);
    answer[6] = row(&[&bound[..], &[user]].concat());
    answer[10] = row(&[&bound[..], &session].concat());
    play.upstream(&answer.concat());
    assert_eq!(play.stage(), Stage::Piping);
}

#[test]
fn ipv6_and_mapped_addresses_are_sealed_as_postgresql_sees_them() {
    let seal = |local: &str| {
        let mut play =
            acme(Cast::whole().sealed(SealBind::Address).local_address(local.parse().ok()));
        startup_of(&play.take_to_upstream())[3].1.clone()
    };
    let by_openssl = "b450c9f0961c8457ce39876b604b9fe203967cfc571e9dffde725d6e67503e7b";
    assert_eq!(seal("[2001:db8::1]:54321"), by_openssl);
    assert_eq!(seal("[::ffff:127.0.0.1]:54321"), AT_54321);
    assert_ne!(seal("127.0.0.1:54322"), AT_54321);
}

#[test]
fn a_context_that_does_not_come_through_the_seal_refuses_the_login() {
    let wrong: [(&str, usize, Vec<u8>); 10] = [
        ("no context", 10, session_row(AT_54321, &[None])),
        ("an empty context", 10, session_row(AT_54321, &[Some("")])),
        ("another context", 10, session_row(AT_54321, &[Some("globex")])),
        ("a context that only begins right", 10, session_row(AT_54321, &[Some("acme2")])),
        ("a column too few", 10, session_row(AT_54321, &[])),
        ("a column too many", 10, session_row(AT_54321, &[Some("acme"), Some("acme")])),
        ("another seal", 10, session_row(ANYWHERE, &[Some("acme")])),
        ("another seal as the default", 2, row(&[Some("acme"), Some(ANYWHERE)])),
        ("no seal as the default", 2, row(&[Some("acme"), None])),
        ("another seal set", 6, row(&[Some("acme"), Some(ANYWHERE), Some("app_user")])),
    ];
    for (what, at, instead) in wrong {
        at_every_chunk_size(|cast| {
            let mut play = acme(cast.sealed(SealBind::Address));
            play.client(&message(b'Q', b"select secret\0"));
            play.upstream(&start());
            let mut messages = sealed_answer(AT_54321);
            messages[at] = instead.clone();
            play.upstream(&messages.concat());
            play.expect_refusal("08004");
            assert!(!contains(&play.take_to_upstream(), b"secret"), "{what}");
        });
    }
}

#[test]
fn a_database_that_does_not_ask_for_seals_is_served_unless_they_are_required() {
    let answer = |asks: Option<&str>| {
        let mut messages = sealed_answer(AT_54321);
        let user = Some("app_user");
        let columns = [Some("acme"), Some(AT_54321), user, user, Some("0"), Some("42")];
        messages[10] = row(&[&columns[..], &[Some("acme"), asks, None]].concat());
        messages.concat()
    };
    for (asks, served, served_if_required) in [
        (Some("t"), true, true),
        (Some("f"), true, false),
        (Some(""), false, false),
        (Some("true"), false, false),
        (None, false, false),
    ] {
        at_every_chunk_size(|cast| {
            let cast = cast.sealed(SealBind::Address);
            for (cast, served) in [(cast, served), (cast.seal_required(), served_if_required)] {
                let mut play = acme(cast);
                play.upstream(&start());
                play.upstream(&answer(asks));
                if served {
                    assert_eq!(play.stage(), Stage::Piping, "{asks:?}");
                    assert_eq!(play.sealed(), Some(asks == Some("t")));
                } else {
                    play.expect_refusal("08004");
                }
            }
        });
    }
    let mut play = acme(Cast::whole().sealed(SealBind::Address).seal_required());
    play.upstream(&start());
    play.upstream(&answer(Some("f")));
    let said = play.expect_refusal("08004");
    assert!(contains(&said, b"select multigres_seal("), "{}", said.escape_ascii());
    let mut play = acme(Cast::whole().sealed(SealBind::Address));
    play.upstream(&start());
    play.upstream(&answer(None));
    let said = play.expect_refusal("08004");
    assert!(contains(&said, b"belongs to a role"), "{}", said.escape_ascii());
}

#[test]
fn a_role_that_reaches_the_keys_is_refused_and_told_nothing_of_them() {
    let answer = |asks: &str, reached: Option<&str>| {
        let mut messages = sealed_answer(AT_54321);
        let user = Some("app_user");
        let columns = [Some("acme"), Some(AT_54321), user, user, Some("0"), Some("42")];
        messages[10] = row(&[&columns[..], &[Some("acme"), Some(asks), reached]].concat());
        messages.concat()
    };
    for how in ["SELECT is granted to PUBLIC", ""] {
        for asks in ["t", "f"] {
            at_every_chunk_size(|cast| {
                let mut play = acme(cast.sealed(SealBind::Address));
                play.client(&message(b'Q', b"select secret\0"));
                play.upstream(&start());
                play.upstream(&answer(asks, Some(how)));
                let said = play.expect_refusal("08004");
                assert!(
                    contains(&said, b"keys of the seal in the database"),
                    "{}",
                    said.escape_ascii()
                );
                assert!(!contains(&said, b"PUBLIC"), "{}", said.escape_ascii());
                assert!(!contains(&play.take_to_upstream(), b"secret"));
            });
        }
    }
}

#[test]
fn a_name_that_holds_the_separator_of_a_seal_is_refused() {
    for (user, database) in [("app_user.acme", "crm\u{1}x"), ("app\u{1}user.acme", "crm")] {
        let login = [("user", user), ("database", database)];
        let mut play = Play::new(Cast::whole().sealed(SealBind::None));
        play.client(&startup(&login));
        let said = play.expect_refusal("28000");
        assert!(contains(&said, b"cannot be sealed"), "{}", said.escape_ascii());
        assert!(!play.connects(), "it is refused before it is dialled for");
        let mut play = Play::new(Cast::whole());
        play.client(&startup(&login));
        assert_eq!(play.stage(), Stage::Login, "without seals it is a name like any other");
    }
}

#[test]
fn a_misfit_says_what_to_look_at() {
    let mut play = acme(Cast::whole().sealed(SealBind::Address));
    play.upstream(&start());
    let mut messages = sealed_answer(AT_54321);
    messages[10] = session_row(AT_54321, &[None]);
    play.upstream(&messages.concat());
    let said = play.expect_refusal("08004");
    for words in [&b"seal_key_file"[..], b"seal_bind = none", b"NAT", b"unix socket"] {
        assert!(contains(&said, words), "{}", said.escape_ascii());
    }
    for state in ["42883", "3F000", "42501"] {
        let mut play = acme(Cast::whole().sealed(SealBind::Address));
        play.upstream(&start());
        play.upstream(&sealed_answer(AT_54321)[..8].concat());
        play.upstream(&[error(state, b"canary"), ready()].concat());
        let said = play.expect_refusal("08004");
        assert!(contains(&said, b"sql/setup.sql") && contains(&said, b"multigres_seal()"));
        assert!(!contains(&said, b"canary"));
    }
}

#[test]
fn without_a_key_a_sealed_database_is_refused_and_not_shown_empty() {
    let user = Some("app_user");
    let session = |keys: &[Option<&str>]| {
        let mut messages = answer();
        let columns = [Some("acme"), user, user, Some("0"), Some("42")];
        messages[10] = row(&[&columns, keys].concat());
        messages.concat()
    };
    at_every_chunk_size(|cast| {
        let mut play = acme(cast);
        play.take_to_upstream();
        play.upstream(&start());
        assert!(contains(&play.take_to_upstream(), b"'multigres_seal_keys'"));
        play.upstream(&session(&[Some("1")]));
        let said = play.expect_refusal("08004");
        assert!(contains(&said, b"seal_key_file"), "{}", said.escape_ascii());
    });
    for keys in [&[None][..], &[Some("")], &[], &[Some("0"), Some("0")]] {
        let mut play = acme(Cast::whole());
        play.upstream(&start());
        play.upstream(&session(keys));
        play.expect_refusal("08004");
    }
}

#[test]
fn a_seal_for_an_address_needs_one() {
    at_every_chunk_size(|cast| {
        let mut play = acme(cast.sealed(SealBind::Address).local_address(None));
        let said = play.expect_refusal("08004");
        assert!(contains(&said, b"seal_bind = none"));
        assert_eq!(play.take_to_upstream(), b"");
    });
    let mut play = acme(Cast::whole().sealed(SealBind::None).local_address(None));
    assert_eq!(startup_of(&play.take_to_upstream())[3].1, ANYWHERE);
}

#[test]
fn behind_a_pooler_the_batch_alone_carries_the_seal() {
    let mut play = acme(Cast::whole().pooler().sealed(SealBind::None));
    assert_eq!(startup_of(&play.take_to_upstream()).len(), 2);
    play.upstream(&[ok(), key(7), ready()].concat());
    assert!(contains(&play.take_to_upstream(), ANYWHERE.as_bytes()));
    play.upstream(&sealed_answer(ANYWHERE)[4..].concat());
    assert_eq!(play.stage(), Stage::Piping);
}

#[test]
fn a_bypass_user_has_no_seal() {
    let mut play = Play::new(Cast::whole().sealed(SealBind::Address).local_address(None));
    let sent = startup(&[("user", "postgres")]);
    play.client(&sent);
    assert_eq!(play.take_to_upstream(), sent);
}

#[test]
fn the_seals_count_when_a_startup_message_is_too_long() {
    let login = |padding: usize, cast: Cast| {
        let mut play = Play::new(cast);
        let padding = "x".repeat(padding);
        play.client(&startup(&[("user", "app_user.acme"), ("application_name", &padding)]));
        play
    };
    // The variable, its seal, the role.
    let most = 10_004 - (8 + 1 + 14 + 18 + 27 + 27 + 65 + 14);
    let mut play = login(most, Cast::whole().sealed(SealBind::None));
    assert_eq!(play.take_to_upstream().len(), 10_004);
    let mut play = login(most + 1, Cast::whole().sealed(SealBind::None));
    play.expect_refusal("08P01");
    assert!(!play.connects(), "it is refused before it is dialled for");
    assert_eq!(login(most + 1, Cast::whole()).stage(), Stage::Login, "without seals it fits");
}

#[test]
fn the_address_is_asked_for_once_and_only_where_a_seal_is_bound_to_it() {
    let asked = |cast: Cast, user: &str| {
        let mut play = Play::new(cast);
        play.client(&startup(&[("user", user)]));
        play.address_calls
    };
    let bound = Cast::whole().sealed(SealBind::Address);
    assert_eq!(asked(bound, "app_user.acme"), 1);
    assert_eq!(asked(bound, "postgres"), 0);
    assert_eq!(asked(Cast::whole().sealed(SealBind::None), "app_user.acme"), 0);
    assert_eq!(asked(Cast::whole(), "app_user.acme"), 0);
}
