//! What multigres_check() finds: each fault is planted, found, mended by the SQL that the finding
//! itself gives, and gone. Knows nothing of how the linter looks for them.

use postgres::Client;
use testing::linter::{
    Finding, clean, findings, found_and_mended, is_found, mend, mend_one, not_found, planted,
    version,
};
use testing::{SETUP, UNGUARD, cluster, count, sqlstate};

#[test]
fn a_database_as_setup_and_protect_leave_it_has_no_findings() {
    let mut owner = clean("check_clean");
    assert_eq!(findings(&mut owner), [""; 0]);
    owner.batch_execute(&SETUP).unwrap();
    assert_eq!(findings(&mut owner), [""; 0], "after a second setup");
}

#[test]
fn a_check_is_not_misled_by_what_was_there_at_an_earlier_one_of_the_session() {
    let mut owner = clean("check_again");
    owner.batch_execute(UNGUARD).unwrap();
    let gone = ["current_tenant_id()", "multigres_protect(regclass, name, text)"];
    for function in gone.into_iter().chain(["multigres_own()", "multigres_context(text)"]) {
        assert_eq!(findings(&mut owner), [""; 0]);
        owner.batch_execute(&format!("begin; drop function {function} cascade")).unwrap();
        let error = owner.simple_query("select * from multigres_check()").unwrap_err();
        assert_eq!(sqlstate(&error), "42883", "{function}");
        owner.batch_execute("rollback").unwrap();
    }
}

#[test]
fn what_finds_faults_is_not_for_app_user() {
    clean("check_secret");
    let mut client = cluster().direct("app_user", "check_secret").connect(postgres::NoTls).unwrap();
    for refused in [
        "select * from multigres_check()",
        "select * from multigres.check_role()",
        "select multigres.reached('contacts'::regclass, 'SELECT')",
        "select * from multigres.isolations()",
    ] {
        assert_eq!(sqlstate(&client.batch_execute(refused).unwrap_err()), "42501", "{refused}");
    }
}

#[test]
fn a_table_without_row_level_security_is_found() {
    let mut owner = clean("check_tables");
    found_and_mended(
        &mut owner,
        "alter table contacts disable row level security",
        &["table_rls_disabled | table public.contacts"],
    );
    found_and_mended(
        &mut owner,
        "alter table contacts no force row level security",
        &["table_not_forced | table public.contacts"],
    );
    // The name of the column tells: tenant_id, or that of any protected table.
    found_and_mended(
        &mut owner,
        "create table notes (tenant_id int not null); create index on notes (tenant_id);
         grant select on notes to app_user",
        &["table_not_protected | table public.notes | column tenant_id | SELECT"],
    );
    found_and_mended(
        &mut owner,
        "create table sites (org text not null); create index on sites (org);
         select multigres_protect('sites', 'org');
         create table pages (org text not null, body text); create index on pages (org);
         grant update (body) on pages to public",
        &["table_not_protected | table public.pages | column org | UPDATE"],
    );
    found_and_mended(
        &mut owner,
        "create table own (tenant_id text not null); create index on own (tenant_id);
         alter table own enable row level security; grant delete on own to tenant_tables",
        &["table_with_other_policies | table public.own | column tenant_id | DELETE"],
    );
    not_found(
        &mut owner,
        "create table hidden (tenant_id text);
         create schema closed; create table closed.notes (tenant_id text);
         grant select on closed.notes to app_user; create temp table t (tenant_id text)",
    );
}

#[test]
fn a_table_that_all_tenants_share_is_a_warning_where_they_write_it() {
    let mut owner = clean("check_shared");
    found_and_mended(
        &mut owner,
        "create table countries (code text); grant select on countries to app_user",
        &["table_shared_read | table public.countries"],
    );
    // What may be read remains, as an info.
    owner.batch_execute("begin; create table countries (code text)").unwrap();
    owner.batch_execute("grant select, insert, update (code) on countries to app_user").unwrap();
    assert_eq!(findings(&mut owner), ["table_shared_written | table public.countries"]);
    mend(&mut owner);
    assert_eq!(findings(&mut owner), ["table_shared_read | table public.countries"]);
}

#[test]
fn a_part_of_a_protected_table_without_policies_is_found() {
    let mut owner = clean("check_parts");
    let part = "create table parts (tenant_id text not null, k int) partition by list (k);
                create index on parts (tenant_id); select multigres_protect('parts');
                create table part1 partition of parts default";
    found_and_mended(&mut owner, part, &["part_not_granted | table public.part1"]);
    found_and_mended(
        &mut owner,
        &format!("{part}; grant select on part1 to app_user"),
        &["part_not_protected | table public.part1"],
    );
    found_and_mended(
        &mut owner,
        "create table heir () inherits (contacts); create index on heir (tenant_id);
         grant select on heir to public",
        &["part_not_protected | table public.heir"],
    );
}

#[test]
fn policies_that_were_changed_are_found() {
    let mut owner = clean("check_policies");
    let compares = "policy_changed | policy multigres_isolation on public.contacts";
    for changed in [
        "using (true) with check (true)",
        "using (tenant_id = current_tenant_id() or true)",
        "with check (true)",
        "with check (tenant_id = 'acme')",
        "using (tenant_id <> current_tenant_id()) with check (tenant_id <> current_tenant_id())",
        "using (name = current_tenant_id()) with check (tenant_id = current_tenant_id())",
        "using (tenant_id = current_tenant_id() or name = 'x')
             with check (tenant_id = current_tenant_id() or name = 'x')",
    ] {
        let plant = format!("alter policy multigres_isolation on contacts {changed}");
        let found = planted(&mut owner, &plant);
        assert!(is_found(&found, compares), "{changed}: {found:?}");
        mend(&mut owner);
        assert_eq!(severe(&mut owner), [""; 0], "{changed}");
        owner.batch_execute("rollback").unwrap();
    }
    found_and_mended(
        &mut owner,
        "alter policy multigres_isolation on contacts to trust_user, app_user",
        &["policy_not_for_all_roles | policy multigres_isolation on public.contacts | app_user, \
           trust_user"],
    );
    found_and_mended(
        &mut owner,
        "drop policy multigres_isolation on contacts;
         create policy multigres_isolation on contacts
             using (tenant_id = current_tenant_id()) with check (tenant_id = current_tenant_id())",
        &["policy_not_restrictive | policy multigres_isolation on public.contacts"],
    );
    found_and_mended(
        &mut owner,
        "drop policy multigres_isolation on contacts;
         create policy multigres_isolation on contacts as restrictive for select
             using (tenant_id = current_tenant_id())",
        &["policy_not_for_all_commands | policy multigres_isolation on public.contacts"],
    );
    found_and_mended(
        &mut owner,
        "drop policy multigres_isolation on contacts;
         create policy multigres_isolation on contacts as restrictive
             using (tenant_id = current_tenant_id())",
        &[compares],
    );
    found_and_mended(
        &mut owner,
        "alter policy multigres_access on contacts using (true)",
        &["policy_changed | policy multigres_access on public.contacts"],
    );
}

#[test]
fn a_dimension_whose_policy_was_dropped_is_found() {
    let mut owner = two_dimensions("check_dimensions");
    let healthy = policies(&mut owner);
    let gone = |table: &str, [column, variable]: [&str; 2]| {
        format!("policy_missing | table public.{table} | column {column} | {variable}")
    };
    let tenant = ["tenant_id", "app.current_tenant_id"];
    let user = ["user_id", "app.current_user_id"];
    let both = |table: &str| vec![gone(table, tenant), gone(table, user)];
    let opens = "policy_opens_table | policy own on public.notes".to_owned();
    for (plant, lost) in [
        (DROP.to_owned(), both("notes")),
        (format!("{OWN_POLICY}; {DROP}"), [vec![opens], both("notes")].concat()),
        (format!("drop policy multigres_access on notes; {DROP}"), both("notes")),
        ("drop policy multigres_isolation on part".to_owned(), both("part")),
        // A column takes the policy along that names it; what is left is held again.
        ("alter table notes drop user_id cascade".to_owned(), vec![gone("notes", user)]),
    ] {
        let lost: Vec<&str> = lost.iter().map(String::as_str).collect();
        found_and_mended(&mut owner, &plant, &lost);
        owner.batch_execute(&format!("begin; {UNGUARD} {plant}")).unwrap();
        mend(&mut owner);
        let held = "multigres_status() where table_name = 'public.notes' and protected = 'yes'";
        let dimensions = if plant.contains("drop user_id") { 1 } else { 2 };
        assert_eq!(count(&mut owner, held), dimensions, "{plant}");
        owner.batch_execute("rollback").unwrap();
    }
    owner.batch_execute(&format!("begin; {UNGUARD} {DROP}")).unwrap();
    mend(&mut owner);
    assert_eq!(policies(&mut owner), healthy, "the mended is as it was");
    owner.batch_execute("rollback").unwrap();
}

#[test]
fn what_was_meant_is_no_lost_dimension() {
    let mut owner = two_dimensions("check_meant");
    for harmless in [
        OWN_POLICY,
        "set local quote_all_identifiers = on",
        "select multigres_unprotect('notes', 'user_id')",
        "select multigres_unprotect('notes', 'tenant_id')",
        "alter table notes rename user_id to member_id",
        "alter table notes rename user_id to member_id;
         select multigres_protect('notes', 'member_id', 'app.current_user_id')",
        "alter table notes rename tenant_id to organization_id;
         select multigres_protect('notes', 'organization_id')",
        "alter table notes rename to memos; alter table memos rename tenant_id to organization_id",
    ] {
        not_found(&mut owner, harmless);
    }
    // Unprotected by one column, the policy of the other is written again.
    for column in ["user_id", "tenant_id"] {
        let all = format!("{DROP}; select multigres_unprotect('notes', '{column}')");
        not_found(&mut owner, &all);
    }
    not_found(
        &mut owner,
        &format!("{DROP}; select multigres_unprotect('notes'); drop table notes"),
    );
    let all = format!("{UNGUARD} {DROP}; select multigres_unprotect('notes')");
    owner.batch_execute(&all).unwrap();
    assert_eq!(count(&mut owner, "pg_policy where polrelid = 'notes'::regclass"), 0);
}

const DROP: &str = "drop policy multigres_isolation on notes";

/// A permissive policy of the table's own, in place of multigres_access.
const OWN_POLICY: &str =
    "create policy own on notes using (true); drop policy multigres_access on notes";

/// The superuser in a database with two tables that hold tenants and users, and nothing to find.
fn two_dimensions(database: &str) -> Client {
    let mut owner = clean(database);
    owner
        .batch_execute(
            "create extension citext;
             create table notes (tenant_id citext, user_id int, body text);
             select multigres_protect('notes', 'user_id', 'app.current_user_id');
             select multigres_protect('notes');
             create table parts (tenant_id text, user_id int) partition by list (user_id);
             create table part partition of parts default;
             select multigres_protect('parts');
             select multigres_protect('parts', 'user_id', 'app.current_user_id')",
        )
        .unwrap();
    owner
}

#[test]
fn a_changed_policy_is_mended_for_the_column_and_the_variable_that_it_had() {
    let mut owner = clean("check_changed");
    owner
        .batch_execute(
            "create table notes (tenant_id text, user_id int);
             select multigres_protect('notes');
             select multigres_protect('notes', 'user_id', 'app.current_user_id')",
        )
        .unwrap();
    let healthy = policies(&mut owner);
    for policy in ["multigres_isolation", "multigres_access"] {
        for changed in ["true", "user_id > 0", "tenant_id = current_tenant_id() or true"] {
            let plant = format!("alter policy {policy} on notes using ({changed})");
            let found = planted(&mut owner, &plant);
            assert_eq!(found.len(), 1, "{found:?}");
            mend(&mut owner);
            assert_eq!(policies(&mut owner), healthy, "{plant}");
            assert_eq!(findings(&mut owner), [""; 0], "{plant}");
            owner.batch_execute("rollback").unwrap();
        }
    }
}

#[test]
fn status_and_check_agree_on_a_comparison_that_is_written_otherwise() {
    let mut owner = clean("check_types");
    for kind in ["text", "varchar", "varchar(20)", "uuid", "smallint", "integer", "bigint"] {
        let cast = if kind.starts_with('v') { "text" } else { kind };
        let call = "public.current_tenant_id()";
        let wanted = format!("(select {call}::{cast})");
        for value in [&*wanted, &format!("{call}::{cast}"), &format!("(select {call})::{cast}")] {
            let check = format!(r#""a (b)" = {value}"#);
            owner
                .batch_execute(&format!(
                    r#"begin; {UNGUARD} create table typed ("a (b)" {kind} primary key);
                       select multigres_protect('typed', 'a (b)');
                       alter policy multigres_isolation on typed
                           using ({check}) with check ({check});
                       alter policy multigres_access on typed
                           using ({check}) with check ({check})"#
                ))
                .unwrap();
            // A cast of text to text leaves nothing behind.
            let same = value == wanted || cast == "text" && value.starts_with("(select");
            let held = "multigres_status() where table_name = 'public.typed' and protected = 'yes'";
            assert_eq!(count(&mut owner, held) == 1, same, "{kind}: {value}");
            assert_eq!(findings(&mut owner).is_empty(), same, "{kind}: {value}");
            owner.batch_execute("rollback").unwrap();
        }
    }
}

#[test]
fn policies_that_open_a_table_are_found_where_nothing_restricts_them() {
    let mut owner = clean("check_open");
    let opens = "policy_opens_table | policy open on public.contacts";
    let open = "create policy open on contacts using (true)";
    not_found(&mut owner, open);
    let found = planted(
        &mut owner,
        &format!("{open}; alter policy multigres_isolation on contacts using (true)"),
    );
    assert!(is_found(&found, opens), "{found:?}");
    mend(&mut owner);
    assert_eq!(findings(&mut owner), [""; 0]);
    owner.batch_execute("rollback").unwrap();

    let alone = "drop policy multigres_isolation on contacts";
    let gone = "policy_missing | table public.contacts | column tenant_id | app.current_tenant_id";
    // A table that was restored without its record.
    let without = "policy_without_isolation | policy multigres_access on public.contacts";
    for (older, expected, lines) in
        [("", gone, 2), ("; delete from multigres.dimensions", without, 3)]
    {
        let found = planted(&mut owner, &format!("{open}; {alone}{older}"));
        assert!(is_found(&found, opens), "{found:?}");
        assert!(is_found(&found, expected), "{found:?}");
        assert_eq!(found.len(), lines, "{found:?}");
        mend(&mut owner);
        assert_eq!(findings(&mut owner), [""; 0]);
        owner.batch_execute("rollback").unwrap();
    }

    let found = planted(
        &mut owner,
        &format!("create policy open on contacts to trust_user using (true); {alone}"),
    );
    assert!(is_found(&found, &format!("{opens} | roles other than app_user")), "{found:?}");
    owner.batch_execute("rollback").unwrap();
}

#[test]
fn policies_over_a_setting_are_errors_once_the_database_is_sealed() {
    let mut owner = clean("check_settings");
    let direct = "create policy own on contacts using (name = current_setting('app.x', true))";
    let by_function = "create function whoami() returns text language sql stable
                           as 'select current_setting(''app.x'', true)';
                       create policy own on contacts using (name = whoami())";
    let sealed = "select multigres_seal(repeat('0', 64))";
    for policy in [direct, by_function] {
        let found = "policy_reads_setting | policy own on public.contacts";
        found_and_mended(&mut owner, policy, &[found]);
        let plant = format!("{sealed}; {policy}");
        let found = "policy_not_held_by_seal | policy own on public.contacts";
        found_and_mended(&mut owner, &plant, &[found]);
    }
    not_found(&mut owner, sealed);
    // A grant to anybody at all: it refuses every login.
    for grant in ["select", "insert", "delete, update", "select (bind)"] {
        for role in ["app_user", "trust_user"] {
            found_and_mended(
                &mut owner,
                &format!("{sealed}; grant {grant} on multigres.seal_keys to {role}"),
                &[&format!("seal_keys_granted | table multigres.seal_keys | {role}")],
            );
        }
    }
    if version(&mut owner) >= 14 {
        for member in ["pg_read_all_data", "pg_write_all_data"] {
            let grant = format!("grant {member} to app_user");
            let found = format!("role_predefined | role app_user | {member}");
            found_and_mended(&mut owner, &grant, &[&found]);
            let plant = format!("{sealed}; {grant}");
            let found = format!("role_reaches_seal_keys | role app_user | {member}");
            found_and_mended(&mut owner, &plant, &[&found]);
        }
    }
}

#[test]
fn a_tenant_column_that_may_be_null_or_has_no_index_is_found() {
    let mut owner = clean("check_columns");
    found_and_mended(
        &mut owner,
        "alter table contacts drop constraint contacts_pkey;
         alter table contacts alter column tenant_id drop not null;
         create index on contacts (tenant_id)",
        &["tenant_column_nullable | table public.contacts | column tenant_id"],
    );
    found_and_mended(
        &mut owner,
        "alter table contacts drop constraint contacts_pkey; create index on contacts (name);
         create index on contacts (tenant_id) where name = 'x'",
        &[
            "index_without_tenant | index public.contacts_name_idx | on public.contacts | \
             tenant_id",
            "tenant_column_not_indexed | table public.contacts | tenant_id",
        ],
    );
}

#[test]
fn keys_that_tell_of_other_tenants_are_found() {
    let mut owner = clean("check_keys");
    found_and_mended(
        &mut owner,
        "alter table contacts add constraint names unique (name)",
        &["unique_without_tenant | constraint names on public.contacts | tenant_id"],
    );
    found_and_mended(
        &mut owner,
        "alter table contacts add constraint names exclude using btree (name with =)",
        &["unique_without_tenant | constraint names on public.contacts | tenant_id"],
    );
    found_and_mended(
        &mut owner,
        "create unique index names on contacts (lower(name)) where name <> ''",
        &["unique_without_tenant | index public.names | tenant_id"],
    );
    found_and_mended(
        &mut owner,
        "create table plain (id int primary key, tenant_id text not null);
         create index on plain (tenant_id); select multigres_protect('plain')",
        &["unique_without_tenant | constraint plain_pkey on public.plain | tenant_id"],
    );
    for id in
        ["bigserial", "int generated by default as identity", "uuid default gen_random_uuid()"]
    {
        found_and_mended(
            &mut owner,
            &format!(
                "create table made (id {id} primary key, tenant_id text not null);
                 create index on made (tenant_id); select multigres_protect('made')"
            ),
            &["surrogate_key_without_tenant | constraint made_pkey on public.made | tenant_id"],
        );
    }
}

#[test]
fn references_past_the_tenant_are_found() {
    let mut owner = clean("check_references");
    let calls = "create table calls (tenant_id text not null, id int, contact bigint,
                     primary key (tenant_id, id));
                 select multigres_protect('calls');
                 alter table contacts add constraint by_id unique (id);";
    let unique = "unique_without_tenant | constraint by_id on public.contacts | tenant_id";
    let refers = "foreign_key_without_tenant | constraint its_contact on public.calls | refers to \
                  public.contacts | without tenant_id";
    for (action, more) in [("", ""), ("on delete cascade", " | deleted or changed")] {
        let plant = format!(
            "{calls} alter table calls add constraint its_contact foreign key (contact)
                 references contacts (id) {action}"
        );
        let found = planted(&mut owner, &plant);
        // In this order: the reference depends on the constraint.
        assert_eq!(found, [format!("{refers}{more}"), unique.to_owned()]);
        assert_eq!(found[0].problem.contains("deleted"), action.contains("cascade"));
        mend_one(&mut owner, "constraint its_contact on public.calls");
        mend_one(&mut owner, "constraint by_id on public.contacts");
        assert_eq!(findings(&mut owner), [""; 0]);
        owner.batch_execute("rollback").unwrap();
    }
}

/// What the policies of the database say, and what they know of each other.
fn policies(owner: &mut Client) -> Vec<String> {
    let sql = "select concat_ws(' ', polrelid::regclass, polname, polpermissive,
                   polroles::regrole[], pg_get_expr(polqual, polrelid),
                   pg_get_expr(polwithcheck, polrelid))
               from pg_policy order by 1";
    owner.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

fn severe(owner: &mut Client) -> Vec<Finding> {
    findings(owner).into_iter().filter(|found| found.severity != "info").collect()
}
