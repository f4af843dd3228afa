//! Logins that succeed, and wrong passwords that do not: every way in which PostgreSQL may ask,
//! under every setting of `auth`.

use std::io::Read;

use postgres::NoTls;
use testing::{
    ACME, Daemon, FakeUpstream, GLOBEX, Message, PASSWORD, TENANTS, Tamper, binding, bound,
    cluster, contacts, sqlstate, startup_message,
};

const WRONG: &str = "not-the-password";

/// What a password request asks for: the first word of an Authentication message.
const CLEARTEXT: u8 = 3;
const SASL: u8 = 10;

const SSL_REQUEST: i32 = 80_877_103;
const GSSENC_REQUEST: i32 = 80_877_104;

#[test]
fn a_login_with_a_tenant_becomes_the_role_with_the_tenant_bound() {
    let daemon = Daemon::start();
    for user in ["trust_user", "clear_user", "md5_user", "scram_user", "app_user"] {
        let mut client = daemon.connect(&format!("{user}.acme"));
        assert_eq!(bound(&mut client), binding("acme", user));
        assert_eq!(contacts(&mut client), ACME);
    }
}

#[test]
fn a_connect_string_needs_nothing_but_the_tenant_behind_the_user() {
    let daemon = Daemon::start();
    let url = daemon.connect_string("scram_user.globex", PASSWORD, TENANTS);
    let mut client = postgres::Client::connect(&url, NoTls).expect("login");
    assert_eq!(contacts(&mut client), GLOBEX);
}

#[test]
fn auth_relay_passes_on_what_a_relay_can() {
    let daemon = Daemon::with(&[("auth", "relay")]);
    let_in(&daemon, &["trust_user", "clear_user", "scram_user"]);
    refuse_wrong_password(&daemon, &["clear_user", "scram_user"]);
    assert_eq!(first_request(&daemon, "clear_user.acme"), CLEARTEXT);
    assert_eq!(first_request(&daemon, "scram_user.acme"), SASL);
}

#[test]
fn auth_relay_refuses_md5_and_says_what_to_change() {
    let daemon = Daemon::with(&[("auth", "relay")]);
    let mut raw = daemon.raw();
    raw.send_startup(&[("user", "md5_user.acme"), ("database", TENANTS)]);
    let refusal = raw.read_refusal();
    assert_eq!((refusal.severity.as_str(), refusal.sqlstate.as_str()), ("FATAL", "28000"));
    assert!(refusal.hint.is_some(), "{refusal:?}");
}

#[test]
fn auth_password_asks_for_the_password_and_answers_upstream_with_it() {
    let daemon = Daemon::with(&[("auth", "password")]);
    let_in(&daemon, &["trust_user", "clear_user", "md5_user", "scram_user"]);
    refuse_wrong_password(&daemon, &["clear_user", "md5_user", "scram_user"]);
    for user in ["clear_user.acme", "md5_user.acme", "scram_user.acme"] {
        assert_eq!(first_request(&daemon, user), CLEARTEXT, "{user}");
    }
}

#[test]
fn auth_auto_relays_and_asks_for_the_password_only_where_upstream_wants_md5() {
    let daemon = Daemon::with(&[("auth", "auto")]);
    let_in(&daemon, &["trust_user", "clear_user", "md5_user", "scram_user"]);
    refuse_wrong_password(&daemon, &["clear_user", "md5_user", "scram_user"]);
    assert_eq!(first_request(&daemon, "clear_user.acme"), CLEARTEXT);
    assert_eq!(first_request(&daemon, "md5_user.acme"), CLEARTEXT);
    assert_eq!(first_request(&daemon, "scram_user.acme"), SASL);
}

#[test]
fn a_wrong_password_leaves_nothing_behind() {
    let daemon = Daemon::start();
    for user in ["clear_user.acme", "md5_user.acme", "scram_user.acme"] {
        let error = daemon.config(user).password(WRONG).connect(NoTls).err().expect(user);
        assert_eq!(sqlstate(&error), "28P01");
    }
    daemon.wait_until_idle();
}

#[test]
fn a_password_of_any_bytes_reaches_upstream_unaltered() {
    let password = r#" ünï'cö"dé\ %41 : . "#;
    let mut superuser = cluster().superuser(TENANTS);
    for (encryption, group, auth) in
        [("md5", "by_md5", "auto"), ("scram-sha-256", "by_scram", "password")]
    {
        let role = format!("odd_{auth}");
        superuser
            .batch_execute(&format!(
                "set password_encryption = '{encryption}';
                 create role {role} login password $odd${password}$odd$ in role {group}"
            ))
            .expect("role");
        let daemon = Daemon::with(&[("auth", auth)]);
        let mut config = daemon.config(&format!("{role}.acme"));
        let mut client = config.password(password).connect(NoTls).expect("login");
        assert_eq!(bound(&mut client), binding("acme", &role));
        let error = config.password(WRONG).connect(NoTls).err().expect("a wrong password");
        assert_eq!(sqlstate(&error), "28P01");
    }
}

#[test]
fn with_auth_password_an_upstream_that_does_not_know_the_secret_is_refused() {
    // SASLFinal carries the server's signature; this one is not made with the password.
    let fake = FakeUpstream::tamper(cluster(), || {
        |message: &Message| match (message.tag, message.body.get(3)) {
            (b'R', Some(12)) => {
                let signature = "v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
                let body = [12i32.to_be_bytes().as_slice(), signature.as_bytes()].concat();
                Tamper::Replace(vec![Message::new(b'R', body)])
            }
            _ => Tamper::Pass,
        }
    });
    let port = fake.port().to_string();
    let daemon = Daemon::with(&[("auth", "password"), ("upstream_port", &port)]);
    let mut raw = daemon.raw();
    raw.send_startup(&[("user", "scram_user.acme"), ("database", TENANTS)]);
    assert_eq!(raw.read_message().tag, b'R');
    raw.send_message(&Message::password(PASSWORD));
    let refusal = raw.read_refusal();
    assert_eq!(refusal.severity, "FATAL");
    assert_ne!(refusal.sqlstate, "28P01", "the password was right: {refusal:?}");
    daemon.wait_until_idle();
}

#[test]
fn a_database_named_like_the_login_means_the_one_named_like_the_role() {
    let daemon = Daemon::start();
    let mut config = daemon.config("app_user.acme");
    let mut client = config.dbname("app_user.acme").connect(NoTls).expect("login");
    let database: String = client.query_one("select current_database()", &[]).unwrap().get(0);
    assert_eq!(database, "app_user");

    let mut raw = daemon.raw();
    raw.send_startup(&[("user", "app_user.acme")]);
    let last = raw.read_until(b"ZE").pop().expect("a message");
    assert_eq!(last.tag, b'Z', "{last:?}");
    assert_eq!(raw.query_value("select current_database()"), "app_user");
}

#[test]
fn a_client_that_would_rather_have_encryption_goes_on_without() {
    let daemon = Daemon::start();
    for requests in [&[SSL_REQUEST][..], &[GSSENC_REQUEST, SSL_REQUEST], &[GSSENC_REQUEST]] {
        let mut raw = daemon.raw();
        for request in requests {
            raw.send(&[8, *request].map(i32::to_be_bytes).concat());
            let mut answer = [0];
            raw.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"N");
        }
        raw.login("app_user.acme", TENANTS);
        assert_eq!(raw.query_value("select count(*)::text from contacts"), "2");
    }
}

#[test]
fn a_newer_minor_version_is_upstreams_to_negotiate() {
    let daemon = Daemon::start();
    for user in ["trust_user.acme", "postgres"] {
        let mut startup =
            startup_message(&[("user", user), ("database", TENANTS), ("_pq_.not_yet", "1")]);
        startup[6..8].copy_from_slice(&9999_u16.to_be_bytes());
        let mut raw = daemon.raw();
        raw.send(&startup);
        let tags: Vec<u8> = raw.read_until(b"ZE").iter().map(|message| message.tag).collect();
        assert_eq!(tags[..2], *b"vR", "{user}: {tags:?}");
        assert_eq!(tags.last(), Some(&b'Z'), "{user}: {tags:?}");
        assert_eq!(tags.iter().filter(|tag| **tag == b'v').count(), 1, "{user}: {tags:?}");
    }
}

#[test]
fn startup_parameters_of_the_client_stay_in_force() {
    let daemon = Daemon::start();
    let mut config = daemon.config("app_user.acme");
    config.application_name("accounts").options("-c statement_timeout=12345");
    let mut client = config.connect(NoTls).expect("login");
    let sql = "select current_setting('application_name'), current_setting('statement_timeout')";
    let row = client.query_one(sql, &[]).unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("accounts", "12345ms"));
}

#[test]
fn several_context_variables_are_bound_in_their_order() {
    let daemon = Daemon::with(&[("context_variables", "app.current_list_id,app.current_user_id")]);
    let mut client = daemon.connect("app_user.list123:user456");
    let rows = client.query("select body from list_items", &[]).unwrap();
    let bodies: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(bodies, ["mine in my list"]);

    let mut swapped = daemon.connect("app_user.user456:list123");
    assert!(swapped.query("select body from list_items", &[]).unwrap().is_empty());
}

#[test]
fn other_separators_split_the_login_instead_of_the_default_ones() {
    let daemon = Daemon::with(&[
        ("context_variables", "app.current_list_id,app.current_user_id"),
        ("tenant_separator", "+"),
        ("value_separator", "/"),
    ]);
    let mut client = daemon.connect("app_user+list123/user789");
    let rows = client.query("select body from list_items", &[]).unwrap();
    let bodies: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(bodies, ["another's in my list"]);
    let error = daemon.try_connect("app_user.list123:user789").err().expect("no separator in it");
    assert_eq!(sqlstate(&error), "28000");
}

#[test]
fn users_of_the_bypass_list_pass_straight_through() {
    let daemon = Daemon::with(&[("superuser_bypass", "postgres,other_superuser,trust_user")]);
    for user in ["postgres", "other_superuser"] {
        let mut client = daemon.connect(user);
        assert_eq!(contacts(&mut client).len(), 5);
        let expected = [None, Some(user.to_owned()), Some(user.to_owned())];
        assert_eq!(bound(&mut client), expected);
    }
    // The list lets in, it does not lift: policies hold for an ordinary role in it.
    assert!(contacts(&mut daemon.connect("trust_user")).is_empty());
}

#[test]
fn a_user_of_the_bypass_list_still_needs_its_password() {
    let daemon = Daemon::with(&[("superuser_bypass", "scram_user")]);
    let mut client = daemon.connect("scram_user");
    assert_eq!(bound(&mut client)[1].as_deref(), Some("scram_user"));
    let error = daemon.config("scram_user").password(WRONG).connect(NoTls).err().expect("refusal");
    assert_eq!(sqlstate(&error), "28P01");
}

fn let_in(daemon: &Daemon, users: &[&str]) {
    for user in users {
        let mut client = daemon.connect(&format!("{user}.acme"));
        assert_eq!(bound(&mut client), binding("acme", user));
        assert_eq!(contacts(&mut client), ACME);
    }
}

fn refuse_wrong_password(daemon: &Daemon, users: &[&str]) {
    for user in users {
        let mut config = daemon.config(&format!("{user}.acme"));
        let error = config.password(WRONG).connect(NoTls).err().expect("a wrong password");
        assert_eq!(sqlstate(&error), "28P01", "{user}");
    }
}

fn first_request(daemon: &Daemon, user: &str) -> u8 {
    let mut raw = daemon.raw();
    raw.send_startup(&[("user", user), ("database", TENANTS)]);
    let message = raw.read_message();
    assert_eq!(message.tag, b'R', "{message:?}");
    message.body[3]
}
