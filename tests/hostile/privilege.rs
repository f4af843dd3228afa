//! Roles that row-level security does not hold, or that can make themselves such a role.

use testing::{Daemon, Run, TENANTS, UNBOUND_ROLES, cluster, empty_database, set_up_database};

use crate::after_attack::{assert_serves, refused};

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

/// Whether a tenant of this role, in a database of its own, is refused as the owner that it is.
fn is_refused_as_owner(daemon: &Daemon, role: &str, database: &str) -> bool {
    let mut raw = daemon.raw();
    raw.send_startup(&[("user", &format!("{role}.acme")), ("database", database)]);
    let last = raw.read_until(b"ZE").pop().unwrap();
    if last.tag == b'Z' {
        return false;
    }
    let refusal = last.error_fields();
    assert_eq!(refusal.sqlstate, "28000", "{refusal:?}");
    assert!(refusal.message.contains("owner of protected tables"), "{refusal:?}");
    true
}

/// Each way to own what isolates tenants, in databases with and without `sql/setup.sql`.
#[test]
fn the_owner_of_what_isolates_tenants_is_no_tenant() {
    let mut server = cluster().superuser("postgres");
    server
        .batch_execute(
            "create role migrator login; create role migrators nologin;
             create role one_of_them login noinherit in role migrators;
             create role bystander login",
        )
        .unwrap();
    let daemon = Run::on(cluster()).set("verify_ttl", "0").start();
    let plain = empty_database("owned_plain");
    let mut superuser = cluster().superuser(&plain);
    superuser
        .batch_execute(
            "create schema app;
             create table app.notes (tenant_id text, body text);
             create table app.members (tenant_id text);
             create table app.unprotected ();
             alter table app.unprotected owner to bystander;
             create function app.tenant() returns text stable language sql
                 as 'select current_setting(''app.current_tenant_id'')';
             alter table app.notes enable row level security;
             create policy one_tenant on app.notes using (
                 tenant_id = app.tenant() and exists (select from app.members))",
        )
        .unwrap();
    for owned in ["table app.notes", "table app.members", "function app.tenant()", "schema app"] {
        let give = |to: &str| format!("alter {owned} owner to {to}");
        superuser.batch_execute(&give("migrator")).unwrap();
        assert!(is_refused_as_owner(&daemon, "migrator", &plain), "the owner of {owned}");
        superuser.batch_execute(&give("migrators")).unwrap();
        assert!(is_refused_as_owner(&daemon, "one_of_them", &plain), "a member for {owned}");
        superuser.batch_execute(&give("postgres")).unwrap();
        for role in ["migrator", "one_of_them", "bystander"] {
            assert!(!is_refused_as_owner(&daemon, role, &plain), "{role} owns no {owned} any more");
        }
    }
    let database = set_up_database("owned");
    superuser = cluster().superuser(&database);
    superuser
        .batch_execute(
            "create table notes (tenant_id text, body text); alter table notes owner to migrator;
             select public.multigres_protect('notes')",
        )
        .unwrap();
    assert!(is_refused_as_owner(&daemon, "migrator", &database));
    // Nor does another database matter, or a name of one's own in front of pg_catalog.
    assert!(!is_refused_as_owner(&daemon, "migrator", &plain));
    server.batch_execute("alter role migrator set search_path = evil, pg_catalog").unwrap();
    superuser
        .batch_execute(
            "create schema evil; grant usage on schema evil to public;
             create view evil.pg_depend as select * from pg_catalog.pg_depend where false;
             create view evil.pg_shdepend as select * from pg_catalog.pg_shdepend where false;
             create function evil.pg_has_role(name, oid, text) returns boolean language sql
                 as 'select false';
             grant select on all tables in schema evil to public",
        )
        .unwrap();
    assert!(is_refused_as_owner(&daemon, "migrator", &database));
    assert_serves(&daemon);
}
