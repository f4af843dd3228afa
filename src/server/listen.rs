//! Turns `listen_host` into listening sockets: addresses, host names, unix socket directories.
//! Knows nothing of what is accepted.

use std::fmt::Display;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use log::{info, warn};

use super::net::{Listener, listen_tcp};
use crate::net::unix_socket;

/// Listening sockets, and the socket files that are to be removed at the end.
pub(super) struct Listeners {
    /// The sockets.
    pub(super) sockets: Vec<Listener>,
    files: Vec<SocketFile>,
}

struct SocketFile {
    path: PathBuf,
    /// Device and inode: a file that has taken its place is left alone.
    identity: (u64, u64),
}

impl Listeners {
    /// Binds all of them, and says so in the log.
    ///
    /// # Errors
    /// With the address that cannot be bound in the message.
    pub(super) fn bind(hosts: &[String], port: u16) -> io::Result<Self> {
        let mut listeners = Listeners { sockets: Vec::new(), files: Vec::new() };
        for host in hosts {
            if host.starts_with('/') {
                let path = unix_socket(Path::new(host), port);
                let bound = listeners.bind_unix(&path);
                bound.map_err(|error| cannot_listen(&path.display(), &error))?;
            } else {
                listeners.bind_tcp(host, port)?;
            }
        }
        Ok(listeners)
    }

    fn bind_tcp(&mut self, host: &str, port: u16) -> io::Result<()> {
        let addresses = addresses(host, port).map_err(|error| cannot_listen(&host, &error))?;
        let bound_before = self.sockets.len();
        let mut failures = Vec::new();
        for address in addresses {
            match listen_tcp(address) {
                Ok((listener, bound)) => {
                    info!("listening on {bound}");
                    self.sockets.push(listener);
                }
                Err(error) => failures.push(cannot_listen(&address, &error)),
            }
        }
        if self.sockets.len() == bound_before {
            let nothing = || cannot_listen(&host, &io::ErrorKind::AddrNotAvailable.into());
            return Err(failures.pop().unwrap_or_else(nothing));
        }
        // A machine without IPv6 may still have `::1` in its hosts file.
        for failure in failures {
            warn!("{failure}");
        }
        Ok(())
    }

    fn bind_unix(&mut self, path: &Path) -> io::Result<()> {
        remove_stale(path)?;
        let listener = mio::net::UnixListener::bind(path)?;
        let metadata = fs::metadata(path)?;
        self.files
            .push(SocketFile { path: path.to_owned(), identity: (metadata.dev(), metadata.ino()) });
        // As PostgreSQL's unix_socket_permissions: who may log in is decided by the login.
        fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
        info!("listening on {}", path.display());
        self.sockets.push(Listener::Unix(listener));
        Ok(())
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        for file in &self.files {
            let identity = fs::symlink_metadata(&file.path).map(|it| (it.dev(), it.ino()));
            if identity.is_ok_and(|identity| identity == file.identity) {
                let _ = fs::remove_file(&file.path);
            }
        }
    }
}

fn cannot_listen(on: &impl Display, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {on}: {error}"))
}

/// `*` stands for every address of the machine, as in PostgreSQL's `listen_addresses`.
fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if host == "*" {
        let every: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        return Ok(every.map(|ip| SocketAddr::new(ip, port)).to_vec());
    }
    let mut found: Vec<_> = (host, port).to_socket_addrs()?.collect();
    found.sort();
    found.dedup();
    Ok(found)
}

/// A socket file that nobody listens on any more was left behind by a crash.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
            Ok(_) | Err(_) => Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another process listens on its socket",
            )),
        },
        Ok(_) | Err(_) => Ok(()),
    }
}
