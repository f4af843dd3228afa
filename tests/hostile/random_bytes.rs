//! Random and mutated bytes from both sides, and clients that break off at every point.
//! Seeded: a failure names the seed and comes again.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::after_attack::assert_serves;
use crate::packets::{VERSION_3, contains, read_all, startup};
use testing::{Daemon, FakeUpstream, Message, PASSWORD, Run, TENANTS, cluster, swallow};

use crate::man_in_the_middle::{Change, Middle, attack, reset};

/// xorshift64*, by which the same seed says the same again.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }

    fn byte(&mut self) -> u8 {
        // Small numbers and ends of ranges make more of a length than others do.
        match self.below(4) {
            0 => [0, 1, 3, 4, 8, 0x7f, 0x80, 0xff][self.below(8)],
            _ => self.below(256) as u8,
        }
    }

    /// Changes, cuts out, doubles or adds a few bytes.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len().max(1)).min(bytes.len());
            let end = (at + 1 + self.below(8)).min(bytes.len());
            match self.below(4) {
                0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = self.byte()),
                1 => drop(bytes.drain(at..end)),
                2 => bytes.extend_from_within(at..end),
                _ => bytes.insert(at, self.byte()),
            }
        }
    }
}

/// Many, for most of them wait.
const THREADS: usize = 16;

/// Plays rounds on a few threads at once.
fn rounds(count: u64, play: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= count {
                        return;
                    }
                    play(seed);
                }
            });
        }
    });
}

fn login(user: &str) -> Vec<u8> {
    startup(VERSION_3, &[(b"user", user.as_bytes()), (b"database", TENANTS.as_bytes())])
}

#[test]
fn mutated_logins_get_the_own_rows_or_none() {
    let daemon = Run::on(cluster()).set("login_timeout", "3s").start();
    rounds(800, |seed| {
        let mut random = Random::new(seed);
        let user = ["app_user.acme", "clear_user.acme", "md5_user.acme"][random.below(3)];
        let mut bytes = login(user);
        if !user.starts_with("app") {
            bytes.extend(Message::password(PASSWORD).to_bytes());
        }
        let rest = Message::query("select name from contacts").to_bytes();
        let sure = random.below(2) == 0;
        if sure {
            random.mutate(&mut bytes);
        }
        bytes.extend(rest);
        if !sure {
            random.mutate(&mut bytes);
        }
        let mut raw = daemon.raw();
        let _ = raw.write_all(&bytes);
        raw.shutdown_write();
        let said = read_all(&mut raw);
        for name in ["Grace", "Guido", "Gerald"] {
            assert!(!contains(&said, name), "seed {seed}: {name}");
        }
    });
    assert_serves(&daemon);
}

#[test]
fn random_first_bytes_are_answered_or_waited_for_and_never_passed_on() {
    let fake = FakeUpstream::serve(|mut raw| swallow(&mut raw));
    let daemon = Run::upstream(fake.port()).set("login_timeout", "3s").start();
    rounds(1500, |seed| {
        let mut random = Random::new(seed);
        let mut bytes: Vec<u8> = (0..random.below(64)).map(|_| random.byte()).collect();
        if random.below(2) == 0 {
            // A length that fits and a known code get further.
            let codes = [VERSION_3, VERSION_3 | 2, 1234 << 16 | 5679, 1234 << 16 | 5680];
            bytes = crate::packets::packet(codes[random.below(4)], &bytes);
        }
        let mut raw = daemon.raw();
        let _ = raw.write_all(&bytes);
        raw.shutdown_write();
        let said = read_all(&mut raw);
        let declined = said.iter().take_while(|byte| **byte == b'N').count();
        assert!(declined <= 2, "seed {seed}");
        for message in crate::packets::messages(&said[declined..]) {
            assert_eq!(message.error_fields().severity, "FATAL", "seed {seed}");
        }
    });
    daemon.wait_until_idle();
    assert_eq!(fake.accepted(), 0);
}

#[test]
fn a_mutated_upstream_lets_nobody_in_as_somebody_else() {
    let middle = Middle::start(|place, message| {
        let mut random = Random::new((place.attack * 64 + place.index) as u64);
        if place.readies > 1 || random.below(20) > 0 {
            return Change::Pass;
        }
        let mut bytes = message.to_bytes();
        random.mutate(&mut bytes);
        match random.below(6) {
            0 => Change::Close(bytes),
            1 => Change::Reset(bytes),
            _ => Change::Say(bytes),
        }
    });
    let daemon = Run::upstream(middle.port()).set("login_timeout", "1500ms").start();
    let through = AtomicU64::new(0);
    rounds(300, |seed| {
        let mut raw = daemon.raw();
        let login = startup(
            VERSION_3,
            &[
                (b"user", b"app_user.acme"),
                (b"database", TENANTS.as_bytes()),
                (b"application_name", attack(seed as usize).as_bytes()),
            ],
        );
        let query = Message::query("select name from contacts").to_bytes();
        let _ = raw.write_all(&[login, query].concat());
        raw.shutdown_write();
        let said = read_all(&mut raw);
        assert!(!contains(&said, "Grace"), "seed {seed}");
        through.fetch_add(u64::from(contains(&said, "Alan")), Ordering::SeqCst);
    });
    let through = through.into_inner();
    assert!(through > 50, "only {through} were left in peace");
    assert_serves(&daemon);
}

#[test]
fn a_client_that_breaks_off_after_any_byte_leaves_nothing_behind() {
    let daemon = Daemon::start();
    let files = daemon.open_files();
    let conversation = [
        login("clear_user.acme"),
        Message::password(PASSWORD).to_bytes(),
        Message::query("select repeat('x', 100000)").to_bytes(),
    ]
    .concat();
    rounds(2 * conversation.len() as u64, |seed| {
        let mut raw = daemon.raw();
        let _ = raw.write_all(&conversation[..seed as usize / 2]);
        if seed % 2 == 0 {
            reset(&raw);
        }
    });
    assert_serves(&daemon);
    assert_eq!(daemon.open_files(), files);
}

#[test]
fn a_storm_of_logins_that_break_off_does_not_cross_those_that_stay() {
    let daemon = Daemon::start();
    rounds(300, |seed| {
        let mut random = Random::new(seed);
        let tenant = ["acme", "globex"][random.below(2)];
        let (own, other) = if tenant == "acme" { ("Ada", "Grace") } else { ("Grace", "Ada") };
        let mut raw = daemon.raw();
        let query = Message::query("select name from contacts").to_bytes();
        raw.send(&[login(&format!("app_user.{tenant}")), query].concat());
        if random.below(2) == 0 {
            if random.below(2) == 0 {
                reset(&raw);
            }
            return;
        }
        raw.shutdown_write();
        let said = read_all(&mut raw);
        assert!(contains(&said, own) && !contains(&said, other), "seed {seed}");
    });
    assert_serves(&daemon);
}

#[test]
fn a_storm_leaves_the_count_of_sessions_exact() {
    const MAX: usize = 8;
    let middle = Middle::start(|place, message| match place.attack % 5 {
        0 => Change::Close(message.to_bytes()),
        1 => Change::Reset(message.to_bytes()),
        _ => Change::Pass,
    });
    let run = Run::upstream(middle.port()).set("login_timeout", "3s");
    let daemon = run.set("max_connections", &MAX.to_string()).start();
    rounds(250, |seed| {
        let mut random = Random::new(seed);
        let user = ["app_user.acme", "clear_user.acme", "nobody.acme", "app_user"][random.below(4)];
        let bytes = startup(
            VERSION_3,
            &[
                (b"user", user.as_bytes()),
                (b"database", TENANTS.as_bytes()),
                (b"application_name", attack(seed as usize).as_bytes()),
            ],
        );
        let mut raw = daemon.raw();
        let (whole, cut) = (bytes.as_slice(), &bytes[..random.below(bytes.len())]);
        let way = random.below(4);
        let _ = raw.write_all(if way < 2 { whole } else { cut });
        match way {
            0 => drop(raw.try_read_message()),
            1 | 2 => reset(&raw),
            _ => raw.shutdown_write(),
        }
    });
    daemon.wait_until_idle();
    let mut inside: Vec<_> = (0..MAX).map(|_| daemon.raw()).collect();
    for raw in &mut inside {
        raw.login("app_user.acme", TENANTS);
    }
    let mut raw = daemon.raw();
    raw.send(&login("app_user.acme"));
    crate::after_attack::refused(&mut raw, &["53300"]);
    drop((inside, raw));
    daemon.wait_until_idle();
    assert_serves(&daemon);
}
