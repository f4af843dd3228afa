//! User names and parameters that try to be somebody else, or more than one.

use crate::after_attack::{Unreached, assert_serves, refusal_of};
use crate::packets::{VERSION_3, startup};
use testing::{Daemon, Raw, Run, TENANTS, cluster};

use crate::man_in_the_middle::Middle;

fn login(user: &[u8]) -> Vec<u8> {
    startup(VERSION_3, &[(b"user", user), (b"database", TENANTS.as_bytes())])
}

#[test]
fn a_name_without_a_role_and_a_value_is_refused() {
    let unreached = Unreached::start();
    let long_value = [b"app_user.".as_slice(), &[b'v'; 129]].concat();
    let long_role = [&[b'r'; 64], b".acme".as_slice()].concat();
    for user in [
        b"app_user".as_slice(),
        b".",
        b".acme",
        b"..acme",
        b"app_user.",
        b"app_user.:",
        b"app_user.acme:",
        b"app_user.:acme",
        b"app_user.acme:globex",
        &long_value,
        &long_role,
    ] {
        unreached.refuses(&login(user), "28000");
    }
    unreached.assert_untouched();
}

#[test]
fn a_value_with_a_byte_that_is_not_printable_ascii_is_refused() {
    let unreached = Unreached::start();
    for byte in (1..=b'\x1f').chain(0x7f..=0xff) {
        unreached.refuses(&login(&[b"app_user.a", [byte].as_slice(), b"c"].concat()), "28000");
    }
    for text in ["app_user.ac\u{202e}me", "app_user.acme\u{0}"] {
        let state = if text.contains('\0') { "08P01" } else { "28000" };
        unreached.refuses(&login(text.as_bytes()), state);
    }
    unreached.assert_untouched();
}

#[test]
fn a_wrong_number_of_values_is_refused_whichever_it_is() {
    let unreached =
        Unreached::with(&[("context_variables", "app.current_list_id,app.current_user_id")]);
    for user in ["u.a", "u.a:", "u.:a", "u.:", "u.a:b:c", "u.a::b", "u.::", "u.a:b:"] {
        unreached.refuses(&login(user.as_bytes()), "28000");
    }
    unreached.assert_untouched();
}

#[test]
fn a_bypass_role_does_not_take_a_tenant_and_no_look_alike_bypasses() {
    let unreached = Unreached::with(&[("superuser_bypass", "postgres,admin")]);
    for user in [
        "postgres.acme",
        "admin.acme",
        "postgres.",
        "Postgres",
        "POSTGRES",
        " postgres",
        "postgres ",
        "postgres,admin",
        "postgres\n",
        "",
    ] {
        unreached.refuses(&login(user.as_bytes()), "28000");
    }
    unreached.assert_untouched();
}

#[test]
fn the_longest_value_and_the_strangest_are_bound_as_they_are() {
    let daemon = Daemon::start();
    let longest = "v".repeat(128);
    let printable: String = (b' '..=b'~').filter(|byte| *byte != b':').map(char::from).collect();
    for value in [&longest, "a.b", ".", "..", " ", "app_user.acme", "'", "\\", &printable] {
        let mut raw = daemon.raw();
        raw.login(&format!("app_user.{value}"), TENANTS);
        let hex = raw.query_value(
            "select encode(convert_to(current_setting('app.current_tenant_id'), 'UTF8'), 'hex')",
        );
        let expected: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected, "{value}");
        assert_eq!(raw.query_value("select count(*)::text from contacts"), "0", "{value}");
    }
    assert_serves(&daemon);
}

#[test]
fn the_longest_role_is_a_role_of_its_own() {
    let role = "r".repeat(63);
    cluster()
        .superuser(TENANTS)
        .batch_execute(&format!("create role {role} login in role tenant_tables"))
        .unwrap();
    let daemon = Daemon::start();
    let mut raw = daemon.raw();
    raw.login(&format!("{role}.acme"), TENANTS);
    assert_eq!(raw.query_value("select current_user"), role);
    drop(raw);
    // PostgreSQL itself would cut this one down to the role above.
    refusal_of(&daemon, &login(format!("{role}r.acme").as_bytes()), "28000");
    assert_serves(&daemon);
}

#[test]
fn a_name_that_comes_twice_is_refused_in_whatever_letters() {
    let unreached = Unreached::start();
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
        let values = ["app_user.acme", "app_user.globex"];
        let mut parameters = vec![
            (first.as_bytes(), values[0].as_bytes()),
            (second.as_bytes(), values[1].as_bytes()),
        ];
        if !first.eq_ignore_ascii_case("user") {
            parameters.insert(0, (b"user", b"app_user.acme"));
        }
        unreached.refuses(&startup(VERSION_3, &parameters), "08P01");
        parameters.reverse();
        unreached.refuses(&startup(VERSION_3, &parameters), "08P01");
    }
    unreached.assert_untouched();
}

#[test]
fn a_parameter_that_is_bound_cannot_be_given_in_whatever_letters() {
    let unreached = Unreached::with(&[("context_variables", "App.One,app.two")]);
    for name in [
        "App.One",
        "app.one",
        "APP.TWO",
        "app.one_seal",
        "App.Two_Seal",
        "role",
        "Role",
        "session_authorization",
        "SESSION_AUTHORIZATION",
    ] {
        for value in ["postgres", "globex", ""] {
            let parameters = [
                (b"user".as_slice(), b"app_user.a:b".as_slice()),
                (name.as_bytes(), value.as_bytes()),
            ];
            let refusal = unreached.refuses(&startup(VERSION_3, &parameters), "22023");
            let named = refusal.message.to_ascii_lowercase();
            assert!(named.contains(&name.to_ascii_lowercase()), "{refusal:?}");
            // In front of the user, too.
            let reversed = [parameters[1], parameters[0]];
            unreached.refuses(&startup(VERSION_3, &reversed), "22023");
        }
    }
    unreached.assert_untouched();
}

#[test]
fn replication_is_refused_to_a_tenant_unless_it_is_false() {
    let unreached = Unreached::start();
    for value in ["true", "on", "yes", "1", "database", "", "o", "offf", "nope", "00", " off"] {
        let parameters =
            [(b"user".as_slice(), b"app_user.acme".as_slice()), (b"replication", value.as_bytes())];
        unreached.refuses(&startup(VERSION_3, &parameters), "28000");
    }
    unreached.assert_untouched();
}

#[test]
fn what_postgresql_itself_does_not_let_anyone_set_does_not_get_in() {
    let daemon = Daemon::start();
    for (name, value) in [
        ("is_superuser", "on"),
        ("Is_Superuser", "on"),
        ("Replication", "database"),
        ("DATABASE", "postgres"),
        ("session_preload_libraries", "x"),
        ("row_security_", "off"),
        ("app.current_tenant_id ", "globex"),
        ("app.current-tenant-id", "globex"),
        ("\"app.current_tenant_id\"", "globex"),
        ("app.current_tenant_id=globex", "x"),
        ("log_statement", "all"),
        ("session_replication_role", "replica"),
    ] {
        let mut raw = daemon.raw();
        raw.send(&startup(
            VERSION_3,
            &[
                (b"user", b"app_user.acme"),
                (b"database", TENANTS.as_bytes()),
                (name.as_bytes(), value.as_bytes()),
            ],
        ));
        let said = raw.read_message();
        assert_eq!(said.tag, b'E', "{name}");
        assert_eq!(said.error_fields().severity, "FATAL", "{name}");
        assert_eq!(raw.read_to_close(), b"", "{name}");
    }
    assert_serves(&daemon);
}

#[test]
fn a_database_of_the_clients_own_name_is_the_roles_and_no_other_is_touched() {
    let middle = Middle::listening();
    let daemon = Run::upstream(middle.port()).start();
    let as_sent: &[(&[u8], &[u8])] = &[(b"user", b"app_user.acme")];
    let own: &[(&[u8], &[u8])] = &[(b"database", b"app_user.acme"), (b"user", b"app_user.acme")];
    let empty: &[(&[u8], &[u8])] = &[(b"user", b"app_user.acme"), (b"database", b"")];
    for parameters in [as_sent, own, empty] {
        let mut raw = daemon.raw();
        raw.send(&startup(VERSION_3, parameters));
        assert_eq!(raw.read_until(b"ZE").last().unwrap().tag, b'Z');
        assert_eq!(raw.query_value("select current_database()"), "app_user");
    }
    let mut raw = daemon.raw();
    raw.send(&startup(
        VERSION_3,
        &[(b"user", b"app_user.acme"), (b"database", b"app_user.globex")],
    ));
    assert_eq!(raw.read_message().error_fields().sqlstate, "3D000");
    drop(raw);
    assert_serves(&daemon);
}

#[test]
fn what_goes_upstream_is_the_clients_packet_with_the_role_and_the_context_last() {
    let middle = Middle::listening();
    let daemon = Run::upstream(middle.port()).start();
    let mut raw = daemon.raw();
    raw.send(&startup(
        VERSION_3,
        &[
            (b"options", b"-c app.current_tenant_id=globex"),
            (b"user", b"app_user.acme"),
            (b"client_encoding", b"UTF8"),
            (b"database", TENANTS.as_bytes()),
        ],
    ));
    raw.read_until(b"Z");
    let expected = startup(
        VERSION_3,
        &[
            (b"options", b"-c app.current_tenant_id=globex"),
            (b"user", b"app_user"),
            (b"client_encoding", b"UTF8"),
            (b"database", TENANTS.as_bytes()),
            (b"app.current_tenant_id", b"acme"),
            (b"role", b"app_user"),
        ],
    );
    assert_eq!(middle.said()[0][..expected.len()], expected);
    drop(raw);
    assert_serves(&daemon);
}

#[test]
fn a_login_said_one_byte_at_a_time_is_the_same_login() {
    let daemon = Daemon::start();
    let mut raw = daemon.raw();
    let spell = |raw: &mut Raw, bytes: &[u8]| bytes.iter().for_each(|byte| raw.send(&[*byte]));
    spell(&mut raw, &login(b"clear_user.acme"));
    assert_eq!(raw.read_message().tag, b'R');
    spell(&mut raw, &testing::Message::password(testing::PASSWORD).to_bytes());
    assert_eq!(raw.read_until(b"ZE").last().unwrap().tag, b'Z');
    spell(&mut raw, &testing::Message::query("select name from contacts").to_bytes());
    let rows = crate::packets::first_column(&raw.read_until(b"Z"));
    assert_eq!(rows, ["Ada", "Alan"]);
    drop(raw);
    assert_serves(&daemon);
}
