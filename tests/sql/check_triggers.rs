//! What multigres_check() finds that acts for app_user, or carries rows past it, unasked: rules,
//! triggers, publications, and connections out of the server.

use postgres::NoTls;
use testing::linter::{clean, findings, found_and_mended, mend, not_found, version};
use testing::{cluster, count};

#[test]
fn connections_out_of_the_server_are_found() {
    let mut owner = clean("check_links");
    // Extensions come and go with a transaction, as tables do.
    found_and_mended(&mut owner, "create extension dblink", &["dblink_granted | extension dblink"]);
    found_and_mended(
        &mut owner,
        "create extension dblink;
         grant execute on function dblink_connect_u(text) to tenant_tables",
        &["dblink_without_password | extension dblink | without a password"],
    );
    let server = "create extension postgres_fdw; create server far foreign data wrapper \
                  postgres_fdw";
    not_found(&mut owner, server);
    not_found(&mut owner, &format!("{server}; create user mapping for postgres server far"));
    found_and_mended(
        &mut owner,
        &format!("{server}; grant usage on foreign server far to app_user"),
        &["foreign_server_granted | foreign server far | user mapping"],
    );
    found_and_mended(
        &mut owner,
        "create extension postgres_fdw;
         grant usage on foreign data wrapper postgres_fdw to public",
        &["foreign_server_granted | foreign data wrapper postgres_fdw | servers"],
    );
    for who in ["public", "app_user"] {
        found_and_mended(
            &mut owner,
            &format!("{server}; create user mapping for {who} server far options (user 'x')"),
            &[&format!("user_mapping_for_tenants | foreign server far | {who}")],
        );
    }
}

#[test]
fn dblink_is_a_way_to_another_role_until_it_is_mended() {
    let mut owner = clean("check_dblink");
    owner
        .batch_execute(
            "create extension dblink;
             grant execute on function dblink_connect_u(text) to app_user;
             insert into contacts values ('acme', 1, 'Ada'), ('globex', 1, 'Grace')",
        )
        .unwrap();
    let mut tenant = cluster().direct("app_user", "check_dblink");
    let mut tenant = tenant.options("-c app.current_tenant_id=acme").connect(NoTls).unwrap();
    assert_eq!(count(&mut tenant, "contacts"), 1);
    let connect = format!(
        "select dblink_connect_u('host=127.0.0.1 port={} dbname=check_dblink user=app_user \
         options=-capp.current_tenant_id=globex')",
        cluster().port()
    );
    tenant.batch_execute(&connect).unwrap();
    let theirs = "dblink('select name from contacts') as (name text) where name = 'Grace'";
    assert_eq!(count(&mut tenant, theirs), 1);
    mend(&mut owner);
    assert_eq!(findings(&mut owner), [""; 0]);
    let mut tenant = cluster().direct("app_user", "check_dblink").connect(NoTls).unwrap();
    assert!(tenant.batch_execute(&connect).is_err());
}

#[test]
fn rules_that_act_with_their_owners_rights_are_found() {
    let mut owner = clean("check_rules");
    let rule = "create table log (line text);
                create rule noted as on insert to contacts
                    do also insert into log select name from contacts";
    found_and_mended(
        &mut owner,
        rule,
        &["rule_bypasses_policies | rule noted on public.contacts | postgres"],
    );
    found_and_mended(
        &mut owner,
        &format!(
            "{rule}; alter table contacts owner to trust_user;
             alter role trust_user set row_security = off"
        ),
        &["rule_with_owner_rights | rule noted on public.contacts | trust_user"],
    );
    not_found(&mut owner, &format!("{rule}; revoke all on contacts from app_user"));
    not_found(&mut owner, "create view seen with (security_barrier) as select 1 as one");
}

#[test]
fn triggers_that_run_with_other_rights_are_found() {
    let mut owner = clean("check_triggers");
    let function = "create function noted() returns trigger language plpgsql security definer
                        set search_path = pg_catalog, pg_temp
                        as 'begin return new; end';
                    revoke execute on function noted() from public";
    let trigger = "create trigger noting after insert on contacts
                       for each row execute function noted()";
    let runs = "trigger noting on public.contacts | runs public.noted()";
    let past = format!("trigger_bypasses_policies | {runs} | postgres");
    found_and_mended(&mut owner, &format!("{function}; {trigger}"), &[&past]);
    found_and_mended(
        &mut owner,
        &format!("{function}; {trigger}; alter function noted() owner to trust_user"),
        &[&format!("trigger_with_owner_rights | {runs} | trust_user")],
    );
    found_and_mended(
        &mut owner,
        &format!("{function}; {trigger}; alter function noted() reset search_path"),
        &[&past, &format!("function_search_path | {runs}")],
    );
    for harmless in [
        "alter function noted() security invoker",
        "alter table contacts disable trigger noting",
        "revoke insert, update, delete on contacts from app_user",
    ] {
        not_found(&mut owner, &format!("{function}; {trigger}; {harmless}"));
    }
}

#[test]
fn publications_of_protected_tables_are_found() {
    let mut owner = clean("check_publications");
    owner.batch_execute("set client_min_messages = error").unwrap();
    let sends = "publication_of_tenants | publication changes | public.contacts";
    let mut publications = vec!["for table contacts", "for all tables"];
    if version(&mut owner) >= 15 {
        publications.extend(["for tables in schema public", "for table contacts (tenant_id, id)"]);
    }
    for tables in publications {
        let plant = format!("create publication changes {tables}");
        let own = "publication_of_multigres | publication changes | ";
        let mut expected = vec![sends.to_owned()];
        if tables == "for all tables" {
            let sql = "select string_agg(c.oid::regclass::text, ', ' order by c.relname)
                       from pg_class as c
                       where c.relnamespace = 'multigres'::regnamespace and c.relkind = 'r'";
            expected.insert(0, own.to_owned() + owner.query_one(sql, &[]).unwrap().get(0));
        }
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        found_and_mended(&mut owner, &plant, &expected);
    }
    not_found(
        &mut owner,
        "create table news (id int primary key); create publication changes for table news",
    );
}
