//! What multigres_check() finds of what runs for a tenant, or upon others' rows, without being
//! called by its name. Each leak is seen by a tenant first, then found, mended by its own fix, and
//! not seen any more.

use std::sync::{Arc, Mutex};

use postgres::{Client, NoTls, SimpleQueryMessage};
use testing::linter::{clean, findings, found_and_mended, is_found, mend, not_found};
use testing::{GUARD, UNGUARD, cluster, count, sqlstate};

/// A function of a superuser's that reads all rows, in a schema that app_user may not use.
const READER: &str = "language sql security definer set search_path = pg_catalog, pg_temp as
    'select string_agg(name, '','') from public.contacts'";

#[test]
fn functions_with_other_rights_behind_other_names_are_found() {
    let mut owner = filled("hidden_definers");
    owner.batch_execute("create schema closed").unwrap();
    for (plant, leak, expected, away) in definers().into_iter().chain(unasked()) {
        leaks_until_mended(
            &mut owner,
            &plant,
            leak,
            &[&format!("function_bypasses_policies | {expected}")],
        );
        owner.batch_execute(away).unwrap();
    }
    not_found(
        &mut owner,
        &format!(
            "create function closed.unused() returns text {READER};
             create function closed.own(int, int) returns text language sql as 'select null::text';
             create operator ### (leftarg = int, rightarg = int, function = closed.own)"
        ),
    );
}

/// What makes it, what shows it, what is found, and what takes it away again.
type Story = (String, &'static str, &'static str, &'static str);

/// Functions that app_user may execute, if it only could name them.
fn definers() -> Vec<Story> {
    vec![
        (
            format!(
                "create function closed.step(text, text) returns text {READER};
                 revoke execute on function closed.step(text, text) from public;
                 create aggregate peek(text) (sfunc = closed.step, stype = text)"
            ),
            "select peek('x')",
            "aggregate public.peek(text) | runs closed.step(text,text) | postgres",
            "drop aggregate peek(text); drop function closed.step(text, text)",
        ),
        (
            format!(
                "create function closed.all_names(int, int) returns text {READER};
                 create operator ### (leftarg = int, rightarg = int, function = closed.all_names)"
            ),
            "select 1 ### 2",
            "function closed.all_names(integer,integer) | by operator \
                 public.###(integer,integer) | postgres",
            "drop operator ### (int, int); drop function closed.all_names(int, int)",
        ),
        (
            format!(
                "create type token as (a int);
                 create function closed.token(token) returns text {READER};
                 create cast (token as text) with function closed.token(token)"
            ),
            "select row(1)::token::text",
            "function closed.token(public.token) | by cast (public.token AS pg_catalog.text) | \
             postgres",
            "drop cast (token as text); drop function closed.token(token); drop type token",
        ),
    ]
}

/// Functions that run whenever a row is written.
fn unasked() -> Vec<Story> {
    vec![
        (
            format!(
                "create function closed.made() returns text {READER};
                 alter table contacts add note text default closed.made()"
            ),
            "insert into contacts values ('acme', 9, 'Alan') returning note",
            "function closed.made() | by default value for public.contacts.note | postgres",
            "alter table contacts drop note; drop function closed.made();
             delete from contacts where id = 9",
        ),
        (
            "create function closed.compare(int, int) returns int language plpgsql immutable
                 security definer set search_path = pg_catalog, pg_temp as $$
             begin
                 raise warning '%', (select string_agg(name, ',') from public.contacts);
                 return btint4cmp($1, $2);
             end $$;
             revoke execute on function closed.compare(int, int) from public;
             create operator class loud for type int using btree as operator 1 <, operator 2 <=,
                 operator 3 =, operator 4 >=, operator 5 >, function 1 closed.compare(int, int)"
                .to_owned(),
            "create temp table n (a int); create index on n (a loud);
             insert into n values (1), (2)",
            "function closed.compare(integer,integer) | by operator family public.loud USING \
                 btree | postgres",
            "drop operator family loud using btree cascade; drop function closed.compare(int, int)",
        ),
    ]
}

#[test]
fn leakproof_functions_of_somebodys_own_are_found() {
    let mut owner = filled("hidden_leakproof");
    let plant = "create function same(text, text) returns boolean language plpgsql leakproof
                     cost 0.0001 as $$begin raise warning 'saw %', $1; return $1 = $2; end$$";
    let leak = "set enable_indexscan = off; set enable_bitmapscan = off;
                select name from contacts where same(name, 'x')";
    let found = "function_leakproof | function public.same(text,text) | postgres";
    leaks_until_mended(&mut owner, plant, leak, &[found]);
    found_and_mended(
        &mut owner,
        "alter function textregexeq(text, text) leakproof",
        &["function_leakproof | function textregexeq(text,text)"],
    );
    not_found(
        &mut owner,
        "alter function same(text, text) leakproof;
         revoke execute on function same(text, text) from public",
    );
}

#[test]
fn event_triggers_that_a_tenant_can_lead_astray_are_found() {
    let mut owner = filled("hidden_event_triggers");
    owner
        .batch_execute(
            "create table ddl_log (tag text);
             create function logged() returns event_trigger language plpgsql security definer
                 as 'begin insert into ddl_log values (tg_tag); end';
             revoke execute on function logged() from public;
             create event trigger logs on ddl_command_end execute function logged()",
        )
        .unwrap();
    // A table of the tenant's own is found first, and its trigger runs as the superuser.
    let attack = "create temp table ddl_log (tag text);
         create temp table seen (name text); grant all on seen to public;
         create function pg_temp.spy() returns trigger language plpgsql as $$
         begin insert into pg_temp.seen select name from public.contacts; return new; end $$;
         create trigger spying before insert on ddl_log for each row execute function pg_temp.spy();
         create temp table noise (); select name from seen";
    let seen = tenant("hidden_event_triggers", attack);
    assert!(seen.contains("Grace"), "the leak itself: {seen}");
    let found = "event_trigger_search_path | event trigger logs | public.logged()";
    assert_eq!(findings(&mut owner), [found]);
    mend(&mut owner);
    assert_eq!(findings(&mut owner), [""; 0]);
    assert!(!tenant("hidden_event_triggers", attack).contains("Grace"));
    for harmless in ["alter event trigger logs disable", "alter function logged() security invoker"]
    {
        not_found(&mut owner, &format!("alter function logged() reset search_path; {harmless}"));
    }
}

#[test]
fn policies_that_take_two_tenants_for_one_are_found() {
    let mut owner = filled("hidden_casts");
    owner.batch_execute("insert into contacts values ('acm', 3, 'Grace')").unwrap();
    for cast in ["varchar(3)", "char(3)", "varchar(3)::text"] {
        let compares = format!("tenant_id::{cast} = current_tenant_id()::{cast}");
        let plant = format!(
            "alter policy multigres_isolation on contacts
                 using ({compares}) with check ({compares});
             alter policy multigres_access on contacts using ({compares}) with check ({compares})"
        );
        owner.batch_execute(&format!("{UNGUARD} {plant}; {GUARD}")).unwrap();
        assert!(tenant("hidden_casts", "select name from contacts").contains("Grace"), "{cast}");
        let found = findings(&mut owner);
        let expected = "policy_casts_tenant | policy multigres_isolation on public.contacts | cast \
                        to character";
        assert!(is_found(&found, expected), "{cast}: {found:?}");
        mend(&mut owner);
        owner.batch_execute("select multigres_protect('contacts')").unwrap();
        mend(&mut owner);
        assert_eq!(findings(&mut owner), [""; 0], "{cast}");
        assert!(!tenant("hidden_casts", "select name from contacts").contains("Grace"), "{cast}");
    }
    let other = "create policy own on contacts as restrictive
                     using (tenant_id::\"char\" = current_tenant_id()::\"char\")";
    let found = "policy_casts_tenant | policy own on public.contacts | cast to \"char\"";
    found_and_mended(&mut owner, other, &[found]);
    not_found(
        &mut owner,
        "create policy own on contacts as restrictive
             using (name::varchar(3) <> 'abc' and tenant_id <> 'x'::varchar(3))",
    );
}

/// The rows of another tenant come to light, are found out, and are not seen once it is mended.
pub(crate) fn leaks_until_mended(owner: &mut Client, plant: &str, leak: &str, expected: &[&str]) {
    owner.batch_execute(plant).unwrap_or_else(|error| panic!("{plant}: {error:?}"));
    let sql = "select current_database()::text";
    let database: String = owner.query_one(sql, &[]).unwrap().get(0);
    let seen = tenant(&database, leak);
    assert!(seen.contains("Grace"), "the leak itself: {leak}: {seen}");
    assert_eq!(findings(owner), expected, "{plant}");
    mend(owner);
    assert_eq!(findings(owner), [""; 0], "mended: {plant}");
    let seen = tenant(&database, leak);
    assert!(!seen.contains("Grace"), "mended: {leak}: {seen}");
}

/// All that a session of tenant acme sees of these statements: rows, messages and the error.
pub(crate) fn tenant(database: &str, sql: &str) -> String {
    let heard = Arc::new(Mutex::new(String::new()));
    let notices = Arc::clone(&heard);
    let mut config = cluster().direct("app_user", database);
    config.options("-c app.current_tenant_id=acme");
    config.notice_callback(move |notice| notices.lock().unwrap().push_str(notice.message()));
    let mut client = config.connect(NoTls).unwrap();
    let pid: i32 = client.query_one("select pg_backend_pid()", &[]).unwrap().get(0);
    let mut seen = String::new();
    match client.simple_query(sql) {
        Ok(messages) => {
            for message in messages {
                if let SimpleQueryMessage::Row(row) = message {
                    (0..row.len()).for_each(|i| seen.push_str(row.get(i).unwrap_or_default()));
                }
            }
        }
        Err(error) => seen.push_str(&format!("{} {error:?}", sqlstate(&error))),
    }
    seen.push_str(&heard.lock().unwrap());
    drop(client);
    // Its temporary tables go with it, and nobody drops what they need before.
    cluster().wait_until_gone(pid);
    seen
}

/// A database with a row of acme's and one of globex's.
pub(crate) fn filled(database: &str) -> Client {
    let mut owner = clean(database);
    owner
        .batch_execute("insert into contacts values ('acme', 1, 'Ada'), ('globex', 1, 'Grace')")
        .unwrap();
    assert_eq!(count(&mut owner, "contacts"), 2);
    assert_eq!(tenant(database, "select name from contacts"), "Ada");
    owner
}
