//! Processes that end with the test process, however that ends: a `sh` holds the reading end of
//! a pipe and cleans up at its end of file, which even a kill -9 brings about.

use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

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

/// Sends a signal.
///
/// # Panics
/// When there is no such process.
pub fn send_signal(signal: Signal, pid: u32) {
    let process = Pid::from_raw(pid.try_into().expect("the id of a process"));
    kill_process(process.expect("it is not 0"), signal)
        .unwrap_or_else(|error| panic!("{signal:?} for process {pid}: {error}"));
}
