//! What the batch asks, statement by statement, with its parameters. Knows nothing of the answers.

use multigres::tenant::{GuardDemand, SealBind};

use testing::session::{Cast, Play, startup};

use crate::start;

/// The statements that a login sends, each with its parameters; they have no names.
fn batch(cast: Cast, user: &[u8]) -> Vec<(String, Vec<String>)> {
    let mut play = Play::new(cast);
    play.client(&startup(&[(&b"user"[..], user), (b"database", b"crm")]));
    play.take_to_upstream();
    play.upstream(&start());
    let sent = play.take_to_upstream();
    let mut rest = &sent[..];
    let mut statements = Vec::new();
    while rest[0] == b'P' {
        let mut parse = Reader(take(&mut rest, b'P'));
        assert_eq!(parse.text(), "");
        let sql = parse.text();
        let types = parse.number();
        let oids = parse.0.chunks(4).filter(|oid| *oid == [0, 0, 0, 25]).count();
        assert!(parse.0.len() == 4 * types && oids == types, "each is a text: {sql}");
        let mut bind = Reader(take(&mut rest, b'B'));
        assert_eq!([bind.text(), bind.text()], ["", ""]);
        assert_eq!(bind.number(), 0, "all in text");
        let parameters: Vec<String> = (0..bind.number()).map(|_| bind.value()).collect();
        assert_eq!(bind.0, [0, 0]);
        assert_eq!(parameters.len(), types);
        assert_eq!(take(&mut rest, b'E'), b"\0\0\0\0\0");
        statements.push((sql, parameters));
    }
    assert_eq!(rest, b"C\0\0\0\x06S\0S\0\0\0\x04");
    statements
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn text(&mut self) -> String {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap();
        let text = String::from_utf8(self.0[..end].to_vec()).unwrap();
        self.0 = &self.0[end + 1..];
        text
    }

    fn number(&mut self) -> usize {
        let (number, rest) = self.0.split_first_chunk().unwrap();
        self.0 = rest;
        usize::from(u16::from_be_bytes(*number))
    }

    fn value(&mut self) -> String {
        let (length, rest) = self.0.split_first_chunk().unwrap();
        let (value, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        self.0 = rest;
        String::from_utf8(value.to_vec()).unwrap()
    }
}

/// The body of the message that must come next.
fn take<'a>(rest: &mut &'a [u8], tag: u8) -> &'a [u8] {
    assert_eq!(rest[0], tag);
    let length = u32::from_be_bytes(rest[1..5].try_into().unwrap()) as usize;
    let (message, behind) = rest.split_at(1 + length);
    *rest = behind;
    &message[5..]
}

#[test]
fn defaults_are_read_the_context_is_set_and_all_is_read_back() {
    let [defaults, set, read] = batch(Cast::whole(), b"app_user.acme").try_into().unwrap();
    let tenant = "app.current_tenant_id";
    assert_eq!(defaults.0, "SELECT pg_catalog.current_setting($1, true)");
    assert_eq!(defaults.1, [tenant]);
    let sql = "SELECT pg_catalog.set_config($1, $2, false), pg_catalog.set_config($3, $4, false)";
    assert_eq!(set.0, sql);
    assert_eq!(set.1, [tenant, "acme", "role", "app_user"]);
    let begin = "SELECT pg_catalog.current_setting($1, true), current_user, session_user, CASE ";
    assert!(read.0.starts_with(begin), "{}", read.0);
    assert!(read.0.contains(" ELSE 0 END, pg_catalog.pg_backend_pid(), (SELECT "), "{}", read.0);
    assert!(read.0.ends_with("AND n.nspname OPERATOR(pg_catalog.=) 'public'))"), "{}", read.0);
    assert_eq!(read.1, [tenant]);
}

#[test]
fn a_second_variable_and_seals_come_in_their_order() {
    let cast = Cast::whole().two_variables().sealed(SealBind::None);
    let [defaults, set, read] = batch(cast, b"app_user.acme:ada").try_into().unwrap();
    let names =
        ["app.current_tenant_id", "app.current_tenant_id_seal", "App.User", "App.User_seal"];
    let settings = [1, 2, 3, 4].map(|at| format!("pg_catalog.current_setting(${at}, true)"));
    assert_eq!(defaults.0, format!("SELECT {}", settings.join(", ")));
    assert_eq!(defaults.1, names);
    let set_config =
        [1, 3, 5, 7, 9].map(|at| format!("pg_catalog.set_config(${at}, ${}, false)", at + 1));
    assert_eq!(set.0, format!("SELECT {}", set_config.join(", ")));
    let [tenant, user, role] = [0, 4, 8].map(|at| (set.1[at].as_str(), set.1[at + 1].as_str()));
    assert_eq!(tenant, ("app.current_tenant_id", "acme"));
    assert_eq!(user, ("App.User", "ada"));
    assert_eq!(role, ("role", "app_user"));
    assert!(read.0.starts_with(&format!("SELECT {}, current_user", settings.join(", "))));
    let verified = "pg_catalog.pg_backend_pid(), public.multigres_context($1), \
                    public.multigres_context($3), CASE ";
    assert!(read.0.contains(verified), "{}", read.0);
    assert_eq!(read.1, names);
}

/// It is asked for in the encoding of the database, which Multigres does not know: by its bytes.
#[test]
fn a_role_that_is_not_ascii_is_named_by_its_bytes() {
    let [_, set, read] = batch(Cast::whole(), b"us\xe9r.acme").try_into().unwrap();
    let encoding = "pg_catalog.getdatabaseencoding()";
    let role = format!("pg_catalog.convert_from(pg_catalog.decode($4, 'hex'), {encoding})");
    let set_role = format!("pg_catalog.set_config($3, {role}, false)");
    let answer = format!("pg_catalog.encode(pg_catalog.convert_to({set_role}, {encoding}), 'hex')");
    assert_eq!(set.0, format!("SELECT pg_catalog.set_config($1, $2, false), {answer}"));
    assert_eq!(set.1, ["app.current_tenant_id", "acme", "role", "7573e972"]);
    let in_digits = |user: &str| {
        let bytes = format!("pg_catalog.convert_to({user}::pg_catalog.text, {encoding})");
        format!("pg_catalog.encode({bytes}, 'hex')")
    };
    let users = format!("{}, {}", in_digits("current_user"), in_digits("session_user"));
    assert!(read.0.contains(&format!(", true), {users}, CASE ")), "{}", read.0);
}

#[test]
fn the_guard_is_asked_last_and_for_the_spelling_alone_where_its_verdict_is_kept() {
    let cast = Cast::whole().guarded(GuardDemand::Prefer);
    let [_, _, read] = batch(cast, b"app_user.acme").try_into().unwrap();
    let function = "SELECT FROM pg_catalog.pg_proc";
    assert!(read.0.contains(function), "{}", read.0);
    assert!(read.0.contains("public.multigres_verdict(), "), "{}", read.0);
    assert!(read.0.contains("public.multigres_misspelt(), "), "{}", read.0);
    assert!(read.0.contains("''open: '' OPERATOR"), "quoted within quotes: {}", read.0);
    assert!(read.0.ends_with("'<verdict>(.*)</verdict>') ELSE 'foreign' END"), "{}", read.0);
}

#[test]
fn behind_a_pooler_no_defaults_are_read() {
    let statements = batch(Cast::whole().pooler(), b"app_user.acme");
    assert_eq!(statements.len(), 2);
    assert!(statements[0].0.starts_with("SELECT pg_catalog.set_config($1, $2, false), "));
}
