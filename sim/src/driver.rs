//! The driver of the daemon's loop in virtual time: waits, turns, controls, look-ups.
//! The counterpart of the daemon's `server`, and as short.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use multigres::net::{Address, Readiness, Token};
use multigres::proxy::{Control, Proxy, Status};
use tokio::time::{Instant, sleep, timeout};

use crate::net::SimNet;
use crate::plan::{Lookup, LookupAnswer};
use crate::record;
use crate::rng::Rng;
use crate::watch::Watch;

/// How the run talks to the daemon, and what it sees of it.
#[derive(Clone, Default)]
pub struct Remote(Rc<RefCell<Inner>>);

#[derive(Default)]
struct Inner {
    controls: Vec<Control>,
    waker: Option<Waker>,
    status: Option<Status>,
    sockets: usize,
    ended: bool,
}

impl Remote {
    /// Asks for something.
    pub fn control(&self, control: Control) {
        let mut inner = self.0.borrow_mut();
        inner.controls.push(control);
        if let Some(waker) = inner.waker.take() {
            waker.wake();
        }
    }

    /// Figures after the last turn, and how many sockets are open.
    pub fn status(&self) -> (Option<Status>, usize) {
        let inner = self.0.borrow();
        (inner.status, inner.sockets)
    }

    /// The daemon has drained and left its loop.
    pub fn has_ended(&self) -> bool {
        self.0.borrow().ended
    }
}

/// The resolver, as the daemon knows it: one question at a time.
pub struct Resolver {
    /// What the plan has it answer; `None` when nobody asks.
    pub lookup: Option<Lookup>,
    /// Where upstream is.
    pub upstream: Address,
    /// Where nobody listens.
    pub nowhere: Address,
}

/// Runs the loop until it is asked to end and has.
pub async fn run(
    net: SimNet,
    mut proxy: Proxy<SimNet>,
    remote: Remote,
    resolver: Resolver,
    slow_turn_ms: u64,
    seed: u64,
) {
    let mut rng = Rng::fork(seed, "driver");
    let mut events = Vec::new();
    let mut nap = None;
    let mut draining = false;
    let mut answer_at: Option<Instant> = None;
    loop {
        let until_answer = answer_at.map(|at| at.saturating_duration_since(Instant::now()));
        wait(&net, &remote, earliest(nap, until_answer), &mut events).await;
        if slow_turn_ms > 0 && rng.percent(30) {
            sleep(Duration::from_millis(rng.within(0..slow_turn_ms + 1))).await;
        }
        let now = Instant::now().into_std();
        let controls = std::mem::take(&mut remote.0.borrow_mut().controls);
        for control in controls {
            record::line(format_args!("control {control:?}"));
            net.watch(match control {
                Control::Drain => Watch::drain,
                Control::Stop => Watch::stop,
            });
            proxy.control(control, now);
            draining = true;
        }
        if answer_at.is_some_and(|at| at <= Instant::now()) {
            answer_at = None;
            let answer = resolver.answer();
            record::line(format_args!("resolved {answer:?}"));
            proxy.resolved(now, answer);
        }
        record::line(format_args!("turn {events:?}"));
        net.watch(Watch::begin_turn);
        nap = proxy.turn(now, events.drain(..));
        net.end_turn(nap, &proxy.status());
        if net.take_question().is_some()
            && let Some(lookup) = &resolver.lookup
            && lookup.answer != LookupAnswer::Never
        {
            answer_at = Some(Instant::now() + Duration::from_millis(lookup.delay_ms));
        }
        let mut inner = remote.0.borrow_mut();
        inner.status = Some(proxy.status());
        inner.sockets = net.open();
        if draining && proxy.is_drained() {
            inner.ended = true;
            return;
        }
    }
}

impl Resolver {
    fn answer(&self) -> Result<Vec<Address>, String> {
        match self.lookup.as_ref().expect("only then is it asked").answer {
            LookupAnswer::Good => Ok(vec![self.upstream.clone()]),
            LookupAnswer::BadFirst => Ok(vec![self.nowhere.clone(), self.upstream.clone()]),
            LookupAnswer::Bad => Ok(vec![self.nowhere.clone()]),
            LookupAnswer::Unknown | LookupAnswer::Never => Err("no such host".into()),
        }
    }
}

fn earliest(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    a.into_iter().chain(b).min()
}

/// As poll(2): until there are events, or something is asked for, or the time is over.
async fn wait(
    net: &SimNet,
    remote: &Remote,
    nap: Option<Duration>,
    events: &mut Vec<(Token, Readiness)>,
) {
    let until_event = poll_fn(|cx| {
        let mut inner = remote.0.borrow_mut();
        inner.waker = Some(cx.waker().clone());
        let asked = !inner.controls.is_empty();
        match net.poll(cx, events) {
            Poll::Pending if asked || nap == Some(Duration::ZERO) => Poll::Ready(()),
            polled => polled,
        }
    });
    match nap {
        None | Some(Duration::ZERO) => until_event.await,
        Some(nap) => {
            // Whether there were events or not: the turn takes what there is.
            let _ = timeout(nap, until_event).await;
        }
    }
}
