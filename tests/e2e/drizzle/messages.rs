//! The table of messages at the end of the page: each row is provoked, and compared with what
//! comes. Knows the table's form alone.

use postgres::{Client, NoTls};
use testing::{Daemon, PASSWORD, Run, SEAL_KEY, SETUP, dead_port};

use super::{PAGE, Story};

/// # Panics
/// When a row of the page's table has its message from nobody: `logged` by the application, or
/// provoked here.
pub(super) fn each_was_seen(story: &Story, logged: &[String]) {
    let mut seen = logged.to_vec();
    seen.extend(logins(story));
    seen.extend(queries(story));
    let rows: Vec<(&str, &str)> = PAGE.lines().filter_map(row).collect();
    assert!(rows.len() > 10, "the table has {} rows", rows.len());
    for (sqlstate, message) in rows {
        let is_seen = seen
            .iter()
            .any(|line| line.contains(message) && (sqlstate == "–" || line.contains(sqlstate)));
        assert!(is_seen, "nobody says {sqlstate} {message}:\n{}", seen.join("\n"));
    }
}

/// The SQLSTATE and the message of a row.
fn row(line: &str) -> Option<(&str, &str)> {
    let (sqlstate, rest) = line.strip_prefix("| ")?.split_once(" | `")?;
    let is_sqlstate = sqlstate == "–" || sqlstate.len() == 5;
    is_sqlstate.then(|| rest.split_once('`')).flatten().map(|(message, _)| (sqlstate, message))
}

fn logins(story: &Story) -> Vec<String> {
    let mut superuser = story.superuser();
    superuser
        .batch_execute("create role other_admin login createrole; alter role migrator nocreaterole")
        .unwrap();
    let daemon = story.daemon(&[("max_connections", "1")]);
    let mut seen = Vec::new();
    for user in ["app_user", "app_user.a:b", "app_user.", "migrator.acme", "other_admin.acme"] {
        seen.push(refusal(&daemon, user, PASSWORD));
    }
    seen.push(refusal(&daemon, "app_user.acme", "wrong"));
    let mut raw = daemon.raw();
    raw.send_startup(&[("user", "app_user.acme"), ("app.current_tenant_id", "globex")]);
    let fields = raw.read_refusal();
    seen.push(format!("{} {}", fields.sqlstate, fields.message));
    let session = daemon.config("app_user.acme").dbname("mydb").connect(NoTls).unwrap();
    seen.push(refusal(&daemon, "app_user.acme", PASSWORD));
    drop(session);

    let (_taken, port) = dead_port();
    let unreachable = Run::upstream(port).start();
    seen.push(refusal(&unreachable, "app_user.acme", PASSWORD));

    superuser.batch_execute("create database sealed owner migrator").unwrap();
    let mut owner = story.cluster.superuser("sealed");
    owner.batch_execute(&SETUP).unwrap();
    owner.batch_execute(&format!("select multigres_seal('{SEAL_KEY}', 'none')")).unwrap();
    let sealed = daemon.config("app_user.acme").dbname("sealed").connect(NoTls);
    seen.push(told(&sealed.err().expect("the daemon has no key")));
    seen
}

fn refusal(daemon: &Daemon, user: &str, password: &str) -> String {
    let mut config = daemon.config(user);
    config.dbname("mydb").password(password);
    told(&config.connect(NoTls).err().unwrap_or_else(|| panic!("{user} got in")))
}

fn queries(story: &Story) -> Vec<String> {
    story.migrator().batch_execute("create table bare (tenant_id text, note text)").unwrap();
    let daemon = story.daemon(&[]);
    let mut acme = daemon.config("app_user.acme").dbname("mydb").connect(NoTls).unwrap();
    let insert = "insert into contacts (email) values ('twice')";
    acme.batch_execute(insert).unwrap();
    let lock = "select pg_advisory_xact_lock(1)";
    acme.batch_execute(lock).expect("the page keeps them");
    story.superuser().batch_execute("select multigres_harden()").unwrap();
    story.migrator().batch_execute(lock).expect("who ran setup.sql keeps them");
    let mut seen = |statement: &str| error_of(&mut acme, statement);
    vec![
        seen(insert),
        seen("insert into contacts (tenant_id, email) values ('globex', 'x')"),
        seen("insert into contacts (email) values ('x') on conflict (email) do nothing"),
        seen("select * from bare"),
        seen(lock),
    ]
}

fn error_of(client: &mut Client, statement: &str) -> String {
    told(&client.batch_execute(statement).expect_err(statement))
}

fn told(error: &postgres::Error) -> String {
    let error = error.as_db_error().unwrap_or_else(|| panic!("not from PostgreSQL: {error}"));
    format!("{} {}", error.code().code(), error.message())
}
