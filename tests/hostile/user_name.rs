//! User names and parameters that try to be somebody else, or more than one.

use crate::after_attack::{assert_serves, refusal_of};
use crate::packets::{VERSION_3, startup};
use testing::{Daemon, Raw, Run, TENANTS, cluster};

use crate::man_in_the_middle::Middle;

fn login(user: &[u8]) -> Vec<u8> {
    startup(VERSION_3, &[(b"user", user), (b"database", TENANTS.as_bytes())])
}

#[test]
fn the_longest_value_and_the_strangest_are_bound_as_they_are() {
    let daemon = Daemon::start();
    let longest = "v".repeat(128);
    let printable: String = (b' '..=b'~').filter(|byte| *byte != b':').map(char::from).collect();
    let odd = ["a.b", ".", "..", " ", "app_user.acme", "'", "\\", "';reset all;--", "$1 %s{}"];
    for value in odd.into_iter().chain([&longest[..], &printable]) {
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
