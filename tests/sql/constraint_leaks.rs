//! What constraints tell one tenant of another: they look past every policy, sealed or not. That
//! multigres_check() names each, and that its SQL ends it.

use postgres::{Client, NoTls};
use testing::linter::{clean, findings, is_found, mend, mend_one};
use testing::{SEAL_KEY, SealedLogin, TENANT_VARIABLE, cluster, count, sealed_options, sqlstate};

#[test]
fn a_reference_without_the_tenant_tells_which_rows_others_have() {
    for sealed in [false, true] {
        let database = format!("oracle_reference_{sealed}");
        let mut owner = with_rows(&database, "primary key (id)");
        owner
            .batch_execute(
                "create table calls (tenant_id text not null, id int, contact bigint,
                     constraint its_contact foreign key (contact) references contacts (id)
                         on delete cascade,
                     primary key (tenant_id, id));
                 select multigres_protect('calls')",
            )
            .unwrap();
        let mut acme = tenant(&mut owner, &database, sealed);
        let point_at = |client: &mut Client, id: i64| {
            let insert = "insert into calls (id, contact) values ($1::bigint, $1)";
            client.execute(insert, &[&id]).map_err(|error| sqlstate(&error).to_owned())
        };
        assert_eq!(count(&mut acme, "contacts where id = 3"), 0, "globex's");
        assert_eq!(point_at(&mut acme, 3), Ok(1), "it is there, says the constraint");
        assert_eq!(point_at(&mut acme, 99), Err("23503".to_owned()), "nobody's");
        assert_eq!(count(&mut acme, "calls"), 1);
        // And more than telling: what globex does with its row is done to that of acme.
        owner.batch_execute("delete from contacts where id = 3").unwrap();
        assert_eq!(count(&mut acme, "calls"), 0);
        owner.batch_execute("insert into contacts values ('globex', 3, 'g@x')").unwrap();

        let problem = "foreign_key_without_tenant | constraint its_contact on public.calls | \
                       refers to public.contacts | without tenant_id | deleted or changed";
        assert!(is_found(&findings(&mut owner), problem), "{:?}", findings(&mut owner));
        mend_one(&mut owner, "constraint its_contact on public.calls");
        assert!(!is_found(&findings(&mut owner), problem));
        for id in [3, 99] {
            assert_eq!(point_at(&mut acme, id), Err("23503".to_owned()), "{id}");
        }
        assert_eq!(point_at(&mut acme, 1), Ok(1), "its own");
    }
}

#[test]
fn a_unique_constraint_without_the_tenant_tells_which_values_others_have() {
    for sealed in [false, true] {
        let database = format!("oracle_unique_{sealed}");
        let mut owner = with_rows(
            &database,
            "constraint addresses unique (email), primary key (tenant_id, id)",
        );
        let mut acme = tenant(&mut owner, &database, sealed);
        let insert = |client: &mut Client, email: &str, more: &str| {
            let insert = format!("insert into contacts (id, email) values (7, $1) {more}");
            let done = client.execute(&insert, &[&email]);
            client.batch_execute("delete from contacts where id = 7").unwrap();
            done.map_err(|error| {
                let told = error.as_db_error().unwrap();
                assert!(!format!("{:?}", told.detail()).contains("globex"), "{told:?}");
                sqlstate(&error).to_owned()
            })
        };
        let update = "on conflict (email) do update set id = 7";
        for (email, more, expected) in [
            ("new@x", "", Ok(1)),
            ("g@x", "", Err("23505")),
            ("new@x", "on conflict do nothing", Ok(1)),
            ("g@x", "on conflict do nothing", Ok(0)),
            ("g@x", update, Err("42501")),
        ] {
            let done = insert(&mut acme, email, more);
            assert_eq!(done, expected.map_err(str::to_owned), "{email} {more}");
        }
        let problem = "unique_without_tenant | constraint addresses on public.contacts | tenant_id";
        assert_eq!(findings(&mut owner), [problem]);
        mend(&mut owner);
        assert_eq!(findings(&mut owner), [""; 0]);
        for email in ["new@x", "g@x"] {
            for more in ["", "on conflict do nothing"] {
                assert_eq!(insert(&mut acme, email, more), Ok(1), "{email} {more}");
            }
        }
        assert_eq!(insert(&mut acme, "a@x", ""), Err("23505".to_owned()), "its own");
    }
}

/// Two tenants' rows: 1 and 2 are acme's, 3 is globex's.
fn with_rows(database: &str, constraints: &str) -> Client {
    let mut owner = clean(database);
    owner
        .batch_execute(&format!(
            "drop table contacts;
             create table contacts (tenant_id text not null, id bigint, email text, {constraints});
             select multigres_protect('contacts');
             insert into contacts values
                 ('acme', 1, 'a@x'), ('acme', 2, 'b@x'), ('globex', 3, 'g@x')"
        ))
        .unwrap();
    owner
}

/// A session of acme as Multigres binds it, in a database that is sealed now if it is to be.
fn tenant(owner: &mut Client, database: &str, sealed: bool) -> Client {
    let mut options = format!("-c {TENANT_VARIABLE}=acme");
    if sealed {
        owner.batch_execute(&format!("select multigres_seal('{SEAL_KEY}', 'none')")).unwrap();
        let seal = SealedLogin::new(database, "acme").seal();
        options = sealed_options(TENANT_VARIABLE, "acme", &seal);
    }
    let mut client = cluster().direct("app_user", database);
    let mut client = client.options(&options).connect(NoTls).unwrap();
    assert_eq!(count(&mut client, "contacts"), 2);
    client
}
