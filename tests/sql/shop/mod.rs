//! A database whose tables have keys of every kind without the tenant, and who owns it. Knows
//! nothing about the linter.

use postgres::{Client, NoTls};
use testing::{SETUP, TENANT_VARIABLE, cluster};

/// As whom setup.sql, the tables and the linter's SQL are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Superuser,
    /// Owns the database and everything in it, and FORCE ROW LEVEL SECURITY holds them.
    Administrator,
}

pub(crate) struct Shop {
    database: String,
    role: String,
}

impl Shop {
    pub(crate) const OWNERS: [Owner; 2] = [Owner::Superuser, Owner::Administrator];

    /// A new database with setup.sql in it, and nothing else.
    pub(crate) fn empty(name: &str, owner: Owner) -> Shop {
        let database = format!("{name}_{owner:?}").to_lowercase();
        let mut superuser = cluster().superuser("postgres");
        let role = match owner {
            Owner::Superuser => "postgres".to_owned(),
            Owner::Administrator => {
                let create = format!("create role {database} login createrole");
                superuser.batch_execute(&create).unwrap();
                database.clone()
            }
        };
        superuser.batch_execute(&format!("create database {database} owner {role}")).unwrap();
        let shop = Shop { database, role };
        shop.owner().batch_execute(&SETUP).unwrap();
        shop
    }

    /// The same with the tables of `keys.sql` and its kin.
    pub(crate) fn open(name: &str, owner: Owner) -> Shop {
        let shop = Shop::empty(name, owner);
        let mut owner = shop.owner();
        let version: i32 = owner
            .query_one("select current_setting('server_version_num')::int / 10000", &[])
            .unwrap()
            .get(0);
        for (since, sql) in [
            (13, include_str!("keys.sql")),
            (15, include_str!("keys_15.sql")),
            (13, include_str!("keys_gist.sql")),
            (18, include_str!("keys_18.sql")),
        ] {
            if version >= since {
                owner.batch_execute(sql).unwrap();
            }
        }
        shop
    }

    pub(crate) fn database(&self) -> &str {
        &self.database
    }

    pub(crate) fn owner(&self) -> Client {
        cluster().direct(&self.role, &self.database).connect(NoTls).unwrap()
    }

    pub(crate) fn superuser(&self) -> Client {
        cluster().superuser(&self.database)
    }

    /// A session of app_user that is bound to this tenant.
    pub(crate) fn tenant(&self, tenant: &str) -> Client {
        let options = format!("-c {TENANT_VARIABLE}={tenant}");
        cluster().direct("app_user", &self.database).options(&options).connect(NoTls).unwrap()
    }
}
