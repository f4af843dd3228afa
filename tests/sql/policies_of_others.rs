//! Tables that somebody else has given a policy with a name of Multigres: setup.sql neither takes
//! them into its record, nor trips over them.

use std::sync::{Arc, Mutex};

use postgres::{Client, NoTls};
use testing::linter::{clean, findings, is_found, mend, planted};
use testing::{SETUP, TEARDOWN, cluster, count, set_up_database, sqlstate};

/// Word for word what `multigres_protect()` writes for a uuid.
const FORGED: &str =
    "(tenant_id = ( SELECT (public.current_tenant_id())::uuid AS current_tenant_id))";

const HELD: &str = "enable row level security, force row level security";

#[test]
fn a_temporary_table_of_a_tenant_is_never_recorded() {
    let database = set_up_database("forged_temporary");
    let mut owner = protected(&database);
    let tenant = || cluster().direct("app_user", &database).connect(NoTls).unwrap();
    let mut forger = tenant();
    forge(&mut forger, "create temp table t(tenant_id uuid)", "");
    let mut commented = tenant();
    let comment = r#"{"table": {}, "column": "tenant_id", "variable": "app.current_tenant_id"}"#;
    forge(&mut commented, "create temp table t(tenant_id text)", comment);
    for round in ["as it is made", "again"] {
        owner.batch_execute(&SETUP).unwrap();
        serves(&mut owner, round);
    }
    // An older version did record it, and its name.
    owner
        .batch_execute(
            "insert into multigres.protected select n.nspname, c.relname, c.oid, null, false
             from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
             where c.relname = 't' and c.relpersistence = 't';
             insert into multigres.tables (relation) select relation from multigres.protected
             where schema_name ~ '^pg_temp';
             insert into multigres.dimensions select relation, 1, 'tenant_id', 1,
                 'app.current_tenant_id', 'uuid' from multigres.protected
             where schema_name ~ '^pg_temp'",
        )
        .unwrap();
    // Until then, no tenant is refused for how their name is written.
    let misspelt = "(select multigres_spelling('app.current_tenant_id', 'acme') as m) as m
        where m is not null";
    assert_eq!(count(&mut owner, misspelt), 0);
    owner.batch_execute(&SETUP).unwrap();
    serves(&mut owner, "recorded by an older version");
    let own = "multigres.isolations() where relation <> 'notes'::regclass";
    assert_eq!(count(&mut owner, own), 0);
    drop((forger, commented));
    let mut innocent = tenant();
    innocent.batch_execute("create temp table t (a int)").unwrap();
    serves(&mut owner, "another table in the slot of one that is gone");
    let error =
        owner.batch_execute("create temp table t(tenant_id text); select multigres_protect('t')");
    assert_eq!(sqlstate(&error.unwrap_err()), "42809");
}

#[test]
fn a_table_of_another_role_counts_only_once_it_is_protected() {
    let database = set_up_database("forged_other");
    protected(&database);
    let heard = Arc::new(Mutex::new(String::new()));
    let notices = Arc::clone(&heard);
    let mut config = cluster().direct("postgres", &database);
    config.notice_callback(move |notice| *notices.lock().unwrap() += notice.message());
    let mut owner = config.connect(NoTls).unwrap();
    owner.batch_execute("create schema theirs authorization trust_user").unwrap();
    owner.batch_execute("set role trust_user").unwrap();
    forge(&mut owner, "create table theirs.t(tenant_id uuid)", "");
    // app_user's own, which it can open at any time.
    owner.batch_execute("reset role; grant all on schema theirs to app_user").unwrap();
    owner.batch_execute("set role app_user; set search_path = theirs").unwrap();
    let comment = r#"{"table": {}, "column": "tenant_id", "variable": "app.current_tenant_id"}"#;
    forge(&mut owner, "create table theirs.own(tenant_id text)", comment);
    owner.batch_execute("reset role; reset search_path").unwrap();
    for _ in 0..2 {
        heard.lock().unwrap().clear();
        owner.batch_execute(&SETUP).unwrap();
        let told = heard.lock().unwrap().clone();
        for (table, role) in [("theirs.t", "trust_user"), ("theirs.own", "app_user")] {
            let words = format!(
                "{table} has a policy of Multigres and is not recorded, because {role} owns it"
            );
            assert!(told.contains(&words), "{told}");
        }
        serves(&mut owner, "theirs");
    }
    let refused = "(select multigres_spelling('app.current_tenant_id', 'acme') as m) as m
        where m is not null";
    owner.batch_execute("select multigres_protect('theirs.t')").unwrap();
    assert_eq!(count(&mut owner, "multigres.dimensions"), 2, "who protects it has said so");
    assert_eq!(count(&mut owner, refused), 1);
    owner.batch_execute(TEARDOWN).unwrap();
    assert_eq!(count(&mut owner, "pg_policy"), 0);
}

#[test]
fn a_policy_that_has_nothing_but_our_name_is_found_and_stops_nobody() {
    let mut owner = clean("forged_name");
    for (table, mended) in [
        ("create table x (a int)", "select public.multigres_unprotect('public.x')"),
        (
            "create table x (a int); alter table x enable row level security",
            "select public.multigres_unprotect('public.x'); \
             alter table public.x enable row level security",
        ),
        (
            "create table x (a int, tenant_id text not null)",
            "select public.multigres_protect('public.x', 'tenant_id')",
        ),
    ] {
        let forge = format!("{table}; create policy multigres_isolation_x on x using (true)");
        owner.batch_execute(&forge).unwrap();
        for round in ["as it is made", "after setup.sql"] {
            let found = findings(&mut owner);
            let fix = found.iter().find(|found| {
                **found == "policy_changed | policy multigres_isolation_x on public.x | is not the"
            });
            assert_eq!(fix.expect(round).fix.as_deref(), Some(mended), "{found:?}");
            let status = "multigres_status() where table_name = 'public.x' and protected = 'no'
                and problems ~ '^has a policy with a name of Multigres'";
            assert_eq!(count(&mut owner, status), 1, "{round}");
            let refused = "(select multigres_verdict() as v) as v where v is not null";
            assert_eq!(count(&mut owner, refused), 0, "{round}");
            owner.batch_execute(&SETUP).unwrap();
        }
        // Whoever reaches it is refused.
        owner.batch_execute("grant select (a) on x to app_user").unwrap();
        let open = "(select multigres_verdict() as v) as v where v ~ '^public.x: '";
        assert_eq!(count(&mut owner, open), 1);
        owner.batch_execute("revoke select (a) on x from app_user").unwrap();
        mend(&mut owner);
        assert_eq!(findings(&mut owner), [""; 0], "{table}");
        owner
            .batch_execute("drop table x; delete from multigres.protected where table_name = 'x'")
            .unwrap();
    }
}

#[test]
fn a_forged_name_on_an_unrecorded_table_hides_no_open_policy() {
    let mut owner = clean("forged_hidden");
    let plant = "create schema theirs authorization trust_user; grant usage on schema theirs to
            app_user; set role trust_user; create table theirs.t (tenant_id text not null);
        create index on theirs.t (tenant_id); grant select on theirs.t to app_user;
        alter table theirs.t enable row level security;
        create policy multigres_isolation_x on theirs.t using (true); reset role";
    let found = planted(&mut owner, plant);
    let expected = "policy_opens_table | policy multigres_isolation_x on theirs.t";
    assert!(is_found(&found, expected), "{found:?}");
}

fn protected(database: &str) -> Client {
    let mut owner = cluster().superuser(database);
    let sql = "create table notes (tenant_id text); select multigres_protect('notes')";
    owner.batch_execute(sql).unwrap();
    owner
}

fn forge(client: &mut Client, create: &str, comment: &str) {
    let table = create.split(['(', ' ']).rev().nth(2).unwrap();
    let condition =
        if comment.is_empty() { FORGED } else { "tenant_id = public.current_tenant_id()" };
    client
        .batch_execute(&format!(
            "{create}; alter table {table} {HELD};
             create policy multigres_isolation on {table} as restrictive
                 using ({condition}) with check ({condition});
             create policy multigres_access on {table} using ({condition})"
        ))
        .unwrap();
    if !comment.is_empty() {
        let sql = format!("comment on policy multigres_isolation on {table} is '{comment}'");
        client.batch_execute(&sql).unwrap();
    }
}

/// Nothing but the one protected table is recorded, and tenants of any spelling log in.
fn serves(owner: &mut Client, when: &str) {
    for record in ["protected", "tables", "dimensions"] {
        assert_eq!(count(owner, &format!("multigres.{record}")), 1, "{record}, {when}");
    }
    let refused = "(select multigres_verdict() union all
        select multigres_spelling('app.current_tenant_id', 'acme')) as v(v) where v is not null";
    assert_eq!(count(owner, refused), 0, "{when}");
}
