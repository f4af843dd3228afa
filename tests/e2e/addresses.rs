//! Every kind of address, on both sides.

use std::net::SocketAddr;

use postgres::{Config, NoTls};
use testing::{
    ACME, Cluster, DEADLINE, Daemon, FakeUpstream, PASSWORD, Raw, Run, Signal, TENANTS, cluster,
    contacts, sqlstate, swallow,
};

/// Logs in at a host (or folder of a unix socket) and sees the tenant's rows.
fn check_login(host: &str, port: u16, user: &str) {
    let mut config = Config::new();
    config.host(host).port(port).user(user).password(PASSWORD).dbname(TENANTS);
    let mut client = config.connect_timeout(DEADLINE).connect(NoTls).unwrap_or_else(|error| {
        panic!("{user} at {host}:{port}: {error:?}");
    });
    assert_eq!(contacts(&mut client), ACME);
}

/// Every address the cluster has, as `upstream_host` takes it.
fn upstreams(cluster: &Cluster) -> Vec<String> {
    let folder = cluster.socket_folder().to_str().unwrap().to_owned();
    let mut hosts = vec!["127.0.0.1".to_owned(), "localhost".to_owned(), folder];
    if cluster.ipv6() {
        hosts.push("::1".to_owned());
    }
    hosts
}

#[test]
fn upstream_is_reached_by_address_by_name_and_through_a_unix_socket() {
    for host in upstreams(cluster()) {
        let daemon = Daemon::with(&[("upstream_host", &host)]);
        for user in ["trust_user.acme", "clear_user.acme", "md5_user.acme", "scram_user.acme"] {
            check_login("127.0.0.1", daemon.port(), user);
        }
        daemon.wait_until_idle();
    }
}

#[test]
fn a_cancel_request_takes_the_same_way_as_the_login() {
    for host in upstreams(cluster()) {
        let daemon = Daemon::with(&[("upstream_host", &host)]);
        let mut client = daemon.connect("app_user.acme");
        let pid: i32 = client.query_one("select pg_backend_pid()", &[]).unwrap().get(0);
        let token = client.cancel_token();
        let sleeper = std::thread::spawn(move || client.batch_execute("select pg_sleep(600)"));
        cluster().wait_until(&format!(
            "select exists (select from pg_stat_activity
                 where pid = {pid} and wait_event = 'PgSleep')"
        ));
        token.cancel_query(NoTls).unwrap();
        assert_eq!(sqlstate(&sleeper.join().unwrap().unwrap_err()), "57014", "{host}");
    }
}

#[test]
fn every_address_of_a_name_is_tried() {
    // On a machine with IPv6, localhost has an address where this upstream does not listen.
    let fake = FakeUpstream::serve(|mut raw| {
        raw.read_startup();
        raw.send_message(&testing::Message::error("FATAL", "XX000", "reached"));
        swallow(&mut raw);
    });
    let daemon = Run::upstream(fake.port()).set("upstream_host", "localhost").start();
    let error = daemon.try_connect("app_user.acme").err().expect("the fake refuses");
    assert_eq!(sqlstate(&error), "XX000", "{error:?}");
}

#[test]
fn it_listens_on_every_address_it_is_given() {
    let mut hosts = vec!["127.0.0.1"];
    if cluster().ipv6() {
        hosts.push("::1");
    }
    let daemon = Daemon::with(&[("listen_host", &hosts.join(","))]);
    daemon.wait_for_logs("listening on ", hosts.len());
    let lines = daemon.log();
    let addresses: Vec<SocketAddr> =
        lines.iter().filter_map(|line| line.split_once("listening on ")?.1.parse().ok()).collect();
    assert_eq!(addresses.len(), hosts.len(), "{lines:?}");
    for (address, host) in addresses.iter().zip(&hosts) {
        assert_eq!(address.ip().to_string(), *host);
        check_login(host, address.port(), "scram_user.acme");
    }
}

#[test]
fn it_listens_on_the_addresses_of_a_name() {
    let daemon = Daemon::with(&[("listen_host", "localhost")]);
    assert!(daemon.address().ip().is_loopback());
    check_login(&daemon.address().ip().to_string(), daemon.port(), "app_user.acme");
}

#[test]
fn it_listens_on_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let host = folder.path().to_str().unwrap();
    // The port of a unix socket is but a part of its name.
    let daemon = Daemon::with(&[("listen_host", host), ("port", "6432")]);
    assert_eq!(daemon.listening_on(), format!("{host}/.s.PGSQL.6432"));
    for user in ["trust_user.acme", "clear_user.acme", "md5_user.acme", "scram_user.acme"] {
        check_login(host, 6432, user);
    }
    let mut raw = Raw::unix(&folder.path().join(".s.PGSQL.6432"));
    raw.login("app_user.acme", TENANTS);
    assert_eq!(raw.query_value("select count(*)::text from contacts"), "2");
    drop(raw);
    daemon.wait_until_idle();
}

#[test]
fn it_goes_from_a_unix_socket_to_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let host = folder.path().to_str().unwrap();
    let upstream = cluster().socket_folder().to_str().unwrap();
    let _daemon = Daemon::with(&[
        ("listen_host", host),
        ("port", "6432"),
        ("upstream_host", upstream),
        ("auth", "password"),
    ]);
    check_login(host, 6432, "scram_user.acme");
}

#[test]
fn a_unix_socket_is_gone_after_the_end_and_a_stale_one_is_no_hindrance() {
    let folder = tempfile::tempdir().unwrap();
    let host = folder.path().to_str().unwrap();
    let path = folder.path().join(".s.PGSQL.6432");
    let start = || Daemon::with(&[("listen_host", host), ("port", "6432")]);

    // Dropped means killed: the file stays.
    drop(start());
    assert!(path.exists());
    let mut daemon = start();
    check_login(host, 6432, "app_user.acme");
    daemon.signal(Signal::TERM);
    assert!(daemon.wait_for_exit().success());
    assert!(!path.exists());
}

#[test]
fn an_address_in_use_is_an_error_that_names_it() {
    let daemon = Daemon::start();
    let port = daemon.port().to_string();
    let output = Run::on(cluster()).set("port", &port).output();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains(&format!("127.0.0.1:{port}")), "{text}");
    assert_eq!(contacts(&mut daemon.connect("app_user.acme")), ACME);
}

#[test]
fn a_unix_socket_in_use_is_not_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let host = folder.path().to_str().unwrap();
    let _daemon = Daemon::with(&[("listen_host", host), ("port", "6432")]);
    let output = Run::on(cluster()).set("listen_host", host).set("port", "6432").output();
    assert!(!output.status.success());
    check_login(host, 6432, "app_user.acme");
}
