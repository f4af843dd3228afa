//! Processes that end with the test process, however that ends: a `sh` holds the reading end of
//! a pipe and cleans up at its end of file, which even a kill -9 brings about.

use std::process::{Child, ChildStdin, Command, Stdio};

/// Kills a process when the test process goes away without doing so itself.
pub struct Watchdog {
    shell: Child,
    _lifeline: ChildStdin,
}

impl Watchdog {
    pub fn over(pid: u32) -> Watchdog {
        let mut shell = Command::new("sh")
            .args(["-c", "read -r _; kill -9 \"$1\"", "watchdog", &pid.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh starts");
        let lifeline = shell.stdin.take().expect("stdin is piped");
        Watchdog { shell, _lifeline: lifeline }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // Killed, not told: the watched process id may belong to another by now.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// Sends a signal by its name: `TERM`, `KILL`. By the shell, for not every machine has a program
/// for it.
pub fn send_signal(name: &str, pid: u32) {
    let status =
        Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &pid.to_string()]).status();
    assert!(status.expect("sh starts").success(), "no SIG{name} for process {pid}");
}
