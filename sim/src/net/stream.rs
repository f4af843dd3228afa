//! A stream of the daemon's: calls on it, as the simulated kernel answers them.
//! Knows nothing of other streams.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use multigres::net::Stream;

use super::{SimStream, State};
use crate::record;

impl Stream for SimStream {
    fn connect_result(&mut self) -> io::Result<bool> {
        let mut inner = self.net.0.borrow_mut();
        inner.watch.call();
        match &mut inner.sockets.get_mut(&self.id).expect("open").state {
            State::Connecting(_) => Ok(false),
            State::Up(kernel) => kernel.connect_result(),
            // An error is told once; no connection comes of it.
            State::Failed(error) => error.take().map_or(Ok(false), Err),
        }
    }

    fn local_address(&self) -> io::Result<Option<SocketAddr>> {
        let mut inner = self.net.0.borrow_mut();
        inner.watch.call();
        match &inner.sockets.get(&self.id).expect("open").state {
            State::Up(kernel) => kernel.local_addr().map(Some),
            State::Connecting(_) | State::Failed(_) => Err(ErrorKind::NotConnected.into()),
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let mut inner = self.net.0.borrow_mut();
        record::line(format_args!("shutdown #{}", self.id));
        let token = inner.sockets.get(&self.id).expect("open").token;
        inner.watch.shut(token);
        match &mut inner.sockets.get_mut(&self.id).expect("open").state {
            State::Up(kernel) => kernel.shutdown_write(),
            State::Connecting(_) | State::Failed(_) => Err(ErrorKind::NotConnected.into()),
        }
    }
}

impl io::Read for SimStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let result = self.net.0.borrow_mut().read(self.id, into);
        record::line(format_args!("read #{} {}: {}", self.id, into.len(), shown(&result)));
        result
    }
}

impl io::Write for SimStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.net.0.borrow_mut().write(self.id, bytes);
        record::line(format_args!("write #{} {}: {}", self.id, bytes.len(), shown(&result)));
        result
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.net.0.borrow_mut().close(self.id);
    }
}

fn shown(result: &io::Result<usize>) -> String {
    match result {
        Ok(count) => count.to_string(),
        Err(error) => format!("{:?}", error.kind()),
    }
}
