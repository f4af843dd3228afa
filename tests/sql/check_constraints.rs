//! What multigres_check() says of keys that leave the tenant out: on a schema with keys of every
//! kind, its SQL is run once from top to bottom, by a superuser and by an owner who is none.

use postgres::Client;
use testing::linter::version;

use testing::{count, shortened, sqlstate};

use crate::shop::Shop;

#[test]
fn one_pass_mends_every_key_that_sql_can_mend() {
    for who in Shop::OWNERS {
        let shop = Shop::open("keys_pass", who);
        let mut owner = shop.owner();
        assert!(findings(&mut owner).len() > 30, "the schema has keys to find");
        mend_once(&mut owner);
        let left = findings(&mut owner);
        assert!(left.iter().all(|found| found.fix.starts_with("-- ")), "{who:?}: {left:#?}");
        let objects: Vec<_> = left.iter().map(|found| found.object.as_str()).collect();
        assert_eq!(objects, unmendable(version(&mut owner)), "{who:?}");
        // A sentence is a comment: to run it does nothing.
        mend_once(&mut owner);
        assert_eq!(findings(&mut owner), left);
    }
}

#[test]
fn what_no_sql_mends_is_told_in_a_sentence() {
    let shop = Shop::open("keys_told", Shop::OWNERS[0]);
    let mut owner = shop.owner();
    mend_once(&mut owner);
    let left = findings(&mut owner);
    for (object, words) in SENTENCES {
        for found in left.iter().filter(|found| found.object.starts_with(object)) {
            assert!(found.fix.contains(words), "{found:?}");
        }
    }
    let told = |found: &Finding| SENTENCES.iter().any(|(name, _)| found.object.starts_with(name));
    assert!(left.iter().all(told), "{left:#?}");
}

#[test]
fn a_mended_key_is_what_it_was_except_for_the_tenant() {
    let shop = Shop::open("keys_same", Shop::OWNERS[1]);
    let mut owner = shop.owner();
    let marked = "select string_agg(concat(indexrelid::regclass, ' ', indisreplident), ', '
                      order by indexrelid::regclass::text)
                  from pg_index where indisreplident or indisclustered";
    let before: String = owner.query_one(marked, &[]).unwrap().get(0);
    mend_once(&mut owner);
    let major = version(&mut owner);
    for (constraint, since, expected) in CONSTRAINTS {
        let sql = "select pg_get_constraintdef(k.oid) from pg_constraint as k
                   where k.conname = $1 and k.conparentid = 0";
        let found = owner.query(sql, &[constraint]).unwrap();
        assert_eq!(found.len(), usize::from(major >= *since), "{constraint}");
        for row in found {
            assert_eq!(row.get::<_, &str>(0), *expected, "{constraint}");
        }
    }
    for (index, expected) in INDEXES {
        let sql = "select pg_get_indexdef(to_regclass($1))";
        let found: Option<String> = owner.query_one(sql, &[index]).unwrap().get(0);
        let found = found.unwrap_or_else(|| panic!("{index}"));
        assert_eq!(found.rsplit_once(" USING ").unwrap().1, *expected, "{index}");
    }
    let after: String = owner.query_one(marked, &[]).unwrap().get(0);
    assert_eq!(after, before, "replica identity and CLUSTER");
    let comment = "select obj_description(oid) from pg_constraint where conname = 'replica'";
    assert_eq!(owner.query_one(comment, &[]).unwrap().get::<_, &str>(0), "it's needed");
    // What the references needed became the keys' own.
    let unique = "pg_index where indisunique and indrelid = 'people'::regclass";
    assert_eq!(count(&mut owner, unique), 2);
}

#[test]
fn the_application_inserts_upserts_and_deletes_afterwards() {
    for who in Shop::OWNERS {
        let shop = Shop::open("keys_use", who);
        let mut owner = shop.owner();
        mend_once(&mut owner);
        let (mut acme, mut globex) = (shop.tenant("acme"), shop.tenant("globex"));
        for client in [&mut acme, &mut globex] {
            client.batch_execute(WORK).unwrap();
            assert_eq!(count(client, "people"), 1);
            assert_eq!(count(client, "pets where owner is null"), 1, "upserted");
            assert_eq!(count(client, "days"), 0, "went with its year");
            assert_eq!(count(client, "fruit"), 2);
            assert_eq!(count(client, "lines"), 0, "went with their order");
        }
        globex.batch_execute("insert into people (id) values (3)").unwrap();
        for sql in [
            "insert into pets (id, owner) values (9, 99)",
            "insert into pets (id, owner) values (9, 3)",
            "insert into pets (id, vet) values (9, 3)",
            "insert into pets (id, old) values (9, 3)",
            "begin; insert into pets (id, keeper) values (9, 3); commit",
        ] {
            assert_eq!(sqlstate(&acme.batch_execute(sql).unwrap_err()), "23503", "{who:?} {sql}");
        }
        // What MATCH FULL refused before.
        let mixed = "insert into letters (id, name) values (9, 'Ada')";
        assert_eq!(sqlstate(&acme.batch_execute(mixed).unwrap_err()), "23514", "{who:?}");

        // Mended or not, the action is what it was.
        acme.batch_execute(
            "insert into staff (id, name, born) values (5, 'Eva', '2005-05-05');
             insert into boxes (id, owner, name, born) values (5, 5, 'Eva', '2005-05-05');
             delete from staff where id = 5",
        )
        .unwrap();
        let kept = "boxes where id = 5 and owner is null and name is null and born is null";
        assert_eq!(count(&mut acme, kept), 1, "{who:?}");
    }
}

#[test]
fn a_virtual_tenant_column_is_refused_and_told() {
    let shop = Shop::empty("keys_virtual", Shop::OWNERS[0]);
    let mut owner = shop.owner();
    if version(&mut owner) < 18 {
        return shortened("no virtual generated columns before PostgreSQL 18");
    }
    owner
        .batch_execute(
            "create table other (tenant_id text not null, id int primary key);
             create table unreal (own text, tenant_id text generated always as (own) virtual,
                 id int constraint unreal_key unique, other int constraint of_other
                     references other)",
        )
        .unwrap();
    let error = owner.batch_execute("select multigres_protect('unreal')").unwrap_err();
    assert_eq!(sqlstate(&error), "42809", "{error:?}");
    let told = owner
        .query_one(
            "select multigres.index_obstacle('unreal_key'::regclass, '{2}'),
                 multigres.reference_obstacle(oid, '{2}', '{1}')
             from pg_constraint where conname = 'of_other'",
            &[],
        )
        .unwrap();
    for column in 0..2 {
        assert!(told.get::<_, &str>(column).contains("virtual generated column"), "{told:?}");
    }
}

#[test]
fn each_kind_of_reference_works_once_it_is_mended() {
    let shop = Shop::empty("keys_each", Shop::OWNERS[0]);
    let mut owner = shop.owner();
    let mut wrong = Vec::new();
    for (what, plant, work) in EACH {
        owner.batch_execute("begin").unwrap();
        owner.batch_execute(plant).unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let fixes = findings(&mut owner);
        assert!(!fixes.is_empty(), "{what}");
        let mended = fixes.iter().try_for_each(|found| owner.batch_execute(&found.fix));
        let bound = "set local app.current_tenant_id = '1'; set local app.current_user_id = '2';
                     set local role app_user";
        let worked = mended
            .and_then(|()| owner.batch_execute(bound))
            .and_then(|()| owner.batch_execute(work))
            .and_then(|()| owner.batch_execute("set constraints all immediate"));
        if let Err(error) = worked {
            wrong.push(format!("{what}: {}", error.as_db_error().unwrap()));
        }
        owner.batch_execute("rollback").unwrap();
    }
    assert_eq!(wrong, [""; 0]);
}

/// A name, tables, and what the application does to them.
const EACH: &[(&str, &str, &str)] = &[
    (
        "an action that sets NULL",
        "create table a (tenant_id int not null, id int default 7 primary key);
         create table b (tenant_id int not null, a int references a on delete set null);
         select multigres_protect('a'), multigres_protect('b')",
        "insert into a (id) values (1); insert into b (a) values (1); delete from a",
    ),
    (
        "MATCH FULL that refers to nothing",
        "create table a (tenant_id int not null, id int default 7 primary key);
         create table b (tenant_id int not null, a int references a match full);
         select multigres_protect('a'), multigres_protect('b')",
        "insert into b (a) values (null)",
    ),
    (
        "two contexts in another order",
        "create table a (tenant_id int not null, user_id int not null,
             id int default 7 primary key);
         create table b (user_id int not null, tenant_id int not null, a int references a);
         select multigres_protect('a'), multigres_protect('a', 'user_id', 'app.current_user_id'),
             multigres_protect('b', 'user_id', 'app.current_user_id'), multigres_protect('b')",
        "insert into a (id) values (3); insert into b (a) values (3)",
    ),
    (
        "a context that the other table has not",
        "create table a (tenant_id int not null, user_id int not null,
             id int default 7 primary key);
         create table b (tenant_id int not null, a int references a);
         select multigres_protect('a'), multigres_protect('a', 'user_id', 'app.current_user_id'),
             multigres_protect('b')",
        "insert into a (id) values (3); insert into b (a) values (3)",
    ),
    (
        "no context in common",
        "create table a (user_id int not null, id int default 7 primary key);
         create table b (tenant_id int not null, a int references a);
         select multigres_protect('a', 'user_id', 'app.current_user_id'), multigres_protect('b')",
        "insert into a (id) values (3); insert into b (a) values (3)",
    ),
    (
        "names that hold parentheses",
        "create table \"a (x)\" (tenant_id int not null, \"i(d)\" int default 7 primary key);
         create table b (tenant_id int not null, a int references \"a (x)\");
         select multigres_protect('\"a (x)\"'), multigres_protect('b')",
        "insert into \"a (x)\" (\"i(d)\") values (3); insert into b (a) values (3)",
    ),
    (
        "a key that stands before what refers to it in the list",
        "create table a (tenant_id int not null, id int, constraint a_first unique (id));
         create table b (tenant_id int not null, a int, constraint z_last foreign key (a)
             references a (id));
         select multigres_protect('a'), multigres_protect('b')",
        "insert into a (id) values (3); insert into b (a) values (3)",
    ),
    (
        "an exclusion that needs an extension",
        "create table a (tenant_id int not null, span int4range, exclude using gist (span with &&));
         select multigres_protect('a')",
        "insert into a (span) values ('[1,2]')",
    ),
];

/// Rows as the application writes them, in any tenant.
const WORK: &str = r#"
    insert into people (id, name, born) values (1, 'Ada', '2001-01-01'), (2, 'Alan', null);
    insert into pets (id, owner, keeper, vet, old) values (1, 1, 1, 1, null), (2, null, 2, 1, 1);
    insert into pets (id, owner) values (1, null)
        on conflict (tenant_id, id) do update set owner = excluded.owner;
    insert into people (id, name, born) values (1, 'Ada', '2001-01-01')
        on conflict on constraint people_pkey do nothing;
    insert into letters (id, name, born) values (1, 'Ada', '2001-01-01'), (2, null, null);
    delete from people where id = 2;
    insert into years (year, id, body) values (2, 1, 'x'), (12, 1, 'x');
    insert into days (year, id, day) values (2, 1, 5), (12, 1, 6);
    delete from years;
    insert into fruit (id) values (1);
    insert into fruit (id, up) values (2, 1);
    insert into forms (id, a, b, c) values (1, 'a', 'b-' || current_tenant_id(), 1)
        on conflict on constraint replica do nothing;
    insert into "my (shop).\\"."it's (a) ""b""" ("e\\mail") values ('x@x');
    insert into lines (order_id) select "i(d" from "my (shop).\\"."it's (a) ""b""";
    delete from "my (shop).\\"."it's (a) ""b"""
"#;

/// What is left once all that can be is mended.
fn unmendable(version: i32) -> Vec<&'static str> {
    let all = [
        (13, 99, "constraint made on public.stamps"),
        (13, 99, "constraint nothing_in_common on public.badges"),
        (13, 99, "constraint other_type on public.roots"),
        (13, 99, "constraint renames on public.boxes"),
        (13, 15, "constraint sets_default on public.boxes"),
        (13, 15, "constraint sets_null on public.boxes"),
        (13, 99, "constraint by_hash on public.forms"),
        (13, 99, "constraint folded_spans on public.folded"),
        (13, 15, "constraint names on public.staff"),
        (18, 99, "constraint one_tenant on public.apart"),
        (13, 99, "constraint seen_pkey on public.seen"),
        (13, 99, "constraint staff_pkey on public.staff"),
        (13, 99, "index public.hashed"),
        (13, 99, "index public.summary"),
        (13, 99, "constraint tree_pkey on public.tree"),
    ];
    let here = all.iter().filter(|(since, until, _)| (*since..*until).contains(&version));
    here.map(|(_, _, object)| *object).collect()
}

const SENTENCES: &[(&str, &str)] = &[
    ("constraint made", "a generated column has neither ON UPDATE CASCADE"),
    ("constraint nothing_in_common", "protect both by the same variable"),
    ("constraint other_type", "give both the same type"),
    ("constraint renames", "this ON UPDATE action would set the tenant as well"),
    ("constraint sets_", "before PostgreSQL 15, this ON DELETE action sets the tenant as well"),
    ("constraint by_hash", "a hash index holds one column alone"),
    ("constraint names", "constraint sets_default on public.boxes depends on it"),
    ("constraint folded_spans", "no operator class for public.citext"),
    ("constraint one_tenant", "it compares tenant_id by another operator than =: drop it"),
    ("constraint seen_pkey", "rule _RETURN on view public.grouped depends on it"),
    ("constraint staff_pkey", " depends on it: change that one first"),
    ("constraint tree_pkey", "constraint nothing_in_common on public.badges depends on it"),
    ("index public.hashed", "a hash index holds one column alone"),
    ("index public.summary", "a BRIN index cannot keep tenants apart"),
];

/// Constraints once they are mended, and since when there are such.
const CONSTRAINTS: &[(&str, i32, &str)] = &[
    (
        r#"to (it) \\ "x""#,
        13,
        "FOREIGN KEY (tenant_id, order_id) REFERENCES \"my (shop).\\\\\".\"it's (a) \"\"b\"\"\"(\
         \"ten ant)\", \"i(d\") ON UPDATE CASCADE ON DELETE CASCADE",
    ),
    ("full_one", 13, "FOREIGN KEY (tenant_id, owner) REFERENCES people(tenant_id, id)"),
    (
        "cascades",
        13,
        "FOREIGN KEY (tenant_id, keeper) REFERENCES people(tenant_id, id) ON DELETE CASCADE \
         DEFERRABLE INITIALLY DEFERRED",
    ),
    (
        "restricts",
        13,
        "FOREIGN KEY (tenant_id, vet) REFERENCES people(tenant_id, id) ON UPDATE RESTRICT ON \
         DELETE RESTRICT",
    ),
    ("old", 13, "FOREIGN KEY (tenant_id, old) REFERENCES people(tenant_id, id) NOT VALID"),
    (
        "full_two",
        13,
        "FOREIGN KEY (tenant_id, name, born) REFERENCES people(tenant_id, name, born)",
    ),
    ("letters_check", 13, "CHECK ((num_nulls(name, born) = ANY (ARRAY[0, 2]))) NO INHERIT"),
    ("tree_up_fkey", 13, "FOREIGN KEY (tenant_id, up) REFERENCES tree(tenant_id, id)"),
    ("held", 13, "FOREIGN KEY (tree, tenant_id) REFERENCES tree(id, tenant_id)"),
    (
        "desks_room_fkey",
        13,
        "FOREIGN KEY (organization, member, room) REFERENCES rooms(tenant_id, user_id, id)",
    ),
    ("chairs_room_fkey", 13, "FOREIGN KEY (tenant_id, room) REFERENCES rooms(tenant_id, id)"),
    (
        "of_year",
        13,
        "FOREIGN KEY (tenant_id, year, id) REFERENCES years(tenant_id, year, id) ON DELETE CASCADE",
    ),
    ("people_pkey", 13, "PRIMARY KEY (tenant_id, id)"),
    ("years_pkey", 13, "PRIMARY KEY (tenant_id, year, id)"),
    ("mail, (one)", 13, r#"UNIQUE ("ten ant)", "e\\mail")"#),
    ("including", 13, "UNIQUE (tenant_id, a) INCLUDE (b)"),
    ("deferred", 13, "UNIQUE (tenant_id, b) DEFERRABLE INITIALLY DEFERRED"),
    (
        "by_tree",
        13,
        "EXCLUDE USING btree (tenant_id WITH =, lower(a) COLLATE \"C\" WITH =) WHERE ((b > ' using \
         gist ('::text))",
    ),
    (
        "crossed",
        13,
        "FOREIGN KEY (tenant_id, kind, tenant_id) REFERENCES codes(tenant_id, code, kind)",
    ),
    ("of_a_part", 13, "FOREIGN KEY (tenant_id, id) REFERENCES people(tenant_id, id)"),
    ("typed_spans", 13, "EXCLUDE USING gist (tenant_id WITH =, span WITH &&)"),
    ("typed_ids", 13, "EXCLUDE USING btree (tenant_id WITH =, id WITH =)"),
    ("folded_ids", 13, "EXCLUDE USING btree (tenant_id WITH =, id WITH =)"),
    ("spans", 13, "EXCLUDE USING gist (tenant_id WITH =, span WITH &&) WHERE ((c > 0))"),
    (
        "one_of_two",
        15,
        "FOREIGN KEY (tenant_id, name, born) REFERENCES staff(tenant_id, name, born) ON DELETE SET \
         NULL (born)",
    ),
    ("no_nulls", 15, "UNIQUE NULLS NOT DISTINCT (tenant_id, born)"),
    (
        "during",
        18,
        "FOREIGN KEY (tenant_id, stay, PERIOD span) REFERENCES stays(tenant_id, id, PERIOD span)",
    ),
    (
        "twice",
        18,
        "FOREIGN KEY (tenant_id, again, PERIOD span) REFERENCES stays(tenant_id, id, PERIOD span)",
    ),
    ("stays_pkey", 18, "PRIMARY KEY (tenant_id, id, span WITHOUT OVERLAPS)"),
    (
        "not_enforced",
        18,
        "FOREIGN KEY (tenant_id, person) REFERENCES people(tenant_id, id) NOT ENFORCED",
    ),
];

const INDEXES: &[(&str, &str)] = &[
    ("including", "btree (tenant_id, a) INCLUDE (b) WITH (fillfactor='70')"),
    (
        r#""odd (name) USING btree (""#,
        "btree (tenant_id, lower(a) COLLATE \"C\" text_pattern_ops DESC NULLS LAST, ((b || \
         ')'::text))) INCLUDE (c) WITH (fillfactor='80') WHERE (a <> '('::text)",
    ),
    ("only_here", "btree (tenant_id, body)"),
    ("words", "gin (tenant_id, to_tsvector('simple'::regconfig, a))"),
    ("ranges", "gist (tenant_id, span)"),
    ("fine", "btree (a, tenant_id)"),
];

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) object: String,
    pub(crate) fix: String,
}

/// What multigres_check() says of constraints and indexes.
pub(crate) fn findings(owner: &mut Client) -> Vec<Finding> {
    let sql = "select object, fix from multigres_check() where object ~ '^(constraint|index) '";
    let rows = owner.query(sql, &[]).unwrap();
    rows.iter().map(|row| Finding { object: row.get(0), fix: row.get(1) }).collect()
}

/// Runs all of it once, in its order.
pub(crate) fn mend_once(owner: &mut Client) {
    for found in findings(owner) {
        owner.batch_execute(&found.fix).unwrap_or_else(|error| panic!("{found:?}: {error:?}"));
    }
}
