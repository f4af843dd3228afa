//! The record of protected tables, and the one verdict that stands on it: what status, the linter,
//! unprotect and the seal make of it.

use std::sync::{Arc, Mutex};

use postgres::{Client, NoTls};
use testing::linter::{findings, is_found, mend, version};
use testing::{SETUP, UNGUARD, cluster, count, set_up_database, sqlstate};

const SEAL: &str = "select multigres_seal(repeat('0', 64), 'none')";

#[test]
fn the_seal_gives_every_table_a_front_and_unseal_takes_it_back() {
    let database = set_up_database("record_seal");
    let mut owner = cluster().superuser(&database);
    owner
        .batch_execute(
            "create extension citext; create domain named as text; create domain keyed as uuid;
             do $$
             declare
                 kind text;
                 number int := 0;
             begin
                 foreach kind in array '{text, varchar, varchar(20), citext, uuid, smallint,
                     integer, bigint, named, keyed}'::text[]
                 loop
                     number := number + 1;
                     execute format('create table t%s (tenant_id %s, k int)', number, kind);
                     perform multigres_protect(to_regclass('t' || number));
                     perform multigres_protect(to_regclass('t' || number), 'k', 'app.k');
                 end loop;
             end
             $$;
             create table part (tenant_id uuid, k int) partition by list (k);
             create table part1 partition of part for values in (1);
             select multigres_protect('part')",
        )
        .unwrap();
    let plain = forms(&mut owner);
    assert_eq!(plain.len(), 12);
    assert!(plain.iter().all(|line| line.ends_with(" plain")), "{plain:?}");
    let texts = policies(&mut owner);
    for round in ["sealed", "sealed again"] {
        owner.batch_execute(SEAL).unwrap();
        owner.batch_execute(&SETUP).unwrap();
        let fronted = forms(&mut owner);
        assert!(fronted.iter().all(|line| line.ends_with(" fronted")), "{round}: {fronted:?}");
        assert_eq!(findings(&mut owner), [""; 0], "{round}");
        // A dump writes the policies as they are printed; what it restores is printed the same.
        let sealed = policies(&mut owner);
        print_and_make_again(&mut owner);
        assert_eq!(policies(&mut owner), sealed);
        assert_eq!(forms(&mut owner), fronted, "{round}");
    }
    owner.batch_execute("select multigres_front('part', false)").unwrap();
    let open = "multigres_status() where protected = 'yes'
        and problems ~ 'multigres_front'";
    assert_eq!(count(&mut owner, open), 2, "the table and its partition");
    let told = findings(&mut owner);
    assert_eq!(told.len(), 2);
    let off = ["seal_front_off | table public.part", "seal_front_off | table public.part1"];
    assert_eq!(told, off);
    owner.batch_execute(SEAL).unwrap();
    assert_eq!(count(&mut owner, open), 2, "it was asked for");
    mend(&mut owner);
    assert_eq!(findings(&mut owner), [""; 0]);
    owner.batch_execute("select multigres_unseal()").unwrap();
    assert_eq!(policies(&mut owner), texts);
    assert_eq!(findings(&mut owner), [""; 0]);
}

#[test]
fn a_table_that_who_seals_does_not_own_is_named() {
    cluster()
        .superuser("postgres")
        .batch_execute("create role record_admin login createrole; create role record_other")
        .unwrap();
    let database = "record_owners";
    let mut superuser = cluster().superuser("postgres");
    superuser.batch_execute("create database record_owners owner record_admin").unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let notices = Arc::clone(&heard);
    let mut config = cluster().direct("record_admin", database);
    config.notice_callback(move |notice| notices.lock().unwrap().push(notice.to_string()));
    let mut admin = config.connect(NoTls).unwrap();
    admin.batch_execute(&SETUP).unwrap();
    admin
        .batch_execute(
            "create table mine (tenant_id text); select multigres_protect('mine');
             create table theirs (tenant_id text); select multigres_protect('theirs');
             create table open (tenant_id text); select multigres_protect('open');
             alter policy multigres_isolation on open using (true)",
        )
        .unwrap();
    let mut superuser = cluster().superuser(database);
    superuser.batch_execute("alter table theirs owner to record_other").unwrap();
    admin.batch_execute(SEAL).unwrap();
    let text = heard.lock().unwrap().join("\n");
    assert!(text.contains("the policies of public.theirs remain in their plain form"), "{text}");
    assert!(text.contains("the policies of public.open were changed"), "{text}");
    assert!(!text.contains("policies of public.mine"), "{text}");
    let left = "public.theirs no has the policies of a database that is not sealed";
    assert!(status(&mut superuser).contains(&left.to_owned()), "{:?}", status(&mut superuser));
    let warning = "policy_not_sealed | table public.theirs";
    assert!(is_found(&findings(&mut superuser), warning));
    superuser.batch_execute("select multigres_protect('theirs')").unwrap();
    assert!(!is_found(&findings(&mut superuser), warning));
    admin.batch_execute("select multigres_unseal()").unwrap();
    let still = "policy_still_sealed | table public.theirs";
    assert!(is_found(&findings(&mut superuser), still));
    superuser.batch_execute("select multigres_protect('theirs')").unwrap();
    assert!(!is_found(&findings(&mut superuser), still));
}

#[test]
fn policies_that_came_since_keep_row_level_security_when_a_table_is_unprotected() {
    let database = set_up_database("record_added");
    let heard = Arc::new(Mutex::new(Vec::new()));
    let notices = Arc::clone(&heard);
    let mut config = cluster().direct("postgres", &database);
    config.notice_callback(move |notice| notices.lock().unwrap().push(notice.to_string()));
    let mut owner = config.connect(NoTls).unwrap();
    owner
        .batch_execute(
            "create table notes (tenant_id text, body text);
             create policy before on notes using (true);
             insert into notes values ('acme', 'public'), ('acme', 'secret');
             grant select on notes to app_user;
             select multigres_protect('notes');
             create policy since on notes as restrictive using (body = 'public');
             select multigres_unprotect('notes')",
        )
        .unwrap();
    let held = "pg_class where relname = 'notes' and relrowsecurity and relforcerowsecurity";
    assert_eq!(count(&mut owner, held), 1);
    let text = heard.lock().unwrap().join("\n");
    assert!(text.contains("row-level security remains enabled on public.notes"), "{text}");
    let mut client = cluster().direct("app_user", &database).connect(NoTls).unwrap();
    assert_eq!(count(&mut client, "notes"), 1, "what the other policy hides stays hidden");
    // Without it the table becomes what it was: policies, and nothing that switches them on.
    owner
        .batch_execute(
            "drop policy since on notes; alter table notes disable row level security,
                 no force row level security;
             select multigres_protect('notes'), multigres_unprotect('notes')",
        )
        .unwrap();
    assert_eq!(count(&mut owner, held), 0);
    assert_eq!(heard.lock().unwrap().len(), 1);
}

#[test]
fn status_and_check_name_what_works_for_nobody() {
    let database = set_up_database("record_nobody");
    let mut owner = cluster().superuser(&database);
    owner
        .batch_execute("create table notes (tenant_id text); select multigres_protect('notes')")
        .unwrap();
    for (plant, line, found) in [
        (
            "drop policy multigres_access on notes",
            "public.notes no no permissive policy lets app_user DELETE, INSERT, SELECT, UPDATE",
            "privilege_without_policy | table public.notes | DELETE, INSERT, SELECT, UPDATE",
        ),
        (
            "create policy own on notes for select using (true);
             create policy none on notes for insert with check (false);
             drop policy multigres_access on notes; revoke update, delete on notes from app_user",
            "public.notes no no permissive policy lets app_user INSERT",
            "privilege_without_policy | table public.notes | app_user has INSERT,",
        ),
        (
            "grant select on notes to trust_user",
            "public.notes yes role trust_user sees no row: it is not a member of app_user",
            "role_sees_no_row | table public.notes | trust_user",
        ),
        (
            "alter table notes alter tenant_id drop default",
            "public.notes yes column tenant_id has no default",
            "tenant_column_without_default | table public.notes | tenant_id",
        ),
    ] {
        owner.batch_execute(&format!("begin; {UNGUARD} {plant}")).unwrap();
        assert_eq!(status(&mut owner), [line]);
        assert_eq!(findings(&mut owner), [found]);
        mend(&mut owner);
        assert_eq!(findings(&mut owner), [""; 0], "{plant}");
        owner.batch_execute("rollback").unwrap();
    }
}

#[test]
fn a_variable_holds_one_column_of_a_table_and_a_virtual_column_none() {
    let database = set_up_database("record_refused");
    let mut owner = cluster().superuser(&database);
    owner
        .batch_execute(
            "create table notes (tenant_id text, other text); select multigres_protect('notes')",
        )
        .unwrap();
    let before = policies(&mut owner);
    let error = owner.batch_execute("select multigres_protect('notes', 'other')").unwrap_err();
    assert_eq!(sqlstate(&error), "55000");
    assert_eq!(policies(&mut owner), before);
    // The column may be renamed: it is the same one.
    owner
        .batch_execute(
            "alter table notes rename tenant_id to org; select multigres_protect('notes', 'org')",
        )
        .unwrap();
    assert_eq!(findings(&mut owner), [""; 0]);
    if version(&mut owner) >= 18 {
        owner
            .batch_execute(
                "create table v (k text, tenant_id text generated always as (lower(k)) virtual)",
            )
            .unwrap();
        let error = owner.batch_execute("select multigres_protect('v')").unwrap_err();
        assert_eq!(sqlstate(&error), "42809");
        assert!(error.as_db_error().unwrap().message().contains("is virtual"));
    }
}

#[test]
fn a_table_that_is_restored_without_its_record_is_read_from_its_policy() {
    let database = set_up_database("record_adopted");
    let mut owner = cluster().superuser(&database);
    owner
        .batch_execute(&format!(
            "create table notes (gone int, tenant_id uuid, user_id int);
             alter table notes drop gone;
             select multigres_protect('notes', 'user_id', 'app.current_user_id');
             select multigres_protect('notes'); {SEAL}"
        ))
        .unwrap();
    let line = status(&mut owner);
    let kept = policies(&mut owner);
    for again in [&*SETUP, "select multigres_protect('notes')"] {
        owner
            .batch_execute("delete from multigres.dimensions; delete from multigres.tables")
            .unwrap();
        assert_eq!(status(&mut owner), line, "the policy itself tells");
        assert_eq!(findings(&mut owner), [""; 0]);
        owner.batch_execute(again).unwrap();
        assert_eq!(count(&mut owner, "multigres.dimensions"), 2);
        assert_eq!(policies(&mut owner), kept);
    }
    owner.batch_execute("delete from multigres.dimensions; delete from multigres.tables").unwrap();
    owner.batch_execute("select multigres_unprotect('notes')").unwrap();
    assert_eq!(count(&mut owner, "pg_policy"), 0);
    assert_eq!(count(&mut owner, "multigres.dimensions"), 0);
}

#[test]
fn our_index_has_a_name_that_a_schema_tool_can_declare() {
    let database = set_up_database("record_index");
    let mut owner = cluster().superuser(&database);
    let long = "a".repeat(60);
    owner
        .batch_execute(&format!(
            "create table notes (tenant_id text); create table multigres_memos_tenant_id ();
             create table memos (tenant_id text); create table {long} (tenant_id text);
             select multigres_protect('notes'), multigres_protect('memos'),
                 multigres_protect('{long}')"
        ))
        .unwrap();
    let made = "pg_index where indexrelid::regclass::text in
        ('multigres_notes_tenant_id', 'multigres_memos_tenant_id2')";
    assert_eq!(count(&mut owner, made), 2);
    owner.batch_execute(&format!("select multigres_unprotect('{long}')")).unwrap();
    assert_eq!(count(&mut owner, "pg_class where relname ~ '^multigres_[0-9a-f]{32}$'"), 0);
}

#[test]
fn a_tenant_has_one_spelling() {
    let database = set_up_database("record_spelling");
    let mut owner = cluster().superuser(&database);
    owner
        .batch_execute(
            "create table names (tenant_id text); select multigres_protect('names');
             create table numbers (org int, k text); select multigres_protect('numbers', 'org',
                 'app.org');
             create table keys (u uuid); select multigres_protect('keys', 'u', 'app.u')",
        )
        .unwrap();
    let uuid = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    let mut client = cluster().direct("app_user", &database).connect(NoTls).unwrap();
    let trap = "create temp table pg_class (oid oid); set search_path = pg_temp, pg_catalog";
    client.batch_execute(trap).unwrap();
    let mut spelling = |variable: &str, value: &str| -> Option<String> {
        let sql = "select public.multigres_spelling($1, $2)";
        client.query_one(sql, &[&variable, &value]).unwrap().get(0)
    };
    for (variable, value) in [
        ("app.current_tenant_id", "007"),
        ("app.current_tenant_id", " Acme"),
        ("app.unknown", "x"),
        ("app.org", "7"),
        ("app.org", "0"),
        ("app.org", "-2147483648"),
        ("App.Org", "2147483647"),
        ("app.u", uuid),
    ] {
        assert_eq!(spelling(variable, value), None, "{variable} {value}");
    }
    for (variable, value, meant) in [
        ("app.org", "007", "7"),
        ("app.org", " 7", "7"),
        ("app.org", "+7", "7"),
        ("app.org", "-0", "0"),
        ("app.u", "6BA7B810-9DAD-11D1-80B4-00C04FD430C8", uuid),
        ("app.u", "{6ba7b810-9dad-11d1-80b4-00c04fd430c8}", uuid),
        ("app.u", "6ba7b8109dad11d180b400c04fd430c8", uuid),
    ] {
        let why = spelling(variable, value).unwrap_or_default();
        assert!(why.starts_with(&format!("must be spelt \"{meant}\"")), "{value}: {why}");
    }
    for (variable, value) in
        [("app.org", "acme"), ("app.org", ""), ("app.org", "2147483648"), ("app.u", "acme")]
    {
        let why = spelling(variable, value).unwrap_or_default();
        assert!(why.starts_with("is not a value of type "), "{value}: {why}");
    }
    owner.batch_execute("drop table numbers").unwrap();
    assert_eq!(spelling("app.org", "acme"), None, "what is dropped asks for nothing");
}

fn forms(owner: &mut Client) -> Vec<String> {
    let sql = "select relation::text || ' ' || coalesce(multigres.form(relation), '-')
               from multigres.tables order by 1";
    owner.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

fn policies(owner: &mut Client) -> Vec<String> {
    let sql = "select concat_ws(' ', polrelid::regclass, polname, polpermissive,
                   polroles::regrole[], pg_get_expr(polqual, polrelid),
                   pg_get_expr(polwithcheck, polrelid))
               from pg_policy order by 1";
    owner.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

fn print_and_make_again(owner: &mut Client) {
    owner
        .batch_execute(
            "do $$
             declare
                 p record;
             begin
                 for p in
                     select polname, polrelid::regclass as name,
                         pg_get_expr(polqual, polrelid) as qual,
                         pg_get_expr(polwithcheck, polrelid) as given
                     from pg_policy
                 loop
                     execute format('alter policy %I on %s using (%s) with check (%s)',
                         p.polname, p.name, p.qual, p.given);
                 end loop;
             end
             $$",
        )
        .unwrap();
}

fn status(owner: &mut Client) -> Vec<String> {
    let sql = "select concat_ws(' ', table_name, protected, nullif(problems, ''))
               from multigres_status() where tenant_column is not null or problems <> ''";
    owner.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}
