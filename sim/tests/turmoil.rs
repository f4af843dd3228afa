//! What the simulator relies on in turmoil. It is pinned to one version; when another one is tried,
//! these tests say what has changed under `sim/src`.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout};
use turmoil::net::{TcpListener, TcpStream};
use turmoil::{Builder, Sim};

/// As the simulator's own network.
fn builder(seed: u64, latency_ms: (u64, u64)) -> Builder {
    let mut builder = Builder::new();
    builder
        .rng_seed(seed)
        .epoch(SystemTime::UNIX_EPOCH)
        .simulation_duration(Duration::from_secs(1000))
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_millis(latency_ms.0))
        .max_message_latency(Duration::from_millis(latency_ms.1))
        .tcp_capacity(1 << 20);
    builder
}

/// A host that does this with all that it accepts.
fn server(sim: &mut Sim<'_>, name: &str, serve: impl AsyncFn(TcpStream) + Copy + 'static) {
    sim.host(name, move || async move {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            spawn_local(async move { serve(stream).await });
        }
    });
}

async fn connect() -> io::Result<TcpStream> {
    // The host has to listen first.
    sleep(Duration::from_millis(5)).await;
    TcpStream::connect(("server", PORT)).await
}

fn poll_read(
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    into: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(into);
    let polled = Pin::new(stream).poll_read(cx, &mut buffer);
    polled.map_ok(|()| buffer.filled().len())
}

async fn read(stream: &mut TcpStream, into: &mut [u8]) -> io::Result<usize> {
    poll_fn(|cx| poll_read(stream, cx, into)).await
}

/// Leaves a stream open.
async fn keep(stream: TcpStream) {
    let _stream = stream;
    std::future::pending::<()>().await;
}

#[test]
fn a_write_is_taken_whole_and_a_read_brings_one_of_them_at_most() {
    let mut sim = builder(1, (1, 5)).build();
    server(&mut sim, "server", async |stream| {
        assert_eq!(stream.try_write(&[1; 100_000]).unwrap(), 100_000);
        for _ in 0..5 {
            assert_eq!(stream.try_write(&[2]).unwrap(), 1);
        }
        keep(stream).await;
    });
    sim.client("client", async {
        let mut stream = connect().await?;
        sleep(Duration::from_millis(50)).await;
        let mut space = [0; 65_536];
        for expected in [65_536, 34_464, 1, 1, 1, 1, 1] {
            assert_eq!(read(&mut stream, &mut space).await?, expected);
        }
        Ok(())
    });
    sim.run().unwrap();
}

#[test]
fn segments_arrive_in_order_whatever_their_latency() {
    let mut sim = builder(1, (0, 50)).build();
    server(&mut sim, "server", async |stream| {
        for at in 0..200 {
            stream.try_write(&[at]).unwrap();
        }
        keep(stream).await;
    });
    sim.client("client", async {
        let mut stream = connect().await?;
        let begin = Instant::now();
        for at in 0..200 {
            let mut byte = [0];
            assert_eq!(read(&mut stream, &mut byte).await?, 1);
            assert_eq!(byte, [at]);
        }
        assert!(begin.elapsed() > Duration::from_millis(10), "some were late");
        Ok(())
    });
    sim.run().unwrap();
}

#[test]
fn the_capacity_counts_writes_and_a_large_one_never_bites() {
    for (capacity, taken) in [(4, 4), (1 << 20, 50_000)] {
        let mut sim = builder(1, (0, 1)).tcp_capacity(capacity).build();
        server(&mut sim, "server", keep);
        sim.client("client", async move {
            let stream = connect().await?;
            let count = (0..50_000).take_while(|_| stream.try_write(&[0; 100]).is_ok()).count();
            assert_eq!(count, taken);
            if taken == 4 {
                let error = stream.try_write(&[0]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
            }
            Ok(())
        });
        sim.run().unwrap();
    }
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_read_that_is_pending_wakes_once() {
    let mut sim = builder(1, (1, 2)).build();
    server(&mut sim, "server", async |stream| {
        for _ in 0..3 {
            sleep(Duration::from_millis(100)).await;
            stream.try_write(b"x").unwrap();
        }
        keep(stream).await;
    });
    sim.client("client", async {
        let mut stream = connect().await?;
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let cx = &mut Context::from_waker(&waker);
        assert!(poll_read(&mut stream, cx, &mut [0; 9]).is_pending());
        sleep(Duration::from_millis(50)).await;
        assert_eq!(count.0.load(Ordering::Relaxed), 0, "nothing has come");
        sleep(Duration::from_millis(500)).await;
        assert_eq!(count.0.load(Ordering::Relaxed), 1, "three have come");
        for _ in 0..3 {
            assert!(poll_read(&mut stream, cx, &mut [0; 9]).is_ready());
        }
        assert!(poll_read(&mut stream, cx, &mut [0; 9]).is_pending());
        Ok(())
    });
    sim.run().unwrap();
}

#[test]
fn a_connection_is_made_when_it_is_accepted_and_many_may_wait() {
    let mut sim = builder(1, (1, 2)).build();
    sim.host("server", || async {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
        sleep(Duration::from_secs(1)).await;
        let mut kept = Vec::new();
        for _ in 0..300 {
            let (stream, from) = listener.accept().await?;
            assert_eq!(from.ip(), turmoil::lookup("client"));
            kept.push(stream);
        }
        std::future::pending().await
    });
    sim.client("client", async {
        let attempts: Vec<_> = (0..300).map(|_| spawn_local(connect())).collect();
        for attempt in attempts {
            attempt.await.unwrap()?;
            assert!(turmoil::elapsed() >= Duration::from_secs(1));
        }
        Ok(())
    });
    sim.run().unwrap();
}

#[test]
fn who_connects_where_nobody_listens_any_more_is_refused() {
    let mut sim = builder(1, (1, 2)).build();
    sim.host("server", || async {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
        sleep(Duration::from_secs(1)).await;
        drop(listener);
        std::future::pending().await
    });
    sim.client("client", async {
        // Refused while it waits, and refused at once.
        for at_least in [1000, 0] {
            let begin = Instant::now();
            let error = connect().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            assert!(begin.elapsed() >= Duration::from_millis(at_least / 2));
        }
        Ok(())
    });
    sim.run().unwrap();
}

#[test]
fn a_hold_loses_nothing_and_refuses_nobody() {
    let mut sim = builder(1, (1, 5)).build();
    server(&mut sim, "server", async |stream| {
        for at in 0..100 {
            stream.try_write(&[at]).unwrap();
            sleep(Duration::from_millis(1)).await;
        }
        keep(stream).await;
    });
    let connected = Rc::new(Cell::new(false));
    let seen = connected.clone();
    sim.client("client", async move {
        let mut stream = connect().await?;
        seen.set(true);
        for at in 0..100 {
            let mut byte = [0];
            assert_eq!(read(&mut stream, &mut byte).await?, 1);
            assert_eq!(byte, [at]);
        }
        assert!(turmoil::elapsed() >= Duration::from_millis(300), "it was held twice");
        Ok(())
    });
    step_to(&mut sim, 2);
    sim.hold("client", "server");
    step_to(&mut sim, 100);
    assert!(!connected.get(), "an attempt hangs in a hold");
    sim.release("client", "server");
    step_to(&mut sim, 150);
    assert!(connected.get());
    sim.hold("client", "server");
    step_to(&mut sim, 300);
    sim.release("client", "server");
    sim.run().unwrap();
}

#[test]
fn a_partition_refuses_attempts_and_swallows_bytes_without_a_word() {
    let mut sim = builder(1, (1, 2)).build();
    server(&mut sim, "server", async |stream| {
        loop {
            sleep(Duration::from_millis(10)).await;
            stream.try_write(b"x").unwrap();
        }
    });
    sim.client("client", async {
        let mut stream = connect().await?;
        sleep(Duration::from_millis(300)).await;
        while let Ok(read) = timeout(Duration::from_millis(300), read(&mut stream, &mut [0])).await
        {
            assert_eq!(read?, 1);
        }
        assert_eq!(stream.try_write(b"y")?, 1);
        assert_eq!(connect().await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        Ok(())
    });
    step_to(&mut sim, 100);
    sim.partition("client", "server");
    sim.run().unwrap();
}

#[test]
fn a_crash_ends_streams_and_a_bounced_host_starts_anew() {
    for unread in [false, true] {
        let mut sim = builder(1, (1, 2)).build();
        let starts = Rc::new(Cell::new(0));
        let counted = starts.clone();
        sim.host("server", move || {
            counted.set(counted.get() + 1);
            async {
                let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
                let mut kept = Vec::new();
                loop {
                    kept.push(listener.accept().await?.0);
                }
            }
        });
        sim.client("client", async move {
            let mut stream = connect().await?;
            if unread {
                stream.try_write(b"unread")?;
            }
            let ended = read(&mut stream, &mut [0; 9]).await;
            assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
            assert!(turmoil::elapsed() >= Duration::from_millis(100));
            let still = read(&mut stream, &mut [0; 9]).await;
            assert!(matches!(still, Ok(0) | Err(_)), "{still:?}");
            sleep(Duration::from_millis(200)).await;
            assert!(connect().await.is_ok());
            Ok(())
        });
        step_to(&mut sim, 100);
        sim.crash("server");
        step_to(&mut sim, 200);
        assert_eq!(starts.get(), 1);
        sim.bounce("server");
        sim.run().unwrap();
        assert_eq!(starts.get(), 2);
    }
}

#[test]
fn code_can_tell_whether_it_runs_inside() {
    let mut sim = builder(1, (0, 1)).build();
    sim.client("client", async {
        assert!(turmoil::in_simulation());
        sleep(Duration::from_millis(70)).await;
        assert_eq!(turmoil::sim_elapsed(), Some(Duration::from_millis(70)));
        Ok(())
    });
    sim.run().unwrap();
    assert!(!turmoil::in_simulation());
    assert_eq!(turmoil::sim_elapsed(), None);
}

#[test]
fn the_clock_of_std_is_virtual_behind_that_of_tokio() {
    let mut sim = builder(1, (0, 1)).build();
    sim.client("client", async {
        let before: std::time::Instant = Instant::now().into_std();
        sleep(Duration::from_secs(20)).await;
        assert_eq!(Instant::now().into_std() - before, Duration::from_secs(20));
        Ok(())
    });
    let begin = std::time::Instant::now();
    let mut steps = 0;
    while !sim.step().unwrap() {
        steps += 1;
        assert_eq!(sim.elapsed(), Duration::from_millis(steps), "a step is a tick");
    }
    assert!(begin.elapsed() < Duration::from_secs(19));
}

#[test]
fn a_panic_of_a_host_is_an_error_with_its_words_and_one_of_a_task_is_lost() {
    let mut sim = builder(1, (0, 1)).build();
    sim.client("client", async {
        spawn_local(async { panic!("nobody hears this") });
        sleep(Duration::from_millis(10)).await;
        Ok(())
    });
    sim.run().unwrap();

    let mut sim = builder(1, (0, 1)).build();
    sim.host("server", || async { panic!("R2: busy") });
    let error = sim.step().unwrap_err().to_string();
    assert!(error.contains("R2: busy"), "{error}");
}

#[test]
fn one_seed_has_one_order_of_events() {
    let orders: Vec<_> = [1, 1, 2, 3].into_iter().map(order).collect();
    assert_eq!(orders[0], orders[1]);
    assert_ne!(orders[0], orders[2]);
    assert_ne!(orders[0], orders[3]);
    assert_ne!(orders[2], orders[3]);
}

/// Who is heard when.
fn order(seed: u64) -> Vec<(Duration, IpAddr)> {
    let mut sim = builder(seed, (0, 10)).enable_random_order().build();
    let heard = Rc::new(RefCell::new(Vec::new()));
    let noted = heard.clone();
    sim.host("server", move || {
        let noted = noted.clone();
        async move {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
            loop {
                let (mut stream, from) = listener.accept().await?;
                let noted = noted.clone();
                spawn_local(async move {
                    while let Ok(1..) = read(&mut stream, &mut [0]).await {
                        noted.borrow_mut().push((turmoil::elapsed(), from.ip()));
                    }
                });
            }
        }
    });
    for at in 0..4 {
        sim.client(format!("client{at}"), async {
            let stream = connect().await?;
            for _ in 0..10 {
                stream.try_write(b"x")?;
                sleep(Duration::from_millis(1)).await;
            }
            sleep(Duration::from_millis(50)).await;
            Ok(())
        });
    }
    sim.run().unwrap();
    drop(sim);
    Rc::try_unwrap(heard).unwrap().into_inner()
}

fn step_to(sim: &mut Sim<'_>, at_ms: u64) {
    while sim.elapsed() < Duration::from_millis(at_ms) {
        sim.step().unwrap();
    }
}

const PORT: u16 = 5432;
