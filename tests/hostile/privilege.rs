//! Roles that row-level security does not hold, or that can make themselves such a role.

use crate::check::{assert_serves, refused};
use crate::support::{Daemon, TENANTS, UNBOUND_ROLES, cluster};

/// Logs a role in as a tenant that must be refused.
fn assert_refused(daemon: &Daemon, role: &str) {
    let mut raw = daemon.raw();
    raw.send_startup(&[("user", &format!("{role}.acme")), ("database", TENANTS)]);
    let refusal = refused(&mut raw, &["28000"]);
    assert!(refusal.message.contains("privileged"), "{role}: {refusal:?}");
}

#[test]
fn a_role_that_row_level_security_does_not_hold_is_no_tenant() {
    let daemon = Daemon::start();
    for role in UNBOUND_ROLES {
        assert_refused(&daemon, role);
    }
    assert_serves(&daemon);
}

/// In PostgreSQL 15 and before, CREATEROLE grants any role but a superuser's to anyone.
#[test]
fn a_role_that_can_grant_itself_bypassrls_sees_no_other_tenants_rows() {
    cluster()
        .superuser(TENANTS)
        .batch_execute(
            "create role role_maker login createrole in role tenant_tables;
             create role prey bypassrls in role tenant_tables",
        )
        .unwrap();
    let daemon = Daemon::start();
    let mut raw = daemon.raw();
    raw.send_startup(&[("user", "role_maker.acme"), ("database", TENANTS)]);
    if raw.read_until(b"ZE").pop().unwrap().tag == b'Z' {
        raw.query("grant prey to role_maker");
        raw.query("set role prey");
        let rows = raw.query_value("select string_agg(name, ' ') from contacts");
        assert_eq!(rows, "Ada Alan", "another tenant's rows");
    }
    drop(raw);
    assert_serves(&daemon);
}

/// Members of these roles read and write the server's files, or run its programs.
#[test]
fn a_role_that_can_reach_the_servers_files_sees_no_other_tenants_rows() {
    let mut superuser = cluster().superuser(TENANTS);
    superuser.batch_execute("create role outlaw login in role tenant_tables").unwrap();
    let daemon = Daemon::start();
    for power in ["pg_execute_server_program", "pg_read_server_files", "pg_write_server_files"] {
        superuser.batch_execute(&format!("grant {power} to outlaw")).unwrap();
        let mut raw = daemon.raw();
        raw.send_startup(&[("user", "outlaw.acme"), ("database", TENANTS)]);
        let last = raw.read_until(b"ZE").pop().unwrap();
        superuser.batch_execute(&format!("revoke {power} from outlaw")).unwrap();
        assert_eq!(last.tag, b'E', "a member of {power} is let in as a tenant");
    }
    assert_serves(&daemon);
}
