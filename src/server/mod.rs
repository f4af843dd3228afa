//! The driver of the loop: poll, listeners, signals, look-ups, the clock.
//! Knows nothing of the protocol. The only user of mio and of `Instant::now`.

mod listen;
pub mod net;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use log::{info, warn};
use mio::{Events, Interest, Poll, Token, Waker};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};
use signal_hook_mio::v1_0::Signals;

use crate::net::Token as LoopToken;
use crate::proxy::{Control, DRIVER_TOKENS, Proxy, Settings};
use listen::Listeners;
use net::{LookupAnswer, MioNet};

/// A daemon that listens.
pub struct Server {
    poll: Poll,
    signals: Signals,
    answers: Receiver<LookupAnswer>,
    proxy: Proxy<MioNet>,
    /// Keeps the socket files until the end.
    _listeners: Listeners,
}

impl Server {
    /// Listens, and takes the signals over.
    ///
    /// `hosts` are IP addresses, host names, `*`, or directories of unix sockets. With `port` 0 the
    /// kernel chooses one for each TCP address.
    ///
    /// # Errors
    /// When an address cannot be bound or the process lacks a resource.
    pub fn new(hosts: &[String], port: u16, settings: Settings) -> io::Result<Self> {
        raise_descriptor_limit(settings.connections_max);
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1])?;
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
        let (net, answers) = MioNet::new(poll.registry().try_clone()?, waker)?;
        let mut listeners = Listeners::bind(hosts, port)?;
        let mut sockets = std::mem::take(&mut listeners.sockets);
        for (at, socket) in sockets.iter_mut().enumerate() {
            net.register_listener(socket, Proxy::<MioNet>::listener_token(at))?;
        }
        let proxy = Proxy::new(net, settings, sockets);
        Ok(Server { poll, signals, answers, proxy, _listeners: listeners })
    }

    /// Runs until a signal has ended it.
    ///
    /// # Errors
    /// When polling fails.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN_MAX);
        let mut sleep = None;
        loop {
            match self.poll.poll(&mut events, sleep) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                Ok(()) | Err(_) => {}
            }
            let now = Instant::now();
            for event in &events {
                match event.token() {
                    SIGNALS => self.take_signals(now),
                    WAKER => self.take_answers(now),
                    _ => {}
                }
            }
            sleep = self.proxy.turn(
                now,
                events
                    .iter()
                    .filter(|event| event.token().0 < DRIVER_TOKENS)
                    .map(|event| (LoopToken(event.token().0), net::readiness(event))),
            );
            if self.proxy.is_drained() {
                info!("stopped");
                return Ok(());
            }
        }
    }

    fn take_signals(&mut self, now: Instant) {
        for signal in self.signals.pending() {
            match signal {
                SIGUSR1 => self.log_status(),
                SIGHUP => warn!("SIGHUP ignored: settings are read at the start only"),
                SIGTERM if !self.proxy.is_draining() => {
                    info!("draining: sessions may end, new ones are refused");
                    self.proxy.control(Control::Drain, now);
                }
                _ => {
                    info!("stopping");
                    self.proxy.control(Control::Stop, now);
                }
            }
        }
    }

    fn log_status(&self) {
        let status = self.proxy.status();
        info!(
            "status connections={} piping={} deadlines={} run_queue={} buffers={}",
            status.connections, status.piping, status.deadlines, status.run_queue, status.buffers
        );
    }

    fn take_answers(&mut self, now: Instant) {
        while let Ok(answer) = self.answers.try_recv() {
            self.proxy.resolved(now, answer);
        }
    }
}

/// A session and a cancel request take two descriptors each, and they may be as many; the soft
/// limit is often far below the hard one.
fn raise_descriptor_limit(connections_max: usize) {
    let wanted = (4 * connections_max + SPARE_DESCRIPTORS) as u64;
    match rlimit::increase_nofile_limit(wanted) {
        Ok(limit) if limit >= wanted => {}
        Ok(limit) => warn!(
            "the limit of {limit} open files is too low for max_connections = {connections_max}, \
             which takes {wanted}"
        ),
        Err(error) => warn!("cannot raise the limit of open files: {error}"),
    }
}

const EVENTS_PER_TURN_MAX: usize = 1024;
const SPARE_DESCRIPTORS: usize = 256;
const SIGNALS: Token = Token(DRIVER_TOKENS);
const WAKER: Token = Token(DRIVER_TOKENS + 1);
