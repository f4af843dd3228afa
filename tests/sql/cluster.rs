//! The ground the other tests stand on, without Multigres: what the cluster lets in directly,
//! and what its policies show.

use postgres::NoTls;
use testing::{FakeUpstream, Message, PASSWORD, Raw, TENANTS, Tamper, cluster, sqlstate};

#[test]
fn every_authentication_method_lets_its_role_in_and_asks_for_the_password() {
    // What the password request of the method is: none, cleartext, MD5, SASL.
    for (user, request) in
        [("trust_user", 0), ("clear_user", 3), ("md5_user", 5), ("scram_user", 10)]
    {
        let address = ([127, 0, 0, 1], cluster().port()).into();
        let mut raw = Raw::tcp(address);
        raw.send_startup(&[("user", user), ("database", TENANTS)]);
        let message = raw.read_message();
        assert_eq!((message.tag, message.body[3]), (b'R', request), "{user}");

        cluster().direct(user, TENANTS).connect(NoTls).expect(user);
        let wrong = cluster().direct(user, TENANTS).password("wrong").connect(NoTls);
        match wrong {
            Ok(_) => assert_eq!(user, "trust_user"),
            Err(error) => assert_eq!(sqlstate(&error), "28P01", "{user}"),
        }
    }
}

#[test]
fn every_address_of_the_cluster_answers() {
    let mut hosts = vec!["127.0.0.1", cluster().socket_folder().to_str().unwrap()];
    if cluster().ipv6() {
        hosts.push("::1");
    }
    for host in hosts {
        for user in ["trust_user", "clear_user", "md5_user", "scram_user"] {
            let mut config = postgres::Config::new();
            config.host(host).port(cluster().port()).user(user).dbname(TENANTS).password(PASSWORD);
            config.connect(NoTls).unwrap_or_else(|error| panic!("{user} at {host}: {error}"));
        }
    }
}

#[test]
fn the_policies_show_the_tenant_its_rows_and_nobody_anything_else() {
    let names = |options: &str| -> Vec<String> {
        let mut config = cluster().direct("trust_user", TENANTS);
        let mut client = config.options(options).connect(NoTls).expect("login");
        let rows = client.query("select name from contacts order by id", &[]).expect("select");
        rows.iter().map(|row| row.get(0)).collect()
    };
    assert_eq!(names("-c app.current_tenant_id=acme"), ["Ada", "Alan"]);
    assert_eq!(names("-c app.current_tenant_id=globex"), ["Grace", "Guido", "Gerald"]);
    assert!(names("-c app.current_tenant_id=").is_empty());
    assert!(names("").is_empty());
}

#[test]
fn roles_that_postgresql_refuses_are_refused_for_the_expected_reason() {
    for (user, database, expected) in [
        ("reject_user", TENANTS, "28000"),
        ("expired_user", TENANTS, "28P01"),
        ("nologin_user", TENANTS, "28000"),
        ("full_user", TENANTS, "53300"),
        ("app_user", "locked", "42501"),
        ("app_user", "nowhere", "3D000"),
    ] {
        let error = cluster().direct(user, database).connect(NoTls).err().expect(user);
        assert_eq!(sqlstate(&error), expected, "{user} in {database}");
    }
}

#[test]
fn a_tampering_upstream_changes_what_it_is_told_to_change() {
    let fake = FakeUpstream::tamper(cluster(), || {
        |message: &Message| match message.tag {
            b'D' => Tamper::Replace(vec![Message::new(b'D', b"\0\x01\0\0\0\x02no".as_slice())]),
            b'K' => Tamper::Replace(vec![]),
            _ => Tamper::Pass,
        }
    });
    let mut raw = Raw::tcp(([127, 0, 0, 1], fake.port()).into());
    let greeting = raw.login("trust_user", TENANTS);
    assert!(greeting.iter().all(|message| message.tag != b'K'));
    assert_eq!(raw.query_value("select 'yes'"), "no");
    assert_eq!(fake.accepted(), 1);
}

#[test]
fn a_scripted_upstream_reads_the_startup_and_answers_as_it_likes() {
    let fake = FakeUpstream::serve(|mut raw| {
        let startup = raw.read_startup();
        raw.send_message(&Message::error("FATAL", "3D000", &format!("{startup:?}")));
    });
    let mut raw = Raw::tcp(([127, 0, 0, 1], fake.port()).into());
    raw.send_startup(&[("user", "someone"), ("options", "")]);
    let refusal = raw.read_refusal();
    assert_eq!(refusal.sqlstate, "3D000");
    assert_eq!(refusal.message, r#"[("user", "someone"), ("options", "")]"#);
}

#[test]
fn the_clusters_log_tells_who_has_logged_in() {
    let mut client = cluster().direct("trust_user", TENANTS).connect(NoTls).expect("login");
    let pid: i32 = client.query_one("select pg_backend_pid()", &[]).expect("a select").get(0);
    let line = format!("{pid} trust_user@{TENANTS} LOG:  connection authorized:");
    assert!(cluster().log().contains(&line), "no line {line:?}");
}
