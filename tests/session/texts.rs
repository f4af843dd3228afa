//! What the log is told of a login and of its refusal, beyond what the client is told. Knows
//! nothing of when a login is refused.

use testing::session::{Cast, Play, message, startup};

use crate::{acme, answer, ok, parameter, row, start};

/// Half a login, then this of upstream's: what the log is told.
fn told(before: &[u8], wrong: &[u8]) -> String {
    let mut play = acme(Cast::whole());
    play.upstream(before);
    play.upstream(wrong);
    play.refusal()
}

fn described(cast: Cast, parameters: &[(&str, &str)]) -> String {
    let mut play = Play::new(cast);
    play.client(&startup(parameters));
    play.described()
}

#[test]
fn a_login_is_described_by_its_role_context_and_database() {
    assert_eq!(Play::new(Cast::whole()).described(), "", "it is not known yet");
    assert_eq!(
        described(Cast::whole(), &[("user", "app_user.acme"), ("database", "crm")]),
        " role=app_user context=app.current_tenant_id=acme database=crm"
    );
    assert_eq!(
        described(Cast::whole().two_variables(), &[("user", "app_user.acme:ada")]),
        " role=app_user context=app.current_tenant_id=acme,App.User=ada database=app_user"
    );
    assert_eq!(
        described(Cast::whole(), &[("user", "postgres")]),
        " role=postgres bypass database=postgres"
    );
}

#[test]
fn a_name_in_the_log_is_one_word_and_cut_where_a_good_one_ends() {
    let login = [("user", "app user.a, c"), ("database", "c\tr\"m\n\u{e9}")];
    assert_eq!(
        described(Cast::whole(), &login),
        " role=app\\x20user context=app.current_tenant_id=a\\x2c\\x20c \
         database=c\\tr\\\"m\\n\\xc3\\xa9"
    );
    let (longest, long) = ("d".repeat(128), "d".repeat(129));
    for database in [&longest, &long] {
        let told = described(Cast::whole(), &[("user", "postgres"), ("database", database)]);
        assert_eq!(told, format!(" role=postgres bypass database={longest}"));
    }
}

#[test]
fn a_refused_name_is_quoted_for_the_log_and_cut() {
    let refused = |user: &str| {
        let mut play = Play::new(Cast::whole());
        play.client(&startup(&[("user", user)]));
        play.refusal()
    };
    let reason = |text: &str| format!("fault=client sqlstate=28000 reason={text:?}");
    let no_user = reason("no PostgreSQL user name specified in startup packet");
    assert_eq!(refused(""), no_user);
    let mut play = Play::new(Cast::whole());
    play.client(&startup(&[("database", "crm")]));
    assert_eq!(play.refusal(), no_user);
    for (user, text) in [
        ("a\"\n", "no tenant specified in user name: user a\\\"\\n"),
        (".acme", "invalid role in user name: user .acme"),
        ("postgres.acme", "this role cannot log in as a tenant: user postgres.acme"),
        ("u.a:b", "wrong number of context values in user name: user u.a:b"),
        ("u.\u{e9}", "invalid context value in user name: user u.\\xc3\\xa9"),
    ] {
        assert_eq!(refused(user), reason(text));
    }
    let long = refused(&"x".repeat(300));
    assert!(long.ends_with("xxx\"…") && long.len() < 300, "{long}");
}

#[test]
fn a_login_role_is_named_in_a_hint_as_far_as_every_encoding_spells_it() {
    let hint = |user: &str| {
        let mut play = Play::new(Cast::whole());
        play.client(&startup(&[("user", user)]));
        let said = String::from_utf8_lossy(&play.expect_refusal("28000")).into_owned();
        said.split("\0H").nth(1).and_then(|hint| hint.split('\0').next()).unwrap().to_owned()
    };
    let longest = "r".repeat(63);
    for role in ["a", "Az09_-", &longest] {
        assert_eq!(hint(role), format!("Log in as {role}.TENANT"));
    }
    for role in ["a b", "a\"", "\u{e9}", &format!("{longest}r")] {
        assert_eq!(hint(role), "Log in as ROLE.TENANT");
    }
}

/// Each message of the answer, by its name in PostgreSQL's manual.
#[test]
fn a_message_in_place_of_another_is_named_with_it() {
    let names = ["ParseComplete", "BindComplete", "DataRow", "CommandComplete"];
    let names = names.into_iter().cycle().take(12).chain(["CloseComplete", "ReadyForQuery"]);
    for (at, name) in names.enumerate() {
        let before = [start(), answer()[..at].concat()].concat();
        let reason = "the tenant context could not be bound to the session";
        let reason = format!("{reason}: a message of type 'G' in place of {name}");
        let expected = format!("fault=upstream sqlstate=08004 reason={reason:?}");
        assert_eq!(told(&before, &message(b'G', b"")), expected);
    }
}

#[test]
fn the_log_says_what_was_wrong_with_the_answer() {
    let [user, none] = [Some("app_user"), Some("0")];
    let session = |value, users: [Option<&str>; 2], privileged, pid, keys| {
        row(&[Some(value), users[0], users[1], privileged, Some(pid), Some(keys)])
    };
    let users = [user, user];
    for (at, wrong, text) in [
        (2, row(&[Some("x")]), "the context did not become the session's default"),
        (6, row(&[Some("x"), user]), "set_config answered with other values"),
        (10, session("x", users, none, "42", "0"), "the context does not read back"),
        (
            10,
            session("acme", [user, Some("x")], none, "42", "0"),
            "current_user or session_user is another role",
        ),
        (
            10,
            session("acme", users, none, "43", "0"),
            "pg_backend_pid() is not the pid of BackendKeyData",
        ),
        (10, session("acme", users, none, "42", "1"), "a table of seal keys exists"),
        (10, row(&[Some("acme"), user, user]), "not the columns that were asked for"),
        (11, message(b'C', b"SELECT 0\0"), "not one row"),
        (13, message(b'Z', b"T"), "the session is not idle"),
        (5, crate::error("42501", b"no"), "upstream said 42501: no"),
    ] {
        let before = [start(), answer()[..at].concat()].concat();
        let reason = format!("the tenant context could not be bound to the session: {text}");
        let expected = format!("fault=upstream sqlstate=08004 reason={reason:?}");
        assert_eq!(told(&before, &wrong), expected);
    }
}

#[test]
fn the_log_says_what_was_wrong_before_the_batch() {
    let protocol = |text: &str| {
        let reason = format!("invalid message from upstream during login: {text}");
        format!("fault=upstream sqlstate=08P01 reason={reason:?}")
    };
    let stray = message(b'G', b"");
    let told_of_stray = told(&ok(), &stray);
    assert_eq!(told_of_stray, protocol("a message of type 'G' before ReadyForQuery"));
    let many = [ok(), parameter("x", &"y".repeat(60_000)).repeat(4)].concat();
    let mut play = acme(Cast::whole());
    many.chunks(4_096).for_each(|chunk| play.upstream(chunk));
    let more = parameter("x", &"y".repeat(60_000));
    more.chunks(4_096).for_each(|chunk| play.upstream(chunk));
    assert_eq!(play.refusal(), protocol("too much said before ReadyForQuery"));
    let mut play = acme(Cast::whole());
    play.upstream_ends();
    let reason = "upstream closed the connection during login: end of stream from upstream";
    assert_eq!(play.refusal(), format!("fault=upstream sqlstate=08006 reason={reason:?}"));
    let mut play = acme(Cast::whole());
    play.times_out();
    let reason = "canceling authentication due to timeout: login_timeout";
    assert_eq!(play.refusal(), format!("fault=upstream sqlstate=57014 reason={reason:?}"));
}
