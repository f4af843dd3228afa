//! First packets that are none, that lie about themselves, or that ask for what is not there.

use crate::after_attack::{Unreached, assert_serves, refusal_of, refused};
use crate::packets::{
    CANCEL_REQUEST, GSSENC_REQUEST, SSL_REQUEST, VERSION_3, messages, packet, read_all, startup,
};
use testing::{Daemon, Message, Raw, Run, TENANTS, cluster};

use crate::man_in_the_middle::Middle;

#[test]
fn a_length_outside_the_limits_is_not_answered_before_the_packet_is_there() {
    let unreached = Unreached::start();
    let why = "length of startup packet";
    for length in [0, 1, 4, 7, 10_005, 1 << 16, i32::MAX as u32, 1 << 31, u32::MAX] {
        unreached.closes(&length.to_be_bytes(), why);
        let behind = [length.to_be_bytes(), VERSION_3.to_be_bytes()].concat();
        unreached.closes(&[behind, b"user\0app_user.acme\0\0".to_vec()].concat(), why);
    }
    unreached.assert_untouched();
}

#[test]
fn a_packet_of_the_greatest_length_is_still_heard() {
    let daemon = Daemon::start();
    let filled = |bytes: usize| {
        let name = vec![b' '; bytes];
        startup(
            VERSION_3,
            &[(b"user", b"app_user.acme"), (b"database", TENANTS.as_bytes()), (b"options", &name)],
        )
    };
    let frame = filled(0).len();
    // What is bound has to fit in beside what the client says.
    refusal_of(&daemon, &filled(10_004 - frame), "08P01");
    let mut raw = daemon.raw();
    raw.send(&filled(10_000 - frame - 200));
    assert_eq!(raw.read_until(b"ZE").last().unwrap().tag, b'Z');
    drop(raw);
    assert_serves(&daemon);
}

#[test]
fn a_code_that_nobody_knows_is_refused() {
    let unreached = Unreached::start();
    let codes = [0, 1, 3, SSL_REQUEST - 2, GSSENC_REQUEST + 1, 1234 << 16, 0x3000_0000, u32::MAX];
    for code in codes {
        unreached.refuses(&packet(code, b""), "0A000");
        unreached.refuses(&packet(code, b"user\0app_user.acme\0\0"), "0A000");
    }
    unreached.assert_untouched();
}

#[test]
fn another_major_version_is_refused() {
    let unreached = Unreached::start();
    for version in [2 << 16, (2 << 16) | 9999, 4 << 16, (4 << 16) | 1, 0xffff << 16] {
        unreached.refuses(&startup(version, &[(b"user", b"app_user.acme")]), "0A000");
    }
    unreached.assert_untouched();
}

#[test]
fn a_minor_version_goes_upstream_as_it_is_and_is_negotiated_at_most_once() {
    let middle = Middle::listening();
    let daemon = Run::upstream(middle.port()).start();
    for (at, minor) in [0, 1, 2, 9999].into_iter().enumerate() {
        let parameters: [(&[u8], &[u8]); 3] = [
            (b"user", b"app_user.acme"),
            (b"database", TENANTS.as_bytes()),
            (b"_pq_.never_heard_of", b"on"),
        ];
        let mut raw = daemon.raw();
        raw.send(&startup(VERSION_3 | minor, &parameters));
        let greeting = raw.read_until(b"ZE");
        assert_eq!(greeting.last().unwrap().tag, b'Z', "3.{minor}: {greeting:?}");
        let negotiated = greeting.iter().filter(|message| message.tag == b'v').count();
        assert_eq!(negotiated, 1, "3.{minor}");
        assert_eq!(greeting[0].tag, b'v', "3.{minor}");
        assert_eq!(raw.query_value("select current_setting('app.current_tenant_id')"), "acme");
        assert_eq!(middle.said()[at][4..8], (VERSION_3 | minor).to_be_bytes());
    }
    assert_serves(&daemon);
}

#[test]
fn a_packet_that_does_not_end_at_its_last_nul_is_refused() {
    let unreached = Unreached::start();
    for body in [
        b"".as_slice(),
        b"u",
        b"user",
        b"user\0",
        b"user\0app_user.acme",
        b"user\0app_user.acme\0",
        b"user\0app_user.acme\0database\0",
        b"user\0app_user.acme\0database\0\0",
        b"user\0app_user.acme\0\0\0",
        b"user\0app_user.acme\0\0role\0postgres\0\0",
        b"user\0app_user.acme\0\0user\0app_user.globex\0\0",
        b"\0user\0app_user.acme\0\0",
        b"\0\0",
    ] {
        unreached.refuses(&packet(VERSION_3, body), "08P01");
    }
    unreached.assert_untouched();
}

#[test]
fn a_packet_without_a_user_is_refused() {
    let unreached = Unreached::start();
    unreached.refuses(&startup(VERSION_3, &[]), "28000");
    unreached.refuses(&startup(VERSION_3, &[(b"user", b"")]), "28000");
    unreached.refuses(&startup(VERSION_3, &[(b"USER", b"app_user.acme")]), "28000");
    unreached.refuses(&startup(VERSION_3, &[(b"database", b"app_user.acme")]), "28000");
    unreached.assert_untouched();
}

#[test]
fn encryption_is_declined_once_each_in_either_order_and_the_login_goes_on() {
    let daemon = Daemon::start();
    let (ssl, gss) = (packet(SSL_REQUEST, b""), packet(GSSENC_REQUEST, b""));
    for requests in [vec![&ssl], vec![&gss], vec![&ssl, &gss], vec![&gss, &ssl]] {
        let mut raw = daemon.raw();
        for request in &requests {
            raw.send(request);
            let mut answer = [0];
            std::io::Read::read_exact(&mut raw, &mut answer).unwrap();
            assert_eq!(answer, *b"N");
        }
        raw.login("app_user.acme", TENANTS);
        assert_eq!(raw.query_value("select current_setting('app.current_tenant_id')"), "acme");
    }
    assert_serves(&daemon);
}

#[test]
fn an_encryption_request_that_comes_twice_is_refused() {
    let unreached = Unreached::start();
    let (ssl, gss) = (packet(SSL_REQUEST, b""), packet(GSSENC_REQUEST, b""));
    for requests in [
        [&ssl, &ssl].as_slice(),
        &[&gss, &gss],
        &[&ssl, &gss, &ssl],
        &[&gss, &ssl, &gss],
        &[&ssl, &gss, &gss],
    ] {
        let mut raw = unreached.daemon.raw();
        for request in requests {
            raw.send(request);
        }
        let answer = read_all(&mut raw);
        let declined = answer.iter().take_while(|byte| **byte == b'N').count();
        assert_eq!(declined, requests.len() - 1, "{answer:?}");
        let said = messages(&answer[declined..]);
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(said[0].error_fields().sqlstate, "08P01");
    }
    unreached.assert_untouched();
}

#[test]
fn an_encryption_request_of_another_length_is_refused() {
    let unreached = Unreached::start();
    for code in [SSL_REQUEST, GSSENC_REQUEST] {
        unreached.refuses(&packet(code, b"\0"), "08P01");
        unreached.refuses(&packet(code, b"user\0app_user.acme\0\0"), "08P01");
    }
    unreached.assert_untouched();
}

#[test]
fn bytes_behind_an_encryption_request_are_what_comes_next_and_nothing_else() {
    let daemon = Daemon::start();
    let login =
        startup(VERSION_3, &[(b"user", b"app_user.acme"), (b"database", TENANTS.as_bytes())]);
    let query = Message::query("select current_setting('app.current_tenant_id')").to_bytes();
    let (ssl, gss) = (packet(SSL_REQUEST, b""), packet(GSSENC_REQUEST, b""));
    let mut raw = daemon.raw();
    raw.send(&[ssl.clone(), gss, login, query].concat());
    raw.shutdown_write();
    let answer = read_all(&mut raw);
    assert_eq!(answer[..2], *b"NN");
    let said = messages(&answer[2..]);
    assert_eq!(said.iter().filter(|message| message.tag == b'Z').count(), 2);
    let row = said.iter().find(|message| message.tag == b'D').expect("a row");
    assert_eq!(row.values(), [Some(b"acme".to_vec())]);
    // What a man in the middle might put there for a client that believes to be encrypted.
    let mut raw = daemon.raw();
    raw.send(&[ssl, Message::query("select 1").to_bytes()].concat());
    let answer = read_all(&mut raw);
    assert_eq!(answer, b"N");
    drop(raw);
    assert_serves(&daemon);
}

#[test]
fn another_protocol_is_not_answered() {
    let unreached = Unreached::start();
    for bytes in [
        // A TLS ClientHello: record, handshake, version, the first bytes of the random.
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x5f\x5a".as_slice(),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"Q\0\0\0\x0dselect 1\0",
        b"p\0\0\0\x0bsecret\0",
    ] {
        unreached.closes(bytes, "length of startup packet");
    }
    unreached.assert_untouched();
}

/// node-postgres sends it, and nothing else, when it is ended before it is connected.
#[test]
fn a_terminate_in_place_of_a_startup_message_is_not_answered() {
    let unreached = Unreached::start();
    unreached.closes(b"X\0\0\0\x04", "length of startup packet");
    unreached.assert_untouched();
}

/// Each of these to PostgreSQL and to Multigres, and what both say first.
#[test]
fn what_postgresql_answers_before_a_startup_message_is_answered_alike() {
    let daemon = Daemon::start();
    let long = startup(VERSION_3, &[(b"user", b"x"), (b"options", &[b' '; 10_000])]);
    let bytes = [
        b"X\0\0\0\x04".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"\0\0\0\x07abc".to_vec(),
        long,
        packet(CANCEL_REQUEST, &[0, 0, 0, 1]),
        packet(CANCEL_REQUEST, &[0, 0, 0, 1, 0, 0, 0]),
        packet(CANCEL_REQUEST, &[1; 400]),
        packet(4 << 16, b"user\0x\0\0"),
        packet((1234 << 16) | 5681, b""),
        packet(VERSION_3, b""),
        packet(VERSION_3, b"user\0x\0"),
        packet(VERSION_3, b"user\0x\0\0y"),
        packet(VERSION_3, b"database\0x\0\0"),
        packet(VERSION_3, b"user\0\0\0"),
    ];
    for bytes in bytes {
        let said = |mut raw: Raw| {
            raw.send(&bytes);
            let said = messages(&read_all(&mut raw));
            said.first().map(|message| message.error_fields().sqlstate)
        };
        let direct = said(Raw::tcp(([127, 0, 0, 1], cluster().port()).into()));
        assert_eq!(said(daemon.raw()), direct, "to {bytes:?}");
    }
    assert_serves(&daemon);
}

#[test]
fn a_client_that_leaves_amid_its_first_packet_is_not_told_anything() {
    let unreached = Unreached::start();
    let login = startup(VERSION_3, &[(b"user", b"app_user.acme")]);
    let cancel = packet(CANCEL_REQUEST, &[0; 8]);
    for bytes in [login, cancel] {
        for end in 0..bytes.len() {
            let mut raw = unreached.daemon.raw();
            raw.send(&bytes[..end]);
            raw.shutdown_write();
            assert_eq!(read_all(&mut raw), b"", "after {end} bytes");
        }
    }
    unreached.assert_untouched();
}

#[test]
fn a_refused_client_that_goes_on_talking_is_still_told_why() {
    let unreached = Unreached::start();
    let noise = vec![b'x'; 3 << 20];
    for _ in 0..10 {
        let mut raw = unreached.daemon.raw();
        raw.send(&packet(VERSION_3, b"user\0app_user\0\0"));
        let mut writer = raw.try_clone().unwrap();
        let noise = &noise;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // A reset would show here first.
                writer.send(noise);
                writer.shutdown_write();
            });
            refused(&mut raw, &["28000"]);
        });
    }
    unreached.assert_untouched();
}
