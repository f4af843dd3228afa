//! The user name and the parameters of a StartupMessage: which tenant they name, which name none,
//! and which would choose another one. Refused, they are refused before upstream is dialled.

use multigres::session::Stage;

use testing::session::{Cast, Play, at_every_chunk_size, startup, startup_of};

type Parameters<'a> = &'a [(&'a [u8], &'a [u8])];

/// Refused with this SQLSTATE at every chunk size; answers with what the client is told.
fn refused(cast: fn(Cast) -> Cast, parameters: Parameters<'_>, sqlstate: &str) -> String {
    at_every_chunk_size(|cast_| {
        let mut play = Play::new(cast(cast_));
        play.client(&startup(parameters));
        play.expect_refusal(sqlstate);
        assert!(!play.connects(), "{parameters:?}");
    });
    let mut play = Play::new(cast(Cast::whole()));
    play.client(&startup(parameters));
    String::from_utf8_lossy(&play.expect_refusal(sqlstate)).into_owned()
}

fn same(cast: Cast) -> Cast {
    cast
}

/// What goes upstream for this user name, as the role and the values that are bound.
fn split(cast: Cast, user: &str) -> Vec<String> {
    let mut play = Play::new(cast);
    play.client(&startup(&[("user", user)]));
    assert_eq!(play.stage(), Stage::Login, "{user}");
    startup_of(&play.take_to_upstream()).into_iter().map(|(_, value)| value).collect()
}

#[test]
fn a_name_without_a_role_and_a_usable_value_is_refused() {
    let long = format!("app_user.{}", "v".repeat(129));
    let long_role = format!("{}.acme", "r".repeat(64));
    for user in [
        "app_user",
        "",
        ".",
        ".acme",
        "..acme",
        "app_user.",
        "app_user.:",
        "app_user.acme:",
        "app_user.:acme",
        "app_user.acme:globex",
        "app_user.ac\u{202e}me",
        "app_user.m\u{fc}nchen",
        &long,
        &long_role,
    ] {
        refused(same, &[(b"user", user.as_bytes())], "28000");
    }
    let no_user: Parameters<'_> = &[(b"database", b"crm")];
    refused(same, no_user, "28000");
}

#[test]
fn a_value_with_a_byte_that_is_not_printable_ascii_is_refused() {
    for byte in (1..=b'\x1f').chain(0x7f..=0xff) {
        let user = [b"app_user.a", &[byte][..], b"c"].concat();
        refused(same, &[(b"user", &user)], "28000");
    }
}

#[test]
fn a_wrong_number_of_values_is_refused_whichever_it_is() {
    for user in ["u.a", "u.a:", "u.:a", "u.:b", "u.:", "u.a:b:c", "u.a::b", "u.::", "u.a:b:"] {
        refused(Cast::two_variables, &[(b"user", user.as_bytes())], "28000");
    }
    let bound = split(Cast::whole().two_variables(), "u.a:b");
    assert_eq!(bound, ["u", "a", "b", "u"]);
}

#[test]
fn a_bypass_role_does_not_take_a_tenant_and_no_look_alike_bypasses() {
    for user in [
        "postgres.acme",
        "postgres.",
        "Postgres",
        "POSTGRES",
        " postgres",
        "postgres ",
        "postgres\n",
        "postgres,admin",
    ] {
        refused(same, &[(b"user", user.as_bytes())], "28000");
    }
}

#[test]
fn the_longest_names_and_the_strangest_values_are_bound_as_they_are() {
    let printable: String = (b' '..=b'~').filter(|byte| *byte != b':').map(char::from).collect();
    let longest = "v".repeat(128);
    for value in [&longest, "a.b", ".", "..", " ", "app_user.acme", "'", "\\", &printable] {
        let bound = split(Cast::whole(), &format!("app_user.{value}"));
        assert_eq!(bound, ["app_user", value, "app_user"]);
    }
    let role = "r".repeat(63);
    assert_eq!(split(Cast::whole(), &format!("{role}.acme")), [&role, "acme", &role]);
}

#[test]
fn a_login_that_names_no_tenant_is_told_how_its_role_logs_in() {
    let hint = |cast, user: &str| refused(cast, &[(b"user", user.as_bytes())], "28000");
    assert!(hint(same, "app_user").contains("HLog in as app_user.TENANT\0"));
    assert!(hint(same, "b\u{f6}se").contains("HLog in as ROLE.TENANT\0"));
    let told = hint(same, "app_user.a:b");
    assert!(told.contains("HLog in as app_user.TENANT\0"), "{told}");
    assert!(told.contains("cannot contain \":\""), "{told}");
    let told = hint(Cast::two_variables, "app_user.a");
    let values = "app_user.<app.current_tenant_id>:<App.User>";
    assert!(told.contains(&format!("HLog in as {values}\0")), "{told}");
    assert!(told.contains("2 values"), "{told}");
}

#[test]
fn a_parameter_that_is_bound_cannot_be_given_in_whatever_letters() {
    for name in [
        "app.current_tenant_id",
        "App.Current_Tenant_ID",
        "app.current_tenant_id_seal",
        "App.User",
        "APP.USER",
        "App.User_Seal",
        "role",
        "Role",
        "ROLE",
        "session_authorization",
        "SESSION_AUTHORIZATION",
    ] {
        for value in ["postgres", "globex", ""] {
            let user: (&[u8], &[u8]) = (b"user", b"app_user.a:b");
            let bound = (name.as_bytes(), value.as_bytes());
            for parameters in [[user, bound], [bound, user]] {
                let told = refused(Cast::two_variables, &parameters, "22023").to_lowercase();
                assert!(told.contains(&name.to_lowercase()), "{name} is not named: {told}");
            }
        }
    }
}

#[test]
fn a_name_that_comes_twice_is_refused_in_whatever_letters() {
    for (first, second) in [
        ("user", "user"),
        ("user", "User"),
        ("USER", "user"),
        ("uSER", "user"),
        ("database", "Database"),
        ("options", "OPTIONS"),
        ("search_path", "SEARCH_PATH"),
        ("app.other", "App.Other"),
    ] {
        let mut parameters: Vec<(&[u8], &[u8])> =
            vec![(first.as_bytes(), b"app_user.acme"), (second.as_bytes(), b"app_user.globex")];
        if !first.eq_ignore_ascii_case("user") {
            parameters.insert(0, (b"user", b"app_user.acme"));
        }
        refused(same, &parameters, "08P01");
        parameters.reverse();
        refused(same, &parameters, "08P01");
    }
}

#[test]
fn replication_is_refused_to_a_tenant_unless_it_is_false() {
    let replication = |value: &'static str| -> [(&[u8], &[u8]); 2] {
        [(b"user", b"app_user.acme"), (b"replication", value.as_bytes())]
    };
    for value in ["true", "on", "yes", "1", "database", "", "o", "offf", "nope", "00", " off"] {
        refused(same, &replication(value), "28000");
    }
    for value in ["false", "off", "no", "0", "FALSE", "of", "f"] {
        let mut play = Play::new(Cast::whole());
        play.client(&startup(&replication(value)));
        assert_eq!(play.stage(), Stage::Login, "{value}");
    }
}

#[test]
fn a_packet_of_another_version_or_with_bytes_behind_it_is_refused() {
    let right = startup(&[("user", "app_user.acme")]);
    let refused = |packet: &[u8], sqlstate: &str| {
        at_every_chunk_size(|cast| {
            let mut play = Play::new(cast);
            play.client(packet);
            play.expect_refusal(sqlstate);
            assert!(!play.connects(), "{}", packet.escape_ascii());
        });
    };
    for major in [0, 1, 2, 4, 200] {
        let mut packet = right.clone();
        packet[5] = major;
        refused(&packet, "0A000");
    }
    let mut trailing = [&right[..], b"x"].concat();
    trailing[3] += 1;
    refused(&trailing, "08P01");
    for user in ["app_user.acme\0", "app_user\0.acme"] {
        refused(&startup(&[("user", user)]), "08P01");
    }
}

#[test]
fn everything_else_goes_upstream_in_its_order() {
    let mut play = Play::new(Cast::whole());
    let options = ("options", "-c app.current_tenant_id=globex");
    let name = ("application_name", "x");
    play.client(&startup(&[options, ("user", "app_user.acme.io"), name, ("_pq_.x", "")]));
    let sent = startup_of(&play.take_to_upstream());
    let user = ("user", "app_user");
    let bound = [("app.current_tenant_id", "acme.io"), ("role", "app_user")];
    let expected = [&[options, user, name, ("_pq_.x", "")][..], &bound].concat();
    assert_eq!(
        sent,
        expected.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect::<Vec<_>>()
    );
}

#[test]
fn libpqs_default_database_follows_the_user_name() {
    let mut play = Play::new(Cast::whole());
    play.client(&startup(&[("database", "app_user.acme"), ("user", "app_user.acme")]));
    let sent = startup_of(&play.take_to_upstream());
    assert_eq!(sent[0], ("database".to_owned(), "app_user".to_owned()));
}
