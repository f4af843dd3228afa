//! The page's application as a process, and the HTTP that its users speak. Knows nothing about
//! what the application should answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use testing::{DEADLINE, Signal, Watchdog, send_signal};

use crate::page::Commands;

/// Who may log in to the application, by token: their id and their tenant.
pub(crate) const USERS: [(&str, &str, &str); 8] = [
    ("ada", "ada", "acme"),
    ("alan", "alan", "acme"),
    ("gil", "gil", "globex"),
    ("two-values", "eve", "acme:globex"),
    ("two-tenants", "eve", "globex.acme"),
    ("no-tenant", "eve", ""),
    ("quoted", "eve", "acme' or '1' = '1"),
    ("long", "eve", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
];

/// The application, listening; it ends with this value.
pub(crate) struct Application {
    child: Child,
    port: u16,
    log: Receiver<String>,
    _watchdog: Watchdog,
}

impl Application {
    /// Starts it by the page's own command, with these further variables of the environment.
    pub(crate) fn start(
        commands: &Commands,
        command: &str,
        environment: &[(&str, &str)],
    ) -> Application {
        let users: Vec<String> = USERS
            .iter()
            .map(|(token, id, tenant)| {
                format!(r#"["{token}", {{"id": "{id}", "tenant": "{tenant}"}}]"#)
            })
            .collect();
        let mut words = command.split_whitespace();
        let mut child = commands
            .command(words.next().expect("a program"))
            .args(words)
            .env("PORT", "0")
            .env("USERS", format!("[{}]", users.join(", ")))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("node starts");
        let watchdog = Watchdog::over(child.id());
        let (sender, log) = mpsc::channel();
        let stdout: Box<dyn Read + Send> = Box::new(child.stdout.take().expect("piped"));
        let stderr: Box<dyn Read + Send> = Box::new(child.stderr.take().expect("piped"));
        for stream in [stdout, stderr] {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        let mut application = Application { child, port: 0, log, _watchdog: watchdog };
        let line = application.wait_for("listening on ");
        let port = line.rsplit(' ').next().expect("a word");
        application.port = port.parse().expect("a port");
        application
    }

    /// Waits for a line that it writes, and passes over those before.
    ///
    /// # Panics
    /// When it has not come by the deadline.
    pub(crate) fn wait_for(&self, pattern: &str) -> String {
        let mut before = Vec::new();
        loop {
            let Ok(line) = self.log.recv_timeout(DEADLINE) else {
                panic!("never written: {pattern:?}; but:\n{}", before.join("\n"));
            };
            if line.contains(pattern) {
                return line;
            }
            before.push(line);
        }
    }

    /// A request with a user's token; the status, and the body.
    pub(crate) fn request(&self, token: &str, request: &str, body: &str) -> (u16, String) {
        self.send(token, request, body).answer()
    }

    /// The same, without waiting for the answer.
    pub(crate) fn send(&self, token: &str, request: &str, body: &str) -> Request {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        let head = format!(
            "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Authorization: Bearer {token}\r\nX-Tenant: globex\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).expect("it reads");
        Request(stream)
    }

    /// Asks it to stop; it goes on until [`Application::wait`] has seen its end.
    pub(crate) fn stop(&self) {
        send_signal(Signal::TERM, self.child.id());
    }

    pub(crate) fn wait(mut self) -> ExitStatus {
        self.child.wait().expect("it was not waited for before")
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            while let Ok(line) = self.log.recv_timeout(Duration::from_millis(100)) {
                println!("application: {line}");
            }
        }
    }
}

/// A request on its way.
pub(crate) struct Request(TcpStream);

impl Request {
    pub(crate) fn answer(mut self) -> (u16, String) {
        let mut answer = String::new();
        self.0.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).expect("a status");
        (status.parse().expect("a number"), body.to_owned())
    }
}
