//! `options`, which PostgreSQL reads like a command line: whatever stands there, the session is
//! the own tenant's, and so is what every reset returns to.

use std::sync::OnceLock;

use crate::packets::{VERSION_3, messages, read_all, startup};
use testing::{Daemon, Raw, TENANTS, cluster};

use crate::after_attack::assert_serves;

/// A role that may become another one with the same rights.
const USER: &str = "turncoat.acme";

fn roles() {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| {
        cluster()
            .superuser(TENANTS)
            .batch_execute(
                "create role second_self in role tenant_tables;
                 create role turncoat login in role tenant_tables, second_self",
            )
            .unwrap();
    });
}

fn login(daemon: &Daemon, parameters: &[(&str, &str)]) -> Raw {
    roles();
    let own = [("user", USER), ("database", TENANTS)];
    let all: Vec<(&[u8], &[u8])> = own
        .iter()
        .chain(parameters)
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
        .collect();
    let mut raw = daemon.raw();
    raw.send(&startup(VERSION_3, &all));
    raw
}

/// Tenant, roles and rows are the own ones.
fn assert_own(raw: &mut Raw, what: &str) {
    let bound = raw.query_value(
        "select concat_ws(' ', current_setting('app.current_tenant_id'), current_user,
         session_user, (select string_agg(name, ' ') from public.contacts))",
    );
    assert_eq!(bound, "acme turncoat turncoat Ada Alan", "{what}");
}

const RESETS: [&str; 6] = [
    "reset all",
    "discard all",
    "reset app.current_tenant_id",
    "reset role",
    "set session authorization default",
    "set app.current_tenant_id = 'nobody'; set role second_self; reset role; reset all",
];

#[test]
fn options_that_name_another_tenant_or_role_are_overruled_for_good() {
    let daemon = Daemon::start();
    for options in [
        "-c app.current_tenant_id=globex",
        "-capp.current_tenant_id=globex",
        "--app.current_tenant_id=globex",
        "--app.current-tenant-id=globex",
        "-c App.Current-Tenant_ID=globex",
        "--APP.CURRENT_TENANT_ID=globex",
        "-c app.current_tenant_id=glo\\ bex",
        "-c\\ app.current_tenant_id=globex",
        "-c app.current_tenant_id=globex -c app.current_tenant_id=globex",
        "   -c   app.current_tenant_id=globex   ",
        "\t-c\n--app.current_tenant_id=globex",
        "-c role=second_self",
        "--role=second_self",
        "-c ROLE=none",
        "-c role=second_self -c app.current_tenant_id=globex",
        "-c search_path=pg_catalog",
        "-c row_security=on -c default_transaction_read_only=on",
        "-c default_transaction_isolation=serializable -c default_transaction_deferrable=on",
        "-c standard_conforming_strings=off -c backslash_quote=on -c escape_string_warning=off",
        "-c force_parallel_mode=on -c parallel_setup_cost=0 -c parallel_tuple_cost=0",
        "-c client_min_messages=debug5 -c debug_print_plan=on -c debug_print_parse=on",
        "-c transform_null_equals=on -c quote_all_identifiers=on -c bytea_output=escape",
        "-c plan_cache_mode=force_generic_plan -c exit_on_error=off",
        "-c app.current_tenant_id_seal=forged",
    ] {
        let mut raw = login(&daemon, &[("options", options)]);
        let last = raw.read_until(b"ZE").pop().unwrap();
        // An option that PostgreSQL does not take is as good an end as any.
        if last.tag == b'E' {
            assert_eq!(last.error_fields().severity, "FATAL", "{options}");
            assert!(options.contains('\\') || options.contains("\n--"), "{options}: {last:?}");
            continue;
        }
        assert_own(&mut raw, options);
        for reset in RESETS {
            raw.query(reset);
            assert_own(&mut raw, &format!("{options}: {reset}"));
        }
    }
    assert_serves(&daemon);
}

#[test]
fn options_that_postgresql_denies_end_the_login_with_its_own_word() {
    let daemon = Daemon::start();
    for (options, sqlstate) in [
        ("-c role=postgres", "42501"),
        ("-c session_authorization=postgres", "42501"),
        ("-c session_authorization=second_self", "42501"),
        ("-c is_superuser=on", "55P02"),
        ("-c session_replication_role=replica", "42501"),
        ("-c log_statement=all", "42501"),
        ("-c", "42601"),
        ("-c role", "42601"),
        ("app.current_tenant_id=globex", "42601"),
    ] {
        let mut raw = login(&daemon, &[("options", options)]);
        let said = messages(&read_all(&mut raw));
        assert_eq!(said.len(), 1, "{options}: {said:?}");
        let fields = said[0].error_fields();
        assert_eq!(
            (fields.severity.as_str(), fields.sqlstate.as_str()),
            ("FATAL", sqlstate),
            "{options}: {fields:?}"
        );
    }
    assert_serves(&daemon);
}

#[test]
fn options_that_make_the_binding_impossible_end_the_login() {
    let daemon = Daemon::start();
    for options in ["-c statement_timeout=1 -c jit_above_cost=0 -c post_auth_delay=0"] {
        // One millisecond may be enough: then the session must be the own one.
        for _ in 0..5 {
            let mut raw = login(&daemon, &[("options", options)]);
            let last = raw.read_until(b"ZE").pop().unwrap();
            if last.tag == b'E' {
                assert_eq!(last.error_fields().severity, "FATAL");
                assert_eq!(raw.read_to_close(), b"");
            }
        }
    }
    assert_serves(&daemon);
}

#[test]
fn a_quote_that_breaks_out_of_a_literal_breaks_out_of_nothing() {
    let daemon = Daemon::start();
    roles();
    let parameters = [
        ("options", "-c standard_conforming_strings=off -c backslash_quote=on"),
        ("client_encoding", "UTF8"),
    ];
    for value in [
        "\\'; set app.current_tenant_id = 'globex'; --",
        "'; set app.current_tenant_id = 'globex'; --",
        "\\\\'; set app.current_tenant_id = 'globex'; --",
        "acme', false), set_config('app.current_tenant_id', 'globex",
        "$$globex$$",
        "E'\\x67'",
        "U&'\\0067'",
        "$1",
        "%s",
    ] {
        let user = format!("turncoat.{value}");
        let mut raw = daemon.raw();
        let all: Vec<(&[u8], &[u8])> = [("user", user.as_str()), ("database", TENANTS)]
            .iter()
            .chain(&parameters)
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect();
        raw.send(&startup(VERSION_3, &all));
        let last = raw.read_until(b"ZE").pop().unwrap();
        assert_eq!(last.tag, b'Z', "{value}");
        let bound = raw.query_value("select current_setting('app.current_tenant_id')");
        assert_eq!(bound, value);
        assert_eq!(raw.query_value("select count(*)::text from contacts"), "0");
    }
    assert_serves(&daemon);
}

#[test]
fn a_role_whose_own_defaults_are_hostile_is_bound_all_the_same() {
    roles();
    cluster()
        .superuser(TENANTS)
        .batch_execute(
            "create role poisoned login in role tenant_tables, second_self;
             alter role poisoned set app.current_tenant_id = 'globex';
             alter role poisoned set role = 'second_self';
             alter role poisoned set search_path = 'pg_temp', 'nowhere';
             alter role poisoned set client_encoding = 'SJIS';
             alter role poisoned set standard_conforming_strings = off;
             alter role poisoned set default_transaction_read_only = on",
        )
        .unwrap();
    let daemon = Daemon::start();
    let mut raw = daemon.raw();
    raw.login("poisoned.acme", TENANTS);
    for reset in ["select", "reset all", "discard all", "reset role", "set role none; reset role"] {
        raw.query(reset);
        let bound = raw.query_value(
            "select concat_ws(' ', current_setting('app.current_tenant_id'), current_user,
             (select string_agg(name, ' ') from public.contacts))",
        );
        assert_eq!(bound, "acme poisoned Ada Alan", "{reset}");
    }
    drop(raw);
    assert_serves(&daemon);
}
