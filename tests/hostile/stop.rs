//! Stopping with clients in every stage: none of them can hold the daemon up or be left in doubt.

use crate::packets::{CANCEL_REQUEST, VERSION_3, messages, packet, read_all, startup};
use testing::{Daemon, Message, Raw, Run, Signal, TENANTS};

use crate::man_in_the_middle::{Change, Middle, attack};

/// One client in every stage of a login, the first of them silent; and one that is in.
fn clients_in_every_stage(daemon: &Daemon) -> (Vec<Raw>, Raw) {
    let login = |user: &[u8], application: &str| {
        let mut raw = daemon.raw();
        raw.send(&startup(
            VERSION_3,
            &[
                (b"user", user),
                (b"database", TENANTS.as_bytes()),
                (b"application_name", application.as_bytes()),
            ],
        ));
        raw
    };
    let silent = daemon.raw();
    let mut half = daemon.raw();
    half.send(b"\0\0\0\x20\0\x03");
    let mut asked = login(b"clear_user.acme", "");
    assert_eq!(asked.read_message().tag, b'R');
    let waiting = login(b"app_user.acme", &attack(0));
    let injecting = login(b"app_user.acme", &attack(1));
    let mut inside = login(b"app_user.acme", "");
    inside.read_until(b"Z");
    daemon.wait_for_status(|status| status.connections == 6 && status.piping == 1);
    (vec![silent, half, asked, waiting, injecting], inside)
}

fn stalling() -> Middle {
    Middle::start(|place, _| {
        let stalls = place.readies == place.attack;
        if stalls { Change::Hush(vec![]) } else { Change::Pass }
    })
}

#[test]
fn a_drain_refuses_whoever_is_not_in_and_leaves_alone_whoever_is() {
    let middle = stalling();
    let mut daemon = Run::upstream(middle.port()).start();
    let (mut outside, mut inside) = clients_in_every_stage(&daemon);
    daemon.signal(Signal::TERM);
    for (at, raw) in outside.iter_mut().enumerate() {
        let said = messages(&read_all(raw));
        assert_eq!(said.len(), 1, "client {at}: {said:?}");
        assert_eq!(said[0].error_fields().sqlstate, "57P03", "client {at}");
    }
    assert_eq!(inside.query_value("select current_setting('app.current_tenant_id')"), "acme");
    // The refused ones still hold their sockets open, and do not hold the daemon up.
    inside.send_message(&Message::new(b'X', []));
    assert_eq!(read_all(&mut inside), b"");
    drop(inside);
    assert!(daemon.wait_for_exit().success());
    drop(outside);
}

#[test]
fn a_stop_ends_at_once_whatever_the_clients_do() {
    let middle = stalling();
    for signals in [[Signal::INT].as_slice(), &[Signal::TERM, Signal::TERM], &[Signal::QUIT]] {
        let mut daemon = Run::upstream(middle.port()).start();
        let (outside, mut inside) = clients_in_every_stage(&daemon);
        inside.send_message(&Message::query(
            "select repeat('x', 1000) from generate_series(1, 1000000)",
        ));
        let mut cancelling = daemon.raw();
        cancelling.send(&packet(CANCEL_REQUEST, &[7; 8]));
        for signal in signals {
            daemon.signal(*signal);
            if signals.len() > 1 {
                // Two of a kind that nobody has looked at yet are one.
                daemon.wait_for_log("draining");
            }
        }
        assert!(daemon.wait_for_exit().success(), "{signals:?}");
        drop((outside, inside));
    }
}
