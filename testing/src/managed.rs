//! A cluster as a provider manages it: the administrator owns a database and is no superuser.

use postgres::{Client, NoTls};

use crate::Cluster;

/// A cluster without app_user, in which the administrator owns the database `crm`.
pub struct Managed {
    pub cluster: Cluster,
}

impl Managed {
    pub fn start() -> Managed {
        let cluster = Cluster::start();
        let mut superuser = cluster.superuser("postgres");
        for sql in [
            "drop role app_user",
            "create role managed_admin login createrole createdb",
            "create database crm owner managed_admin",
        ] {
            superuser.batch_execute(sql).unwrap();
        }
        Managed { cluster }
    }

    /// A session of the administrator in their database `crm`.
    pub fn admin(&self) -> Client {
        self.cluster.direct("managed_admin", "crm").connect(NoTls).unwrap()
    }

    /// A protected table with two rows of acme and one of globex.
    pub fn fill(admin: &mut Client) {
        admin
            .batch_execute(
                "create table contacts (
                     tenant_id text not null, id int, primary key (tenant_id, id));
                 insert into contacts values ('acme', 1), ('acme', 2), ('globex', 1);
                 select multigres_protect('contacts')",
            )
            .unwrap();
    }
}
