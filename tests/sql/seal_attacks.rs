//! More of what a tenant may try against a sealed context and the functions that verify it.

use postgres::{Client, NoTls};
use testing::{
    SEAL_KEY as KEY, SealedLogin, TENANT_VARIABLE as TENANT, cluster, count, sealed_options,
    set_up_database, sqlstate,
};

const SEAL: &str = "app.current_tenant_id_seal";
const USER: &str = "app.current_user_id";

#[test]
fn every_question_for_the_context_is_answered_by_the_seal() {
    let database = sealed("seal_questions");
    let mut client = tenant(&database, "app_user", "acme");
    let own = r#"{"acme": {}}"#;
    assert_eq!(answers(&mut client), ["acme", "acme", own, own].map(|said| Some(said.into())));
    let globex = SealedLogin::new(&database, "globex");
    for (value, seal) in [
        ("globex", setting(&mut client, SEAL)),
        ("globex", SealedLogin { value: "acme", ..globex }.seal_1()),
        ("globex", SealedLogin { key: &"1".repeat(64), ..globex }.seal()),
        ("globex", String::new()),
        ("", SealedLogin { value: "", ..globex }.seal()),
        ("", SealedLogin { value: "", ..globex }.seal_1()),
        // A seal of one variable is none of another.
        ("globex", SealedLogin { variable: USER, ..globex }.seal()),
    ] {
        set(&mut client, TENANT, value);
        set(&mut client, SEAL, &seal);
        assert_eq!(answers(&mut client), [const { None }; 4], "{value} {seal}");
        assert_eq!(names(&mut client), [""; 0]);
        client.batch_execute("reset all").unwrap();
        assert_eq!(names(&mut client), ["Ada"]);
    }
    // Who has the key opens what they like: so it was the seal that the others failed for.
    for seal in [globex.seal(), globex.seal_1()] {
        set(&mut client, TENANT, "globex");
        set(&mut client, SEAL, &seal);
        let own = r#"{"globex": {}}"#;
        let expected = ["globex", "globex", own, own].map(|said| Some(said.into()));
        assert_eq!(answers(&mut client), expected);
    }
    for variable in ["null", "'app.unknown'", "''", "'server_version'"] {
        for function in ["multigres_context", "multigres_own"] {
            let call = format!("select {function}({variable})::text");
            let answer: Option<String> = client.query_one(&call, &[]).unwrap().get(0);
            assert_eq!(answer, None, "{call}");
        }
    }
}

#[test]
fn what_stands_between_the_parts_of_a_seal_opens_nothing_within_one() {
    let database = sealed("seal_borders");
    let mut client = tenant(&database, "app_user", "acme");
    let login = SealedLogin::new(&database, "acme");
    let parts = format!("acme\u{1}{database}\u{1}app_user");
    let longer = [
        "acme\u{1}".to_owned(),
        "\u{1}acme".to_owned(),
        format!("acme\u{1}{database}"),
        format!("{TENANT}\u{1}acme"),
        parts.clone(),
        format!("{parts}\u{1}"),
    ];
    for value in &longer {
        set(&mut client, TENANT, value);
        assert_eq!(answers(&mut client), [const { None }; 4], "{value:?}");
    }
    // Nor with a seal that was made for parts which run into each other in another place.
    let value = format!("acme\u{1}{database}");
    for other in [
        SealedLogin { value: &value, database: "app_user", role: "app_user", ..login },
        SealedLogin { variable: "app", value: &value, ..login },
        SealedLogin { value: "acme\u{1}", ..login },
    ] {
        set(&mut client, TENANT, "acme");
        set(&mut client, SEAL, &other.seal());
        assert_eq!(answers(&mut client), [const { None }; 4], "{:?}", other.value);
    }
}

#[test]
fn another_role_is_another_login_whatever_it_becomes() {
    let database = sealed("seal_roles");
    let mut owner = cluster().superuser(&database);
    owner.batch_execute("create role seal_member login; grant app_user to seal_member").unwrap();
    let mut member = tenant(&database, "seal_member", "acme");
    assert_eq!(names(&mut member), ["Ada"]);
    member.batch_execute("set role app_user").unwrap();
    assert_eq!(names(&mut member), ["Ada"], "its own seal, as app_user");
    let seal = SealedLogin::new(&database, "acme").seal();
    set(&mut member, SEAL, &seal);
    assert_eq!(names(&mut member), [""; 0], "app_user's seal in its session");
    member.batch_execute("reset role").unwrap();
    assert_eq!(names(&mut member), [""; 0]);
    drop(member);
    owner.batch_execute("revoke app_user from seal_member; drop role seal_member").unwrap();
}

#[test]
fn no_setting_of_the_session_makes_the_seal_count_for_less_or_more() {
    let database = sealed("seal_settings");
    let mut client = tenant(&database, "app_user", "acme");
    let version: i32 =
        client.query_one("select current_setting('server_version_num')::int", &[]).unwrap().get(0);
    let parallel = if version >= 160_000 { "debug_parallel_query" } else { "force_parallel_mode" };
    let settings = [
        format!("{parallel} = on"),
        format!("{parallel} = on; set parallel_leader_participation = off"),
        "jit = on; set jit_above_cost = 0; set jit_inline_above_cost = 0".to_owned(),
        "plpgsql.extra_errors = 'all'".to_owned(),
        "backslash_quote = on; set escape_string_warning = on".to_owned(),
        "session_replication_role = default; set exit_on_error = off".to_owned(),
        "statement_timeout = 0; set work_mem = '64kB'".to_owned(),
        "default_transaction_isolation = serializable".to_owned(),
        "array_nulls = off; set xmloption = document; set datestyle = 'german'".to_owned(),
    ];
    for set_it in settings {
        let is_denied = set_it.starts_with("session_replication_role");
        let done = client.batch_execute(&format!("discard plans; set {set_it}"));
        assert_eq!(done.is_err(), is_denied, "{set_it}");
        for _ in 0..2 {
            assert_eq!(names(&mut client), ["Ada"], "{set_it}");
            set(&mut client, TENANT, "globex");
            assert_eq!(names(&mut client), [""; 0], "{set_it}");
            client.batch_execute("reset app.current_tenant_id").unwrap();
        }
        client.batch_execute("reset all").unwrap();
    }
    // Within one query, too: what was verified first is what counts, or nothing.
    for (inside, at_most) in [
        ("set_config('app.current_tenant_id', 'globex', false)", 1),
        ("set_config('app.current_tenant_id_seal', '', false)", 1),
    ] {
        let query = format!("contacts where {inside} is not null or name = 'Grace'");
        assert!(count(&mut client, &query) <= at_most);
        let theirs = format!("contacts where {inside} is not null and tenant_id = 'globex'");
        assert_eq!(count(&mut client, &theirs), 0);
        client.batch_execute("reset all").unwrap();
    }
    let error = client.batch_execute("select from multigres.sealed").unwrap_err();
    assert_eq!(sqlstate(&error), "42501");
}

/// Their bodies have to be immune to the caller's search_path, for they pin none.
#[test]
fn the_sealed_context_names_everything_that_it_uses_with_its_schema() {
    // What PostgreSQL does not look for; no IN, NULLIF, LIKE or DISTINCT FROM, which look for "=".
    const WORDS: &str = " 1 as begin case collate declare end from if into is k not null own \
         return s select session_user then true value variable when where ";
    const OURS: [&str; 4] = [
        "multigres.seal_keys",
        "multigres.sealed",
        "multigres.context_1",
        "public.multigres_context",
    ];
    let database = set_up_database("sql_qualified");
    let mut owner = cluster().superuser(&database);
    owner.batch_execute("select multigres_seal(repeat('0', 64))").unwrap();
    let sql = "select prosrc from pg_proc where proconfig is null and
        pronamespace in ('multigres'::regnamespace, 'public'::regnamespace)
        and provolatile = 's'";
    let bodies: Vec<String> = owner.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(bodies.len(), 5, "{bodies:?}");
    let (mut functions, mut keys, mut hashes) = (0, 0, 0);
    for body in &bodies {
        let code: String = body.split('\'').step_by(2).collect::<Vec<_>>().join(" ");
        let code: String = code
            .replace(":=", " ")
            .split("operator(pg_catalog.")
            .enumerate()
            .map(|(at, part)| if at == 0 { part } else { part.split_once(')').unwrap().1 })
            .collect();
        assert!(!code.contains(['=', '<', '>', '|', '~', '+', '-', '*', '/', '!', '@', '#', '%']));
        let words: Vec<&str> = code
            .split(|letter: char| !letter.is_alphanumeric() && !"_.\"".contains(letter))
            .filter(|word| !word.is_empty())
            .collect();
        for pair in words.windows(2) {
            match pair[0].split_once('.') {
                Some(("pg_catalog", _)) => functions += 1,
                Some(("k", "inner_pad" | "outer_pad" | "bind") | ("s", "value")) => {}
                Some(_) if OURS.contains(&pair[0]) => {
                    keys += usize::from(pair[0] == "multigres.seal_keys");
                }
                // With an operand behind it, CASE would look for "=".
                None if pair[0] == "case" => assert_eq!(pair[1], "when"),
                None if WORDS.contains(&format!(" {} ", pair[0])) => {}
                _ => panic!("{} in {body}", pair[0]),
            }
        }
        hashes += body.matches("pg_catalog.sha256(").count();
    }
    assert!(functions > 40 && keys == 2, "{bodies:?}");
    // An HMAC, and both sides hashed once more: in both versions, and in the view.
    assert_eq!(hashes, 2 * 4);
    let view: String =
        owner.query_one("select pg_get_viewdef('multigres.sealed')", &[]).unwrap().get(0);
    assert_eq!(view.matches("sha256(").count(), 4);
    // STABLE for the sake of indexes; no parallel worker knows the client's address.
    let kinds = "pg_proc where pronamespace = 'public'::regnamespace
        and proname in ('current_tenant_id', 'multigres_context', 'multigres_own')
        and provolatile = 's' and proparallel = 'r'";
    assert_eq!(count(&mut owner, kinds), 4);
}

/// A database with a protected table, sealed with [`KEY`].
fn sealed(name: &str) -> String {
    let database = set_up_database(name);
    cluster()
        .superuser(&database)
        .batch_execute(&format!(
            "create table contacts (tenant_id text not null, name text);
             insert into contacts values ('acme', 'Ada'), ('globex', 'Grace');
             select multigres_protect('contacts'); select multigres_seal('{KEY}', 'none')"
        ))
        .unwrap();
    database
}

fn tenant(database: &str, role: &str, tenant: &str) -> Client {
    let seal = SealedLogin { role, ..SealedLogin::new(database, tenant) }.seal();
    let options = sealed_options(TENANT, tenant, &seal);
    cluster().direct(role, database).options(&options).connect(NoTls).unwrap()
}

fn set(client: &mut Client, name: &str, value: &str) {
    client.execute("select set_config($1, $2, false)", &[&name, &value]).unwrap();
}

fn setting(client: &mut Client, name: &str) -> String {
    client.query_one("select current_setting($1)", &[&name]).unwrap().get(0)
}

fn names(client: &mut Client) -> Vec<String> {
    let rows = client.query("select name from contacts order by name", &[]).unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// What each of the functions says of the tenant.
fn answers(client: &mut Client) -> Vec<Option<String>> {
    let all = "select current_tenant_id(), multigres_context('app.current_tenant_id'),
        multigres_own()::text, multigres_own('app.current_tenant_id')::text";
    let row = client.query_one(all, &[]).unwrap();
    (0..4).map(|at| row.get(at)).collect()
}
