//! Sealed databases of other encodings than UTF-8, and names that are not ASCII: a seal is made
//! over bytes, whatever letters PostgreSQL takes them for.

use postgres::{Client, NoTls};

use testing::{
    SEAL_KEY, SETUP, SealedLogin, TENANT_VARIABLE, cluster, count, sealed_options, sqlstate,
};

use crate::sealed::with_key;

const ENCODINGS: [&str; 3] = ["UTF8", "LATIN1", "SQL_ASCII"];

#[test]
fn a_login_sees_its_rows_in_a_database_of_any_encoding_and_name() {
    let daemon = with_key(SEAL_KEY);
    for encoding in ENCODINGS {
        for name in ["encoded", "b\u{fc}ro_\u{20ac}"] {
            let (database, _owner) = sealed(name, encoding, "address");
            let mut client =
                daemon.config("app_user.acme").dbname(&database).connect(NoTls).unwrap();
            assert_eq!(count(&mut client, "notes"), 1, "{database}");
            client.batch_execute("set app.current_tenant_id = 'globex'").unwrap();
            assert_eq!(count(&mut client, "notes"), 0, "{database}");
            client.batch_execute("discard all").unwrap();
            client.batch_execute("set client_encoding = 'latin1'").unwrap();
            assert_eq!(count(&mut client, "notes"), 1, "{database}");
            // The grammar of tenants ends at ASCII, so that no encoding can make two of one.
            let error = daemon.config("app_user.caf\u{e9}").dbname(&database).connect(NoTls);
            assert_eq!(sqlstate(&error.err().expect("a refusal")), "28000", "{database}");
        }
    }
}

#[test]
fn a_role_whose_name_is_not_ascii_logs_in_whatever_the_encodings() {
    let role = "j\u{f6}rg";
    let create = format!("create role \"{role}\" login in role app_user");
    cluster().superuser("postgres").batch_execute(&create).unwrap();
    let daemon = with_key(SEAL_KEY);
    for encoding in ENCODINGS {
        let (database, _owner) = sealed("encoded_role", encoding, "address");
        let mut config = daemon.config(&format!("{role}.acme"));
        let mut client = config.dbname(&database).connect(NoTls).unwrap();
        assert_eq!(count(&mut client, "notes"), 1, "{encoding}");
        let mut other = daemon.raw();
        other.send_startup(&[
            ("user", &format!("{role}.acme")),
            ("database", &database),
            ("client_encoding", "LATIN1"),
        ]);
        other.read_until(b"Z");
        assert_eq!(other.query_value("select count(*) from notes"), "1", "{encoding}");
    }
    // Another role's name in the same letters is another role.
    let error = daemon.config("j\u{f6}rh.acme").connect(NoTls).err().expect("a refusal");
    assert_eq!(sqlstate(&error), "28000", "{error:?}");
}

#[test]
fn a_seal_fits_the_bytes_of_a_value_and_what_is_no_text_is_no_error() {
    for encoding in ENCODINGS {
        let (database, _owner) = sealed("encoded_value", encoding, "none");
        let seal = SealedLogin::new(&database, "caf\u{e9}").seal();
        let options = sealed_options(TENANT_VARIABLE, "caf\u{e9}", &seal);
        let mut config = cluster().direct("app_user", &database);
        let mut client = config.options(&options).connect(NoTls).unwrap();
        assert_eq!(count(&mut client, "notes"), 1, "{encoding}");
        // In LATIN1 this is another value: one byte for the accent, not two.
        client.batch_execute("set app.current_tenant_id = 'caf\u{e9}'").unwrap();
        let seen = if encoding == "LATIN1" { 0 } else { 1 };
        assert_eq!(count(&mut client, "notes"), seen, "{encoding}");
        client.batch_execute("reset all; set app.current_tenant_id_seal = '\u{e9}'").unwrap();
        assert_eq!(count(&mut client, "notes"), 0, "{encoding}");
        if encoding == "SQL_ASCII" {
            let half = r"set app.current_tenant_id_seal = E'\xe9'";
            client.batch_execute(half).unwrap();
            assert_eq!(count(&mut client, "notes"), 0);
            client.batch_execute(r"set app.current_tenant_id = E'\xe9'").unwrap();
            assert_eq!(count(&mut client, "notes"), 0);
        }
    }
}

/// A sealed database of this encoding, in which each tenant has a row: `acme`, `globex`, and one
/// whose name PostgreSQL has from a StartupMessage in UTF-8.
fn sealed(name: &str, encoding: &str, bind: &str) -> (String, Client) {
    let database = format!("{name}_{}", encoding.to_lowercase());
    let create = format!(
        "create database \"{database}\" template template0 encoding '{encoding}'
             lc_collate 'C' lc_ctype 'C'"
    );
    cluster().superuser("postgres").batch_execute(&create).unwrap();
    let mut owner = cluster().superuser(&database);
    owner.batch_execute(&SETUP).unwrap();
    owner
        .batch_execute(&format!(
            "create table notes (tenant_id text);
             insert into notes values ('acme'), ('globex'),
                 (convert_from('\\x636166c3a9', getdatabaseencoding()));
             select multigres_protect('notes');
             select multigres_seal('{SEAL_KEY}', '{bind}')"
        ))
        .unwrap();
    (database, owner)
}
