//! Indexes that hold no tenant: how much of one is read tells of others' rows.

use testing::linter::{clean, findings, found_and_mended, not_found};

use testing::{count, sqlstate};

use crate::shop::{Owner, Shop};

#[test]
fn an_index_without_the_tenant_is_found_and_made_anew_with_it() {
    let mut owner = clean("index_plain");
    for (index, plant) in [
        ("by_name", "create index by_name on contacts (name)"),
        ("\"by (name)\"", "create index \"by (name)\" on contacts (lower(name) desc) where id > 0"),
        ("words", "create index words on contacts using gin (to_tsvector('simple', name))"),
        ("near", "create index near on contacts using gist (int8range(id, id + 1))"),
    ] {
        let expected =
            format!("index_without_tenant | index public.{index} | on public.contacts | tenant_id");
        found_and_mended(&mut owner, plant, &[&expected]);
    }
    not_found(
        &mut owner,
        "create index on contacts (tenant_id, name); create index on contacts (name, tenant_id);
         create table shared (id int, name text); create index on shared (name)",
    );
}

#[test]
fn an_index_of_a_partitioned_table_keeps_its_parts() {
    let mut owner = clean("index_parts");
    owner
        .batch_execute(
            "create table years (tenant_id text not null, year int, body text)
                 partition by list (year);
             create table years_1 partition of years for values in (1);
             create table years_2 partition of years for values in (2);
             select multigres_protect('years')",
        )
        .unwrap();
    let open = |index: &str, table: &str| {
        format!("index_without_tenant | index public.{index} | on public.{table} | tenant_id")
    };
    owner.batch_execute("create index bodies on years (body)").unwrap();
    owner.batch_execute("create index only_here on years_2 (body)").unwrap();
    assert_eq!(findings(&mut owner), [open("bodies", "years"), open("only_here", "years_2")]);
    let sql = "select fix from multigres_check()";
    for row in owner.query(sql, &[]).unwrap() {
        owner.batch_execute(row.get(0)).unwrap();
    }
    assert_eq!(findings(&mut owner), [""; 0]);
    let parts = "pg_inherits where inhparent = 'bodies'::regclass";
    assert_eq!(count(&mut owner, parts), 2);
    assert_eq!(count(&mut owner, "pg_index where not indisvalid"), 0);
}

#[test]
fn a_unique_index_of_one_partition_tells_what_others_have() {
    let shop = Shop::empty("index_partition", Owner::Superuser);
    let mut owner = shop.owner();
    owner
        .batch_execute(
            "create table years (tenant_id text not null, year int, email text)
                 partition by list (year);
             create table years_1 partition of years for values in (1);
             create unique index once on years_1 (email);
             select multigres_protect('years');
             insert into years values ('globex', 1, 'g@x')",
        )
        .unwrap();
    let mut acme = shop.tenant("acme");
    let insert = "insert into years (year, email) values (1, 'g@x')";
    assert_eq!(sqlstate(&acme.batch_execute(insert).unwrap_err()), "23505", "it is there");
    let unique = "unique_without_tenant | index public.once | tenant_id";
    assert_eq!(findings(&mut owner), [unique]);
    let fix: String = owner.query_one("select fix from multigres_check()", &[]).unwrap().get(0);
    owner.batch_execute(&fix).unwrap();
    assert_eq!(findings(&mut owner), [""; 0]);
    acme.batch_execute(insert).unwrap();
    assert_eq!(sqlstate(&acme.batch_execute(insert).unwrap_err()), "23505", "its own");
}
