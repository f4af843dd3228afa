//! What the log tells about a connection, and what it never tells.

use postgres::NoTls;
use testing::{Daemon, Message, PASSWORD, TENANTS, contacts, startup_message};

/// The value of `name=` in a log line.
fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let value = line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {name} in {line:?}"))
}

#[test]
fn a_session_has_one_line_at_its_start_and_one_at_its_end() {
    let daemon = Daemon::with(&[("log_level", "info")]);
    let mut raw = daemon.raw();
    raw.login("app_user.acme", TENANTS);
    let up = daemon.wait_for_log(" up ");
    assert_eq!(field(&up, "client"), raw.local_address().to_string());
    assert_eq!(field(&up, "role"), "app_user");
    assert!(up.contains("context=app.current_tenant_id=acme"), "{up}");
    assert_eq!(field(&up, "database"), TENANTS);
    let login = field(&up, "login");
    let (number, unit) = login.split_at(login.len() - 2);
    assert!(unit == "ms" && number.parse::<f64>().is_ok(), "{up}");

    drop(raw);
    let session = format!("session={} end ", field(&up, "session"));
    daemon.wait_for_log(&session);
    daemon.wait_until_idle();
    let lines = daemon.log();
    let about = format!("session={} ", field(&up, "session"));
    assert_eq!(lines.iter().filter(|line| line.contains(&about)).count(), 2, "{lines:?}");
}

#[test]
fn sessions_have_numbers_of_their_own() {
    let daemon = Daemon::start();
    for count in 1..=3 {
        daemon.connect("app_user.acme");
        daemon.wait_for_logs(" up ", count);
    }
    let lines = daemon.log();
    let mut numbers: Vec<u64> = lines
        .iter()
        .filter(|line| line.contains(" up "))
        .map(|line| field(line, "session").parse().unwrap())
        .collect();
    numbers.dedup();
    assert_eq!(numbers.len(), 3, "{lines:?}");
    assert!(numbers.is_sorted());
}

#[test]
fn a_refused_login_has_a_line_that_says_why() {
    let daemon = Daemon::with(&[("log_level", "info")]);
    for (count, (user, why)) in
        [("app_user", "tenant"), ("postgres.acme", "postgres"), ("other_superuser.acme", "super")]
            .into_iter()
            .enumerate()
    {
        assert!(daemon.try_connect(user).is_err());
        let line = daemon.wait_for_logs(" refused ", count + 1);
        assert!(line.to_lowercase().contains(why), "{line}");
        assert!(line.contains("client=127.0.0.1:"), "{line}");
    }
}

#[test]
fn what_upstream_refuses_has_its_line_too() {
    let daemon = Daemon::with(&[("log_level", "info")]);
    let mut config = daemon.config("app_user.acme");
    assert!(config.dbname("nowhere").connect(NoTls).is_err());
    let line = daemon.wait_for_log(" refused ");
    assert!(line.contains("3D000"), "{line}");
}

#[test]
fn no_password_no_key_and_no_sql_is_logged_at_any_level() {
    let secrets = ["wr0ng-horse", "select 'top-secret-sql'", "top-secret-value", PASSWORD];
    let mut keys = Vec::new();
    let mut lines = Vec::new();
    for auth in ["auto", "password"] {
        let daemon = Daemon::with(&[("log_level", "trace"), ("auth", auth)]);
        for user in ["clear_user.acme", "md5_user.acme", "scram_user.acme", "trust_user.acme"] {
            let mut client = daemon.connect(user);
            contacts(&mut client);
            client.batch_execute(secrets[1]).unwrap();
            client.query("select $1::text", &[&secrets[2]]).unwrap();
            let mut config = daemon.config(user);
            let _ = config.password(secrets[0]).connect(NoTls);
        }
        // A password where none is asked for, and SQL in a login that is refused.
        let mut raw = daemon.raw();
        let early = [
            startup_message(&[("user", "app_user")]),
            Message::password(PASSWORD).to_bytes(),
            Message::query(secrets[1]).to_bytes(),
        ];
        raw.send(&early.concat());
        raw.read_message();
        let mut raw = daemon.raw();
        let greeting = raw.login("app_user.acme", TENANTS);
        let key = greeting.iter().find(|message| message.tag == b'K').expect("BackendKeyData");
        keys.push(key.body[4..].to_vec());
        raw.query(secrets[1]);
        drop(raw);
        daemon.wait_until_idle();
        lines.extend(daemon.log());
    }
    assert!(lines.iter().any(|line| line.contains("TRACE")), "the level is in force");
    for line in &lines {
        for secret in secrets {
            assert!(!line.contains(secret), "{line}");
            assert!(!line.contains(&format!("{:?}", secret.as_bytes())), "{line}");
        }
        for key in &keys {
            let number = u32::from_be_bytes(key[..4].try_into().unwrap());
            assert!(!line.contains(&number.to_string()), "{line}");
            assert!(!line.contains(&(number.cast_signed()).to_string()), "{line}");
            assert!(!line.contains(&format!("{number:x}")), "{line}");
            assert!(!line.contains(&format!("{key:?}")), "{line}");
        }
    }
}

#[test]
fn nothing_a_client_sends_makes_a_line_of_its_own() {
    let daemon = Daemon::with(&[("log_level", "trace")]);
    let forged = "x\n12:00:00 [INFO] session=9999 up client=forged\r\x1b[2J";
    for parameters in [
        [("user", "app_user.acme"), ("database", forged)],
        [("user", forged), ("database", TENANTS)],
        [("user", "app_user.acme"), ("application_name", forged)],
        [("user", "app_user.acme"), (forged, "on")],
    ] {
        let mut raw = daemon.raw();
        raw.send_startup(&parameters);
        raw.read_until(b"EZ");
    }
    let role = format!("{forged}.acme");
    let mut raw = daemon.raw();
    raw.send_startup(&[("user", &role), ("database", TENANTS)]);
    raw.read_until(b"EZ");
    drop(raw);
    daemon.wait_until_idle();
    for line in daemon.log() {
        assert!(!line.contains("[INFO] session=9999") || line.contains("\\n"), "{line}");
        assert!(line.chars().all(|sign| !sign.is_control()), "{line:?}");
    }
}

#[test]
fn a_quiet_level_leaves_sessions_out() {
    let daemon = Daemon::with(&[("log_level", "info")]);
    drop(daemon.connect("app_user.acme"));
    daemon.wait_for_log(" end ");
    let lines = daemon.log();
    assert!(lines.iter().all(|line| !line.contains("DEBUG") && !line.contains("TRACE")));
}

#[test]
fn a_value_with_spaces_does_not_pose_as_other_fields() {
    let daemon = Daemon::start();
    drop(daemon.connect("app_user.acme database=forged login=0ms"));
    let up = daemon.wait_for_log(" up ");
    assert_eq!(field(&up, "database"), TENANTS, "{up}");
    assert_ne!(field(&up, "login"), "0ms", "{up}");

    assert!(daemon.try_connect("x sqlstate=00000 fault=nobody").is_err());
    let refused = daemon.wait_for_log(" refused ");
    assert_eq!(field(&refused, "sqlstate"), "28000", "{refused}");
}
