//! A sealed context, as an attacker would try to get round it: directly on PostgreSQL, logged in
//! as app_user. The seals are forged; Multigres takes no part.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use postgres::{Client, NoTls};
use testing::{
    Raw, SEAL_KEY as KEY, SETUP, SealedLogin, TEARDOWN, TENANT_VARIABLE as TENANT, cluster, count,
    empty_database, sealed_options as options, set_up_database, sqlstate,
};

const SECOND_KEY: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const THIRD_KEY: &str = "2222222222222222222222222222222222222222222222222222222222222222";
const USER: &str = "app.current_user_id";

/// What could take the place of anything that a sealed context uses.
const SHADOW: &str = "create function shadow.yes(bytea, bytea) returns bool language sql
         as 'select true';
     create operator shadow.= (leftarg = bytea, rightarg = bytea, function = shadow.yes);
     create function shadow.yes(text, text) returns bool language sql as 'select true';
     create operator shadow.= (leftarg = text, rightarg = text, function = shadow.yes);
     create operator shadow.~ (leftarg = text, rightarg = text, function = shadow.yes);
     create function shadow.sha256(bytea) returns bytea language sql
         as 'select ''''::bytea';
     create function shadow.current_setting(text, bool) returns text language sql
         as 'select ''globex''::text';
     create function shadow.multigres_context(text) returns text language sql
         as 'select ''globex''::text';
     create function shadow.current_setting(text) returns text language sql
         as 'select ''globex''::text';
     create operator shadow.<> (leftarg = text, rightarg = text, function = shadow.yes);
     create function shadow.none(bytea, bytea) returns bytea language sql
         as 'select ''''::bytea';
     create operator shadow.|| (leftarg = bytea, rightarg = bytea, function = shadow.none);
     create function shadow.none(text, text) returns text language sql
         as 'select ''''::text';
     create operator shadow.|| (leftarg = text, rightarg = text, function = shadow.none);
     create function shadow.encode(bytea, text) returns text language sql as 'select ''''::text';
     create function shadow.convert_to(text, pg_catalog.name) returns bytea
         language sql as 'select ''''::bytea';
     create function shadow.format(text, variadic anyarray) returns text language sql
         as 'select ''''::text';
     create function shadow.lower(text) returns text language sql as 'select ''''::text';
     create function shadow.octet_length(text) returns int language sql as 'select 0';
     create function shadow.current_database() returns pg_catalog.name language sql
         as 'select ''x''::pg_catalog.name';
     create function shadow.concat_ws(text, text, text, text, text, pg_catalog.name,
         pg_catalog.name, text) returns text language sql as 'select ''''::text';
     create function shadow.chr(int) returns text language sql as 'select ''''::text';
     create function shadow.jsonb_build_object(text, jsonb) returns jsonb language sql
         as 'select ''{\"globex\": {}}''::jsonb';
     create function shadow.context_1(text) returns text language sql
         as 'select ''globex''::text';
     create view shadow.sealed as select 'globex'::pg_catalog.text as value;
     create temp view sealed as select 'globex'::pg_catalog.text as value;
     create collation shadow.\"C\" from pg_catalog.\"POSIX\";
     create type shadow.bytea as enum ('0');
     create type shadow.text as enum ('globex');
     create type shadow.name as (a int);
     create cast (shadow.text as pg_catalog.text) with inout as implicit;
     create temp table seal_keys
         (number int, inner_pad bytea, outer_pad bytea, bind text, added timestamptz);
     insert into seal_keys values
         (1, decode(repeat('14', 32) || repeat('36', 32), 'hex'),
             decode(repeat('7e', 32) || repeat('5c', 32), 'hex'), 'none', now());
     create function pg_temp.sha256(bytea) returns bytea language sql
         as 'select ''''::bytea';
     create type pg_temp.text as enum ('globex')";

#[test]
fn a_sealed_session_keeps_its_tenant_whatever_it_sets() {
    let database = sealed("seal_keeps", "none");
    let mut client = tenant(&database, "acme");
    let other = SealedLogin::new(&database, "globex").seal();
    for (statement, expected) in [
        ("select 1", &["Ada", "Alan"][..]),
        ("set app.current_tenant_id = 'globex'", &[]),
        ("reset app.current_tenant_id", &["Ada", "Alan"]),
        ("select set_config('app.current_tenant_id', 'globex', false)", &[]),
        ("reset all", &["Ada", "Alan"]),
        ("set app.current_tenant_id = ''", &[]),
        ("discard all", &["Ada", "Alan"]),
        ("set app.current_tenant_id_seal = ''", &[]),
        ("reset all", &["Ada", "Alan"]),
        ("begin; set local app.current_tenant_id = 'globex'", &[]),
        ("rollback", &["Ada", "Alan"]),
        ("do $$ begin perform set_config('app.current_tenant_id', 'globex', false); end $$", &[]),
        ("set app.current_tenant_id to default", &["Ada", "Alan"]),
        ("set session authorization default", &["Ada", "Alan"]),
        ("set role tenant_tables; reset role", &["Ada", "Alan"]),
    ] {
        client.batch_execute(statement).unwrap();
        assert_eq!(names(&mut client), expected, "{statement}");
    }
    for role in ["role postgres", "session authorization postgres", "role other_superuser"] {
        let error = client.batch_execute(&format!("set {role}")).unwrap_err();
        assert_eq!(sqlstate(&error), "42501", "{role}");
    }
    // Whoever makes seals opens what he likes, which shows that the rest failed for the seal.
    let both =
        format!("set app.current_tenant_id = 'globex'; set app.current_tenant_id_seal = '{other}'");
    client.batch_execute(&both).unwrap();
    assert_eq!(names(&mut client), ["Grace"]);
}

#[test]
fn a_login_that_did_not_come_through_multigres_sees_and_writes_nothing() {
    let database = sealed("seal_direct", "none");
    for options in ["", "-c app.current_tenant_id=acme", "-c app.current_tenant_id="] {
        let mut client = login(&database, "app_user", options);
        assert_eq!(context(&mut client, TENANT), None, "{options}");
        assert!(names(&mut client).is_empty(), "{options}");
        for write in ["update contacts set name = 'x'", "delete from contacts"] {
            assert_eq!(client.execute(write, &[]).unwrap(), 0, "{options}: {write}");
        }
        let insert = "insert into contacts (tenant_id, name) values ('acme', 'Eve')";
        assert_eq!(sqlstate(&client.batch_execute(insert).unwrap_err()), "42501", "{options}");
    }
}

#[test]
fn a_seal_is_good_for_one_variable_value_database_role_and_key() {
    let database = sealed("seal_fields", "none");
    // Its name and value run into those of the next login, were their lengths not sealed too.
    empty_database("eal_fields");
    let right = SealedLogin::new(&database, "acme");
    for (what, sealed, fits) in [
        ("all of it", right, true),
        ("variable", SealedLogin { variable: USER, ..right }, false),
        ("upper case", SealedLogin { variable: "app.Current_tenant_id", ..right }, false),
        ("value", SealedLogin { value: "globex", ..right }, false),
        ("case of the value", SealedLogin { value: "Acme", ..right }, false),
        ("database", SealedLogin { database: "postgres", ..right }, false),
        ("border", SealedLogin { value: "acmes", database: "eal_fields", ..right }, false),
        ("role", SealedLogin { role: "postgres", ..right }, false),
        ("key", SealedLogin { key: SECOND_KEY, ..right }, false),
        ("address", SealedLogin { address: Some(([127, 0, 0, 1], 1).into()), ..right }, false),
    ] {
        let options = options(TENANT, "acme", &sealed.seal());
        let mut client = login(&database, "app_user", &options);
        let expected = fits.then(|| "acme".to_owned());
        assert_eq!(context(&mut client, TENANT), expected, "{what}");
        assert_eq!(names(&mut client).is_empty(), !fits, "{what}");
    }
    // The same seal, beside another variable, in another role's session.
    let mut client = login(&database, "app_user", &options(USER, "acme", &right.seal()));
    assert_eq!(context(&mut client, USER), None);
    let mut client = login(&database, "trust_user", &options(TENANT, "acme", &right.seal()));
    assert_eq!(context(&mut client, TENANT), None);
    let odd = SealedLogin { value: "l'\u{e9}t\u{e9}:4 \\ %s", ..right };
    let mut client = tenant(&database, "acme");
    for (name, value) in [(TENANT, odd.value), ("app.current_tenant_id_seal", &*odd.seal())] {
        client.execute("select set_config($1, $2, false)", &[&name, &value]).unwrap();
    }
    assert_eq!(context(&mut client, TENANT).as_deref(), Some(odd.value));
    let empty = SealedLogin { value: "", ..right };
    for (name, value) in [(TENANT, ""), ("app.current_tenant_id_seal", &*empty.seal())] {
        client.execute("select set_config($1, $2, false)", &[&name, &value]).unwrap();
    }
    assert_eq!(context(&mut client, TENANT), None, "a seal of nothing");
    let sealed = SealedLogin { variable: USER, value: "7", ..right };
    let mut client = login(&database, "app_user", &options(USER, "7", &sealed.seal()));
    assert_eq!(context(&mut client, "App.Current_User_ID").as_deref(), Some("7"));
    assert_eq!(context(&mut client, "app.unknown"), None);
    assert_eq!(context(&mut client, "data_directory"), None);
    let null: Option<String> =
        client.query_one("select multigres_context(null)", &[]).unwrap().get(0);
    assert_eq!(null, None);
}

#[test]
fn what_is_no_seal_is_no_error_either() {
    let database = sealed("seal_malformed", "none");
    let right = SealedLogin::new(&database, "acme").seal();
    let mut client = tenant(&database, "acme");
    for wrong in [
        String::new(),
        "x".to_owned(),
        "\\x00".to_owned(),
        right.to_uppercase(),
        right[1..].to_owned(),
        format!("{right}0"),
        format!("{right}\n"),
        format!("\\x{right}"),
        format!("{}g", &right[1..]),
        "0".repeat(64),
        "0".repeat(100_000),
    ] {
        client
            .execute("select set_config('app.current_tenant_id_seal', $1, false)", &[&wrong])
            .unwrap();
        assert_eq!(context(&mut client, TENANT), None, "{wrong:.80}");
        assert!(names(&mut client).is_empty());
    }
}

#[test]
fn a_seal_bound_to_an_address_is_worthless_to_every_other_session() {
    let database = sealed("seal_address", "address");
    let end = SocketAddr::from(([127, 0, 0, 1], cluster().port()));
    let mut ends = vec![end];
    if cluster().ipv6() {
        ends.push(SocketAddr::from((Ipv6Addr::LOCALHOST, cluster().port())));
    }
    let mut stolen = Vec::new();
    for end in ends {
        let mut raw = Raw::tcp(end);
        let own = SealedLogin {
            address: Some(raw.local_address()),
            ..SealedLogin::new(&database, "acme")
        };
        start(&mut raw, &database, "acme", &own.seal());
        assert_eq!(raw.query_value("select count(*) from contacts"), "2", "{end}");
        raw.query("set app.current_tenant_id = 'globex'");
        assert_eq!(raw.query_value("select count(*) from contacts"), "0", "{end}");
        raw.query("discard all");
        let seal = "select current_setting('app.current_tenant_id_seal')";
        stolen.push((raw.query_value(seal), raw));
    }
    for (seal, _open) in &stolen {
        let mut raw = Raw::tcp(end);
        start(&mut raw, &database, "acme", seal);
        assert_eq!(raw.query_value("select count(*) from contacts"), "0", "replayed");
    }
    let unbound = SealedLogin::new(&database, "acme").seal();
    let mut raw = Raw::tcp(end);
    start(&mut raw, &database, "acme", &unbound);
    assert_eq!(raw.query_value("select count(*) from contacts"), "0", "bound to nothing");
    let others: [fn(SocketAddr) -> SocketAddr; 2] = [
        |own| SocketAddr::from(([127, 0, 0, 2], own.port())),
        |own| SocketAddr::new(own.ip(), own.port() ^ 1),
    ];
    for other in others {
        let mut raw = Raw::tcp(end);
        let other = other(raw.local_address());
        let seal =
            SealedLogin { address: Some(other), ..SealedLogin::new(&database, "acme") }.seal();
        start(&mut raw, &database, "acme", &seal);
        assert_eq!(raw.query_value("select count(*) from contacts"), "0", "{other}");
    }
    let socket = cluster().socket_folder().join(format!(".s.PGSQL.{}", cluster().port()));
    let mut raw = Raw::unix(&socket);
    start(&mut raw, &database, "acme", &unbound);
    assert_eq!(raw.query_value("select count(*) from contacts"), "0", "without an address");
}

#[test]
fn two_keys_are_good_at_a_time_and_a_third_drives_out_the_older() {
    let database = sealed("seal_rotation", "none");
    let mut owner = cluster().superuser(&database);
    let good = |keys: &[&str]| {
        for key in [KEY, SECOND_KEY, THIRD_KEY] {
            let seal = SealedLogin { key, ..SealedLogin::new(&database, "acme") }.seal();
            let mut client = login(&database, "app_user", &options(TENANT, "acme", &seal));
            assert_eq!(names(&mut client).len(), if keys.contains(&key) { 2 } else { 0 });
        }
    };
    let mut seal = |key: &str| {
        owner.batch_execute(&format!("select multigres_seal('{key}', 'none')")).unwrap();
    };
    good(&[KEY]);
    seal(SECOND_KEY);
    good(&[KEY, SECOND_KEY]);
    seal(KEY);
    good(&[KEY, SECOND_KEY]);
    seal(THIRD_KEY);
    good(&[SECOND_KEY, THIRD_KEY]);
    seal(KEY);
    good(&[KEY, THIRD_KEY]);
}

#[test]
fn each_key_has_a_binding_of_its_own() {
    let database = sealed("seal_bindings", "address");
    let mut client = tenant(&database, "acme");
    assert!(names(&mut client).is_empty());
    let mut owner = cluster().superuser(&database);
    owner.batch_execute(&format!("select multigres_seal('{SECOND_KEY}', 'none')")).unwrap();
    assert!(names(&mut client).is_empty(), "the first key is bound still");
    owner.batch_execute(&format!("select multigres_seal('{KEY}', 'none')")).unwrap();
    assert_eq!(names(&mut client), ["Ada", "Alan"]);
    assert_eq!(count(&mut owner, "multigres.seal_keys"), 2);
    // One that nobody knows fits nothing.
    owner
        .batch_execute(
            "alter table multigres.seal_keys drop constraint seal_keys_bind;
             update multigres.seal_keys set bind = 'port'",
        )
        .unwrap();
    assert!(names(&mut client).is_empty());
    let mut raw = Raw::tcp(SocketAddr::from(([127, 0, 0, 1], cluster().port())));
    let address = Some(raw.local_address());
    let own = SealedLogin { address, ..SealedLogin::new(&database, "acme") };
    start(&mut raw, &database, "acme", &own.seal());
    assert_eq!(raw.query_value("select count(*) from contacts"), "0");
}

#[test]
fn prepared_statements_are_sealed_and_unsealed_with_all_others() {
    let database = set_up_database("seal_prepared");
    fill(&database);
    let mut owner = cluster().superuser(&database);
    let mut client = login(&database, "app_user", "-c app.current_tenant_id=acme");
    client.batch_execute("set plan_cache_mode = force_generic_plan").unwrap();
    let early = client.prepare("select from contacts").unwrap();
    let seen = |client: &mut Client, statement| client.query(statement, &[]).unwrap().len();
    assert_eq!(seen(&mut client, &early), 2);
    owner.batch_execute(&format!("select multigres_seal('{KEY}', 'none')")).unwrap();
    assert_eq!(seen(&mut client, &early), 0);
    let seal = SealedLogin::new(&database, "acme").seal();
    client.batch_execute(&format!("set app.current_tenant_id_seal = '{seal}'")).unwrap();
    let late = client.prepare("select from contacts").unwrap();
    for statement in [&early, &late] {
        assert_eq!(seen(&mut client, statement), 2);
        client.batch_execute("set app.current_tenant_id = 'globex'").unwrap();
        assert_eq!(seen(&mut client, statement), 0);
        client.batch_execute("reset app.current_tenant_id").unwrap();
    }
    owner.batch_execute("select multigres_unseal(), multigres_unseal()").unwrap();
    client.batch_execute("set app.current_tenant_id = 'globex'").unwrap();
    for statement in [&early, &late] {
        assert_eq!(seen(&mut client, statement), 1);
    }
    assert_eq!(count(&mut owner, "pg_class where relname in ('seal_keys', 'sealed')"), 0);
}

#[test]
fn nothing_that_a_session_plants_or_sets_opens_a_seal() {
    let database = sealed("seal_planted", "none");
    let mut owner = cluster().superuser(&database);
    owner.batch_execute("create schema shadow; grant all on schema shadow to app_user").unwrap();
    let mut client = tenant(&database, "acme");
    let forged = SealedLogin { key: THIRD_KEY, ..SealedLogin::new(&database, "globex") }.seal();
    client.batch_execute(SHADOW).unwrap();
    for setting in [
        "search_path = shadow, pg_temp, pg_catalog, public",
        // The plans of the sealed context were made with the path before, these in the next.
        "search_path = pg_temp, shadow, pg_catalog, public; discard plans",
        "search_path = shadow",
        "search_path = ''",
        "search_path = shadow, pg_catalog; set plan_cache_mode = force_generic_plan",
        "standard_conforming_strings = off",
        "bytea_output = escape",
        "quote_all_identifiers = on",
        "transform_null_equals = on",
        "client_encoding = latin1",
        "row_security = on",
        "plan_cache_mode = force_custom_plan",
    ] {
        client.batch_execute(&format!("set {setting}")).unwrap();
        assert_eq!(names(&mut client), ["Ada", "Alan"], "{setting}");
        for seal in [&forged, "0", ""] {
            let set = format!(
                "set app.current_tenant_id = 'globex'; set app.current_tenant_id_seal = '{seal}'"
            );
            client.batch_execute(&set).unwrap();
            assert!(names(&mut client).is_empty(), "{setting}");
        }
        let back = "reset app.current_tenant_id; reset app.current_tenant_id_seal";
        client.batch_execute(back).unwrap();
    }
}

#[test]
fn every_way_of_reading_asks_for_the_seal() {
    let database = sealed("seal_ways", "none");
    let mut owner = cluster().superuser(&database);
    owner
        .batch_execute(
            "create function all_names() returns setof text language sql stable
                 as 'select name from public.contacts';
             create function as_globex() returns bigint language sql
                 set app.current_tenant_id = 'globex'
                 as 'select count(*) from public.contacts';
             create table part (tenant_id text, k int) partition by list (k);
             create table part1 partition of part for values in (1);
             insert into part values ('acme', 1), ('globex', 1);
             select multigres_protect('part');
             grant select on part1 to app_user",
        )
        .unwrap();
    let mut client = tenant(&database, "acme");
    client.batch_execute("create temp view mine as select * from contacts").unwrap();
    let relations = ["contacts", "all_names()", "mine", "part", "part1"];
    for (relation, seen) in relations.into_iter().zip([2, 2, 2, 1, 1]) {
        client.batch_execute("reset all").unwrap();
        assert_eq!(count(&mut client, relation), seen, "{relation}");
        client.batch_execute("set app.current_tenant_id = 'globex'").unwrap();
        let rows = format!("select from {relation}");
        assert_eq!(client.query(&rows, &[]).unwrap().len(), 0, "{relation}");
        let mut text = String::new();
        let copy = format!("copy (select * from {relation}) to stdout");
        let mut reader = client.copy_out(&copy).unwrap();
        std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
        assert_eq!(text, "", "{relation}");
    }
    client.batch_execute("reset all").unwrap();
    let inside: i64 = client.query_one("select as_globex()", &[]).unwrap().get(0);
    assert_eq!(inside, 0);
    // Whatever runs before the context is asked for can only take it away.
    let late = "contacts, (select set_config('app.current_tenant_id', 'globex', true)) as s";
    assert!(count(&mut client, late) <= 2);
    assert_eq!(count(&mut client, "contacts where tenant_id = 'globex'"), 0);
    assert_eq!(sqlstate(&client.batch_execute("truncate contacts").unwrap_err()), "42501");
}

#[test]
fn app_user_reads_no_key_and_changes_no_seal() {
    let database = empty_database("seal_secret");
    let mut owner = cluster().superuser(&database);
    owner
        .batch_execute(
            "alter default privileges grant all on tables to app_user, public;
             alter default privileges grant all on sequences to app_user, public",
        )
        .unwrap();
    owner.batch_execute(&SETUP).unwrap();
    owner.batch_execute(&format!("select multigres_seal('{KEY}', 'none')")).unwrap();
    // USAGE on the schema alone opens nothing.
    owner
        .batch_execute("analyze multigres.seal_keys; grant usage on schema multigres to app_user")
        .unwrap();
    let mut client = tenant(&database, "acme");
    for refused in [
        "select from multigres.seal_keys",
        "select inner_pad from multigres.seal_keys",
        "copy multigres.seal_keys to stdout",
        "insert into multigres.seal_keys default values",
        "update multigres.seal_keys set bind = 'none'",
        "delete from multigres.seal_keys",
        "truncate multigres.seal_keys",
        "drop table multigres.seal_keys",
        "alter table multigres.seal_keys owner to app_user",
        "do $$ begin lock table multigres.seal_keys; end $$",
        "create temp view keys as select * from multigres.seal_keys; select from keys",
        "select from multigres.sealed",
        "copy multigres.sealed to stdout",
        "select multigres.context_1('app.current_tenant_id')",
        "select multigres_seal(repeat('0', 64))",
        "select multigres_unseal()",
        "select multigres.define_context()",
        "alter function multigres_context(text) security invoker",
        "alter function current_tenant_id() security invoker",
        "alter view multigres.sealed reset (security_barrier)",
        "create or replace view multigres.sealed as select 'globex'",
        "create function multigres.context_1(variable name) returns text
             language sql as 'select null::text'",
        "create or replace function multigres_context(variable text) returns text
             language sql as 'select variable'",
    ] {
        let error = client.batch_execute(refused).unwrap_err();
        assert_eq!(sqlstate(&error), "42501", "{refused}");
    }
    assert_eq!(count(&mut client, "pg_stats where tablename = 'seal_keys'"), 0);
}

#[test]
fn the_plans_that_a_session_may_print_show_no_key() {
    let database = sealed("seal_plans", "none");
    let seal = SealedLogin::new(&database, "acme").seal();
    let heard = Arc::new(Mutex::new(String::new()));
    let notices = Arc::clone(&heard);
    let mut config = cluster().direct("app_user", &database);
    config.options(&options(TENANT, "acme", &seal));
    config.notice_callback(move |notice| {
        notices.lock().unwrap().push_str(notice.message());
        notices.lock().unwrap().push_str(notice.detail().unwrap_or_default());
    });
    let mut client = config.connect(NoTls).unwrap();
    for mode in ["force_custom_plan", "force_generic_plan"] {
        client
            .batch_execute(&format!(
                "set client_min_messages = log; set debug_print_plan = on;
                 set debug_print_rewritten = on; set debug_print_parse = on;
                 set debug_pretty_print = off; set plan_cache_mode = {mode}; discard plans"
            ))
            .unwrap();
        assert_eq!(names(&mut client), ["Ada", "Alan"]);
    }
    // Bytes of a constant are printed as decimal numbers, with line breaks between them.
    let heard: Vec<String> = heard.lock().unwrap().split_whitespace().map(str::to_owned).collect();
    let heard = heard.join(" ");
    let printed = |bytes: &[u8]| {
        let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
        heard.contains(&numbers.join(" "))
    };
    assert!(printed(b"multigres-seal-2"), "the message, which is no secret, is printed");
    for pad in [0x36, 0x5c] {
        let padded: Vec<u8> = (0..8).map(|byte| byte ^ pad).collect();
        assert!(!printed(&padded), "{pad}");
    }
}

#[test]
fn a_table_is_read_by_its_index_and_in_parallel_sealed_and_plain() {
    let database = sealed("seal_planner", "none");
    let mut owner = cluster().superuser(&database);
    owner
        .batch_execute(
            "create table big (tenant_id text, k int);
             insert into big select 't' || k % 10, k from generate_series(1, 20000) as k;
             select multigres_protect('big'); analyze big",
        )
        .unwrap();
    let forms = [("select 'sealed'", 0, 2), ("select multigres_unseal()", 2000, 1)];
    for (form, others, asked) in forms {
        owner.batch_execute(form).unwrap();
        let mut client = tenant(&database, "t3");
        client.batch_execute("set enable_seqscan = off").unwrap();
        let plan = explain(&mut client, "select * from big where k = 5");
        assert_eq!(plan.matches("  InitPlan ").count(), asked, "{form}: {plan}");
        assert!(plan.contains("Index Cond: (tenant_id ="), "{form}: {plan}");
        client
            .batch_execute(
                "set enable_seqscan = on; set enable_indexscan = off; set enable_bitmapscan = off;
                 set enable_indexonlyscan = off; set parallel_setup_cost = 0;
                 set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0",
            )
            .unwrap();
        let plan = explain(&mut client, "select count(*) from big");
        assert!(plan.contains("Parallel Seq Scan"), "{form}: {plan}");
        assert_eq!(plan.matches("  InitPlan ").count(), asked, "{form}: {plan}");
        assert_eq!(count(&mut client, "big"), 2000, "{form}");
        client.batch_execute("set app.current_tenant_id = 't4'").unwrap();
        assert_eq!(count(&mut client, "big"), others, "{form}");
    }
}

#[test]
fn a_second_setup_keeps_a_database_sealed_and_teardown_forgets_the_key() {
    let database = sealed("seal_upgrade", "none");
    let mut owner = cluster().superuser(&database);
    let mut client = tenant(&database, "acme");
    owner.batch_execute(&SETUP).unwrap();
    assert_eq!(names(&mut client), ["Ada", "Alan"]);
    client.batch_execute("set app.current_tenant_id = 'globex'").unwrap();
    assert!(names(&mut client).is_empty());
    owner.batch_execute(TEARDOWN).unwrap();
    assert_eq!(count(&mut owner, "pg_class where relname ~ '^multigres_'"), 0);
    assert_eq!(count(&mut owner, "pg_proc where proname ~ 'multigres|current_tenant'"), 0);
}

/// A database with a protected table, sealed with [`KEY`].
fn sealed(name: &str, bind: &str) -> String {
    let database = set_up_database(name);
    fill(&database);
    let seal = format!("select multigres_seal('{KEY}', '{bind}')");
    cluster().superuser(&database).batch_execute(&seal).unwrap();
    database
}

fn fill(database: &str) {
    cluster()
        .superuser(database)
        .batch_execute(
            "create table contacts (id serial primary key, tenant_id text, name text);
             insert into contacts (tenant_id, name) values
                 ('acme', 'Ada'), ('acme', 'Alan'), ('globex', 'Grace');
             select multigres_protect('contacts')",
        )
        .unwrap();
}

/// A login as Multigres makes it where seals are bound to nothing.
fn tenant(database: &str, tenant: &str) -> Client {
    let seal = SealedLogin::new(database, tenant).seal();
    login(database, "app_user", &options(TENANT, tenant, &seal))
}

fn login(database: &str, role: &str, options: &str) -> Client {
    cluster().direct(role, database).options(options).connect(NoTls).unwrap()
}

/// The same on a socket whose own address is known before.
fn start(raw: &mut Raw, database: &str, tenant: &str, seal: &str) {
    raw.send_startup(&[
        ("user", "app_user"),
        ("database", database),
        (TENANT, tenant),
        (&format!("{TENANT}_seal"), seal),
    ]);
    let messages = raw.read_until(b"ZE");
    assert_eq!(messages.last().map(|message| message.tag), Some(b'Z'), "{messages:?}");
}

fn names(client: &mut Client) -> Vec<String> {
    let rows = client.query("select name from public.contacts order by id", &[]).unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

fn context(client: &mut Client, variable: &str) -> Option<String> {
    client.query_one("select public.multigres_context($1)", &[&variable]).unwrap().get(0)
}

fn explain(client: &mut Client, query: &str) -> String {
    let rows = client.query(&format!("explain (costs off) {query}"), &[]).unwrap();
    rows.iter().map(|row| row.get::<_, String>(0) + "\n").collect()
}
