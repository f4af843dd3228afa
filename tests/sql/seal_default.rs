//! The default that protecting gives to a tenant column: the setting as it is, so that a bulk
//! insert verifies its seal once, by the policy.

use postgres::{Client, NoTls};
use testing::{
    SEAL_KEY as KEY, SETUP, SealedLogin, TENANT_VARIABLE, cluster, count, sealed_options,
    set_up_database, sqlstate,
};

#[test]
fn the_default_of_the_tenant_column_is_cheap_and_the_policy_verifies_it() {
    let database = set_up_database("seal_defaults");
    let mut owner = cluster().superuser(&database);
    let uuid = "6f3c2a10-4f7e-4a53-9c55-0d3d4b8a1e77";
    owner.batch_execute("create domain customer as text; create domain number as int").unwrap();
    let types = [
        ("text", "acme", "globex"),
        ("varchar(20)", "acme", "globex"),
        ("customer", "acme", "globex"),
        ("int", "7", "8"),
        ("bigint", "7", "8"),
        ("number", "7", "8"),
        ("uuid", uuid, "00000000-0000-0000-0000-000000000000"),
    ];
    let old = "alter table only t0 alter column tenant_id set default
        (public.multigres_context('app.current_tenant_id'))::text";
    for (at, (kind, ..)) in types.iter().enumerate() {
        owner
            .batch_execute(&format!(
                "create table t{at} (tenant_id {kind}, k int); select multigres_protect('t{at}')"
            ))
            .unwrap();
    }
    owner.batch_execute(&format!("select multigres_seal('{KEY}', 'none'); {old}")).unwrap();
    owner.batch_execute(&SETUP).unwrap();
    let calls = "pg_attrdef where pg_get_expr(adbin, adrelid) ~ 'multigres|current_tenant_id[(]'";
    assert_eq!(count(&mut owner, calls), 0, "every row would be verified");
    for (at, (kind, own, other)) in types.into_iter().enumerate() {
        let mut client = tenant(&database, own);
        let insert = format!("insert into t{at} (k) select generate_series(1, 3)");
        assert_eq!(client.execute(&insert, &[]).unwrap(), 3, "{kind}");
        assert_eq!(count(&mut client, &format!("t{at}")), 3, "{kind}");
        for unsealed in [other, ""] {
            let set = format!("set app.current_tenant_id = '{unsealed}'");
            client.batch_execute(&set).unwrap();
            let error = client.execute(&insert, &[]).unwrap_err();
            assert_eq!(sqlstate(&error), "42501", "{kind} {unsealed}");
            client.batch_execute("reset all").unwrap();
        }
        assert_eq!(count(&mut owner, &format!("t{at}")), 3, "{kind}");
        owner.batch_execute(&format!("select multigres_unprotect('t{at}')")).unwrap();
    }
    let left = "pg_attrdef where adrelid::regclass::text ~ '^t[0-9]'";
    assert_eq!(count(&mut owner, left), 0, "unprotect has taken them out");
}

fn tenant(database: &str, tenant: &str) -> Client {
    let options =
        sealed_options(TENANT_VARIABLE, tenant, &SealedLogin::new(database, tenant).seal());
    cluster().direct("app_user", database).options(&options).connect(NoTls).unwrap()
}
