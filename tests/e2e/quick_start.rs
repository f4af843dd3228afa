//! The commands of the README's quick start and of `docs/sealing.md`, as a new user types them.
//! Knows the pages, and what a tenant sees behind each step.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use postgres::{Client, NoTls};
use tempfile::TempDir;
use testing::{Cluster, Daemon, PASSWORD, Run, count, multigres};

#[test]
fn the_quick_start_and_the_steps_of_the_seal_work_as_they_are_written() {
    let folder = TempDir::new().unwrap();
    let release = folder.path().join("target/release");
    fs::create_dir_all(&release).unwrap();
    std::os::unix::fs::symlink(multigres(), release.join("multigres")).unwrap();
    let cluster = Cluster::start();
    make_contacts(&cluster);
    let user = NewUser { folder: folder.path(), port: cluster.port() };

    let mut typed = user.follow(include_str!("../../README.md"));
    let daemon = Run::on(&cluster).start();
    assert_eq!(count(&mut acme(&daemon), "contacts"), 1);
    drop(daemon);
    typed += user.follow(include_str!("../../docs/sealing.md"));
    assert_eq!(typed, 5, "blocks");

    let key = folder.path().join("seal.key");
    let daemon = Run::on(&cluster).set("seal_key_file", key.to_str().unwrap()).start();
    let mut session = acme(&daemon);
    assert_eq!(count(&mut session, "contacts"), 1);
    session.batch_execute("set app.current_tenant_id = 'globex'").unwrap();
    assert_eq!(count(&mut session, "contacts"), 0, "sealed");
    let settings = fs::read_to_string(folder.path().join("multigres.conf")).unwrap();
    assert_eq!(settings, "seal_key_file = seal.key\n");
}

/// What the quick start supposes: a table of one's own with a tenant column.
fn make_contacts(cluster: &Cluster) {
    cluster.superuser("postgres").batch_execute("create database mydb").unwrap();
    let contacts = "create table contacts (id int primary key, tenant_id text);
        insert into contacts values (1, 'acme'), (2, 'globex'), (3, 'globex')";
    cluster.superuser("mydb").batch_execute(contacts).unwrap();
}

fn acme(daemon: &Daemon) -> Client {
    daemon.config("app_user.acme").dbname("mydb").connect(NoTls).unwrap()
}

struct NewUser<'a> {
    folder: &'a Path,
    port: u16,
}

impl NewUser<'_> {
    /// Runs the page's commands for the database and for keys; answers how many blocks that were.
    /// Those that build, or that start a daemon on a port of their own, are left to the caller, and
    /// so is `\password`, which asks at a terminal.
    fn follow(&self, page: &str) -> usize {
        let blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
        let is_ours = |block: &&str| {
            ["psql -U postgres", "seal-key", "sql setup"].iter().any(|words| block.contains(words))
                && !block.contains("\\password")
                && !block.contains('…')
        };
        blocks.filter(is_ours).map(|block| self.run(block)).count()
    }

    fn run(&self, script: &str) {
        let path = std::env::var("PATH").unwrap_or_default();
        let programs = self.folder.join("target/release");
        let output = Command::new("sh")
            .args(["-e", "-c", script])
            .current_dir(self.folder)
            .env("PATH", format!("{}:{path}", programs.display()))
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGPASSWORD", PASSWORD)
            .env_remove("PGOPTIONS")
            .stdin(Stdio::null())
            .output()
            .expect("sh starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("ERROR"), "{script}\n{said}");
    }
}
