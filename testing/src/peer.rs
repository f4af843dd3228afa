//! Another program between client and PostgreSQL, as PgBouncer, in a process with settings of its
//! own. Knows nothing of any one program.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::cluster::free_port;
use crate::{DEADLINE, Watchdog};

/// A running program that listens on a port of 127.0.0.1. Gone when this is dropped.
pub struct Peer {
    child: Child,
    port: u16,
    _watchdog: Watchdog,
    _folder: TempDir,
}

impl Peer {
    /// Starts it as this user and group, with the arguments that `prepare` has for its port and for
    /// a folder where it may put files, and waits until it listens. `None` if there is no such
    /// program.
    ///
    /// # Panics
    /// When it does not listen.
    pub fn start(
        program: &Path,
        user: Option<(u32, u32)>,
        prepare: impl FnOnce(u16, &Path) -> Vec<String>,
    ) -> Option<Peer> {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let mut command = Command::new(program);
        // Nothing of this environment is a setting for it.
        command.args(prepare(port, folder.path())).env_clear();
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some((uid, gid)) = user {
            for file in fs::read_dir(folder.path()).expect("a folder") {
                let path = file.expect("a file").path();
                chown(path, Some(uid), Some(gid)).expect("root may");
            }
            chown(folder.path(), Some(uid), Some(gid)).expect("root may");
            command.uid(uid).gid(gid);
        }
        let child = command.spawn().ok()?;
        let watchdog = Watchdog::over(child.id());
        let peer = Peer { child, port, _watchdog: watchdog, _folder: folder };
        let started = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(started.elapsed() < DEADLINE, "{} does not listen", program.display());
            thread::sleep(Duration::from_millis(10));
        }
        Some(peer)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
