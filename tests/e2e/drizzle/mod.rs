//! The application of `docs/drizzle-integration.md`: each block of that page, in its order, with
//! the packages that people have, against PostgreSQL. Knows the page, HTTP and SQL, and nothing of
//! Multigres' insides.

mod application;
mod messages;

use std::fs;
use std::path::Path;

use postgres::{Client, NoTls};
use tempfile::TempDir;
use testing::{Cluster, Daemon, Run, count, schema_tools, sqlstate};

use self::application::{Application, USERS};
use crate::page::{Block, Commands, blocks};

const PAGE: &str = include_str!("../../../docs/drizzle-integration.md");

#[test]
fn the_application_of_the_page_serves_each_tenant_its_own_rows() {
    let Some(tools) = schema_tools() else { return };
    let folder = TempDir::new_in(&tools).unwrap();
    let story = Story::begin(folder.path(), &tools);
    story.follow(None);
    story.type_check();
    let daemon = story.daemon(&[]);
    let application = story.application(&daemon, &[]);
    each_tenant_has_its_own_rows(&application);
    tenants_that_are_no_names_are_refused(&application, &daemon);
    ended_connections_are_replaced(&story, &application);
    let opened = an_opened_table_is_not_served(&story, &application);
    a_stop_waits_for_the_request_that_runs(&story, application);
    drop(daemon);

    // A daemon lives for a minute at most.
    let daemon = story.daemon(&[]);
    let application = story.application(&daemon, &[("TENANTS_MAX", "1")]);
    the_least_recently_used_pool_is_ended(&story, &application);
    let busy = a_pool_in_use_is_kept(&story, &application);
    drop(daemon);
    let ended = application.wait_for("idle connection of app_user.globex");
    let (status, _) = application.request("ada", "GET /contacts", "");
    assert_eq!(status, 503, "without Multigres");
    let gone = application.wait_for("connect ECONNREFUSED");
    drop(application);

    story.forgetting_the_tenant_shows_the_last_one();
    story.follow(Some("several"));
    story.type_check();
    two_values_hold_two_users_apart(&story);
    story.all_migrations_run_at_once_and_leave_nothing_to_find();
    messages::each_was_seen(&story, &[opened, busy, ended, gone]);
}

/// The folder that becomes the application, and the cluster that it uses.
struct Story<'a> {
    cluster: Cluster,
    blocks: Vec<Block>,
    folder: &'a Path,
    tools: &'a Path,
}

impl<'a> Story<'a> {
    fn begin(folder: &'a Path, tools: &'a Path) -> Story<'a> {
        let cluster = Cluster::start();
        let mut superuser = cluster.superuser("postgres");
        superuser.batch_execute("grant by_scram to app_user").unwrap();
        Story { cluster, blocks: blocks(PAGE), folder, tools }
    }

    /// Does what the page says, in its order.
    fn follow(&self, step: Option<&str>) {
        for block in self.blocks.iter().filter(|block| block.key("step") == step) {
            match (block.key("file"), block.key("run")) {
                (Some("database.sql"), _) => self.make_database(&block.text),
                (Some(file), _) if file.ends_with(".sql") && !file.contains('/') => {
                    self.superuser().batch_execute(&block.text).expect(file);
                    if file == "loud.sql" {
                        assert_eq!(self.check("mydb"), (0, String::new()), "nothing is left");
                    }
                }
                (Some("package.json"), _) => {
                    self.assert_versions(&block.text);
                    block.write(self.folder);
                }
                (Some(_), _) => block.write(self.folder),
                (_, Some("start")) => {}
                (_, Some("check")) => self.assert_check_finds_the_silence(&block.text),
                (_, Some(run)) => {
                    if run == "generate-data" {
                        self.superuser()
                            .batch_execute("insert into contacts values ('acme', default, 'A@B')")
                            .unwrap();
                    }
                    self.shell(&block.text);
                }
                (None, None) => {}
            }
        }
    }

    /// The superuser's part. Each statement by itself: a database is not made in a transaction.
    fn make_database(&self, statements: &str) {
        let mut superuser = self.cluster.superuser("postgres");
        for statement in statements.split_inclusive(';') {
            superuser.batch_execute(statement).unwrap();
        }
        let public = "select current_setting('server_version_num')::int < 150000";
        if superuser.query_one(public, &[]).unwrap().get(0) {
            let advice = "alter schema public owner to migrator";
            assert!(PAGE.contains(advice));
            self.superuser().batch_execute(advice).unwrap();
        }
    }

    /// The versions that the page names are those that are run.
    fn assert_versions(&self, package: &str) {
        let mut packages = 0;
        for line in package.lines().filter(|line| line.starts_with("        \"")) {
            let (name, version) = line.trim().split_once(": ").expect("a name and a version");
            let name = name.trim_matches('"');
            let installed = self.tools.join("node_modules").join(name).join("package.json");
            let installed = fs::read_to_string(installed).expect(name);
            let version = format!("\"version\": {}", version.trim_end_matches(','));
            assert!(installed.contains(&version), "{name} is not of {version}");
            packages += 1;
        }
        assert_eq!(packages, 9);
    }

    fn assert_check_finds_the_silence(&self, command: &str) {
        assert_eq!(command.trim(), CHECK);
        let (code, found) = self.check("mydb");
        assert_eq!(code, 1, "{found}");
        let lines: Vec<&str> = found.lines().filter(|line| !line.starts_with(' ')).collect();
        assert_eq!(lines.len(), 1, "{found}");
        assert!(lines[0].starts_with("warning: owner_sees_no_row: role migrator: "), "{found}");
    }

    fn check(&self, database: &str) -> (i32, String) {
        let output = self.commands(database, 0).shell(CHECK);
        (output.status.code().expect("an exit code"), text(&output.stderr))
    }

    fn shell(&self, script: &str) -> String {
        let output = self.commands("mydb", self.cluster.port()).shell(script);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success(), "{script}\n{said}");
        said
    }

    fn type_check(&self) {
        self.shell("npx tsc");
    }

    fn commands(&self, database: &str, port: u16) -> Commands<'_> {
        let migration_url =
            format!("postgresql://migrator:unused@127.0.0.1:{}/{database}", self.cluster.port());
        let programs = self.tools.join("node_modules/.bin");
        Commands { folder: self.folder, programs, migration_url, port }
    }

    fn daemon(&self, settings: &[(&str, &str)]) -> Daemon {
        let run = Run::on(&self.cluster).set("verify_ttl", "0");
        settings.iter().fold(run, |run, (key, value)| run.set(key, value)).start()
    }

    fn application(&self, daemon: &Daemon, environment: &[(&str, &str)]) -> Application {
        let commands = self.commands("mydb", daemon.port());
        let start = self.blocks.iter().find(|block| block.key("run") == Some("start"));
        Application::start(&commands, &start.expect("the page starts it").text, environment)
    }

    fn superuser(&self) -> Client {
        self.cluster.superuser("mydb")
    }

    fn migrator(&self) -> Client {
        self.cluster.direct("migrator", "mydb").connect(NoTls).unwrap()
    }

    fn wait_for_sessions(&self, count: u32) {
        self.cluster.wait_until(&format!("select count(*) = {count} from ({SESSIONS}) as s"));
    }

    /// Ends the application's sessions, all of them idle, and waits until it knows.
    fn end_sessions(&self, application: &Application) {
        let end = format!("select pg_terminate_backend(pid) from ({SESSIONS}) as s");
        let ended = self.superuser().query(&end, &[]).unwrap();
        assert!(!ended.is_empty(), "it has sessions");
        for _ in ended {
            application.wait_for("idle connection of app_user.");
        }
    }

    fn forgetting_the_tenant_shows_the_last_one(&self) {
        let said = self.shell("npx tsx before.ts");
        let (careful, forgetful) = said.split_once(r#","forgetful":"#).expect("both");
        assert!(said.contains("a@b"), "{said}");
        assert_eq!(careful.trim_start_matches(r#"{"careful":"#), forgetful.trim_end_matches("}\n"));
    }

    /// As in CI, and with a schema tool that sees no difference.
    fn all_migrations_run_at_once_and_leave_nothing_to_find(&self) {
        let create = "create database ci owner migrator";
        self.cluster.superuser("postgres").batch_execute(create).unwrap();
        let mut superuser = self.cluster.superuser("ci");
        if superuser
            .query_one("select current_setting('server_version_num')::int < 150000", &[])
            .unwrap()
            .get(0)
        {
            superuser.batch_execute("alter schema public owner to migrator").unwrap();
        }
        for run in ["setup", "migrate"] {
            let block = self.blocks.iter().find(|block| block.key("run") == Some(run)).unwrap();
            let output = self.commands("ci", 0).shell(&block.text);
            assert!(output.status.success(), "{}", text(&output.stderr));
        }
        assert_eq!(self.check("ci"), (0, String::new()));
        let output = self.commands("ci", 0).shell("npx drizzle-kit push --force");
        let said = text(&output.stdout);
        assert!(said.contains("No changes detected"), "{said}");
    }
}

fn each_tenant_has_its_own_rows(application: &Application) {
    let body = r#"{"email": "x@example.com"}"#;
    let put = |user| {
        let (status, contact) = application.request(user, "PUT /contacts", body);
        assert_eq!(status, 200, "{contact}");
        contact
    };
    let (of_acme, of_globex) = (put("ada"), put("gil"));
    assert_eq!(put("alan"), of_acme, "a conflict inside the tenant");
    assert_ne!(of_globex, of_acme, "and none between two");

    let list = |user| application.request(user, "GET /contacts", "").1;
    assert_eq!(list("gil"), format!("[{of_globex}]"));
    let contacts = list("ada");
    assert!(contacts.contains(&of_acme) && contacts.contains("a@b"), "{contacts}");
    assert!(!contacts.contains("globex"), "{contacts}");

    let id = of_acme.split_once(r#""id":""#).unwrap().1.split('"').next().unwrap();
    let call = |user| {
        let request = format!("POST /contacts/{id}/calls");
        application.request(user, &request, r#"{"minutes": 5}"#).0
    };
    assert_eq!(call("ada"), 201);
    assert_eq!(call("gil"), 409, "another tenant's contact");
    application.wait_for("409 23503");
    assert!(list("alan").contains(r#""calls":1"#), "the transaction was committed");
    assert!(!list("gil").contains(r#""calls":1"#), "and the other was not");
}

fn tenants_that_are_no_names_are_refused(application: &Application, daemon: &Daemon) {
    for (token, _, tenant) in USERS.iter().filter(|(_, id, _)| *id == "eve") {
        let (status, body) = application.request(token, "GET /contacts", "");
        assert_eq!((status, body.as_str()), (403, r#"{"error":"no tenant"}"#), "{tenant}");
    }
    let (status, _) = application.request("nobody", "GET /contacts", "");
    assert_eq!(status, 401);
    let log = daemon.log().join("\n");
    assert!(!log.contains("refused"), "Multigres has heard of none: {log}");
}

fn ended_connections_are_replaced(story: &Story, application: &Application) {
    story.end_sessions(application);
    for user in ["ada", "gil"] {
        assert_eq!(application.request(user, "GET /contacts", "").0, 200);
    }
}

/// Answers with the application's line about it.
fn an_opened_table_is_not_served(story: &Story, application: &Application) -> String {
    let open = "alter table contacts no force row level security";
    story.superuser().batch_execute(open).unwrap();
    story.end_sessions(application);
    let (status, body) = application.request("ada", "GET /contacts", "");
    assert_eq!((status, body.as_str()), (503, r#"{"error":"try again later"}"#));
    let line = application.wait_for("503 55000");
    story.migrator().batch_execute("select multigres_protect('contacts')").unwrap();
    assert_eq!(application.request("ada", "GET /contacts", "").0, 200);
    line
}

fn a_stop_waits_for_the_request_that_runs(story: &Story, application: Application) {
    let mut superuser = story.superuser();
    let request = blocked_request(story, &mut superuser, &application);
    application.stop();
    superuser.batch_execute("commit").unwrap();
    assert_eq!(request.answer().0, 200);
    application.wait_for("stopped");
    assert!(application.wait().success());
    story.wait_for_sessions(0);
}

fn the_least_recently_used_pool_is_ended(story: &Story, application: &Application) {
    for user in ["ada", "gil", "ada"] {
        assert_eq!(application.request(user, "GET /contacts", "").0, 200);
        story.wait_for_sessions(1);
    }
}

/// Answers with the application's line about it.
fn a_pool_in_use_is_kept(story: &Story, application: &Application) -> String {
    let mut superuser = story.superuser();
    let request = blocked_request(story, &mut superuser, application);
    assert_eq!(application.request("gil", "GET /contacts", "").0, 503);
    let line = application.wait_for("every pool is in use");
    superuser.batch_execute("commit").unwrap();
    assert_eq!(request.answer().0, 200);
    assert_eq!(application.request("gil", "GET /contacts", "").0, 200);
    line
}

/// A request of acme's that waits for this superuser's transaction.
fn blocked_request(
    story: &Story,
    superuser: &mut Client,
    application: &Application,
) -> application::Request {
    superuser.batch_execute("begin; lock table contacts").unwrap();
    let request = application.send("ada", "GET /contacts", "");
    let waits = format!("select exists ({SESSIONS} and wait_event_type = 'Lock')");
    story.cluster.wait_until(&waits);
    request
}

fn two_values_hold_two_users_apart(story: &Story) {
    let settings = fs::read_to_string(story.folder.join("multigres.conf")).unwrap();
    let (key, value) = settings.trim().split_once(" = ").unwrap();
    let daemon = story.daemon(&[(key, value)]);
    let application = story.application(&daemon, &[]);
    for user in ["ada", "alan"] {
        let contacts = application.request(user, "GET /contacts", "").1;
        assert!(contacts.contains("a@b") && !contacts.contains("globex"), "{contacts}");
    }
    let login = |user: &str| daemon.config(user).dbname("mydb").connect(NoTls);
    let mut ada = login("app_user.acme:ada").unwrap();
    ada.batch_execute("insert into drafts (body) values ('of Ada')").unwrap();
    assert_eq!(count(&mut ada, "drafts"), 1);
    for other in ["app_user.acme:alan", "app_user.globex:ada"] {
        assert_eq!(count(&mut login(other).unwrap(), "drafts"), 0, "{other}");
    }
    assert_eq!(sqlstate(&login("app_user.acme").err().unwrap()), "28000");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const CHECK: &str = "npx tsx scripts/check.ts";

/// The tenants' sessions in PostgreSQL.
const SESSIONS: &str = "select pid from pg_stat_activity where usename = 'app_user'";
