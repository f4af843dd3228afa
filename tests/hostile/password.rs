//! Answers to a password request that are none.

use crate::after_attack::{assert_serves, refused};
use crate::packets::{VERSION_3, lying, messages, read_all, startup};
use testing::{Message, PASSWORD, Raw, Run, TENANTS};

use crate::man_in_the_middle::Middle;

/// Logs in up to the request, answers with these bytes, and reads to the end.
fn answer(raw: &mut Raw, user: &str, bytes: &[u8]) {
    let login = [(b"user".as_slice(), user.as_bytes()), (b"database", TENANTS.as_bytes())];
    raw.send(&startup(VERSION_3, &login));
    assert_eq!(raw.read_message().tag, b'R');
    let _ = std::io::Write::write_all(raw, bytes);
}

#[test]
fn another_message_in_place_of_the_password_is_refused_and_not_passed_on() {
    let middle = Middle::listening();
    let daemon = Run::upstream(middle.port()).start();
    for user in ["clear_user.acme", "md5_user.acme", "scram_user.acme"] {
        for bytes in [
            Message::query("select 'smuggled'").to_bytes(),
            crate::packets::extended("select 'smuggled'"),
            Message::new(b'X', b"smuggled".as_slice()).to_bytes(),
            Message::new(b'd', b"smuggled".as_slice()).to_bytes(),
            Message::new(b'R', [0; 4]).to_bytes(),
            Message::new(0, b"smuggled".as_slice()).to_bytes(),
            startup(VERSION_3, &[(b"user", b"smuggled")]),
        ] {
            let mut raw = daemon.raw();
            answer(&mut raw, user, &bytes);
            refused(&mut raw, &["08P01"]);
        }
    }
    daemon.wait_until_idle();
    for heard in middle.said() {
        assert!(!crate::packets::contains(&heard, "smuggled"));
    }
    assert_serves(&daemon);
}

#[test]
fn a_password_of_an_impossible_length_is_refused_before_it_is_there() {
    let middle = Middle::listening();
    for auth in ["auto", "password"] {
        let daemon = Run::upstream(middle.port()).set("auth", auth).start();
        for user in ["clear_user.acme", "md5_user.acme", "scram_user.acme"] {
            for length in [0, 3, 65_540, 1 << 20, i32::MAX as u32, 1 << 31, u32::MAX] {
                let mut raw = daemon.raw();
                answer(&mut raw, user, &lying(b'p', length, b""));
                refused(&mut raw, &["08P01"]);
            }
        }
        assert_serves(&daemon);
    }
    for heard in middle.said() {
        assert!(!heard.ends_with(b"p"));
    }
}

#[test]
fn the_longest_password_is_still_heard_and_is_wrong() {
    let middle = Middle::listening();
    for (auth, user) in [("auto", "clear_user"), ("password", "clear_user"), ("auto", "md5_user")] {
        let daemon = Run::upstream(middle.port()).set("auth", auth).start();
        let mut raw = daemon.raw();
        let body = [vec![b'p'; 65_530], vec![0]].concat();
        answer(&mut raw, &format!("{user}.acme"), &Message::new(b'p', body).to_bytes());
        let said = messages(&read_all(&mut raw));
        assert_eq!(said.len(), 1, "{auth} {user}: {said:?}");
        // PostgreSQL may not take as much: then its own word comes.
        let state = said[0].error_fields().sqlstate;
        assert!(["28P01", "08P01"].contains(&state.as_str()), "{state}");
        drop(raw);
        assert_serves(&daemon);
    }
}

#[test]
fn a_password_that_is_not_one_string_is_refused() {
    let middle = Middle::listening();
    for (auth, user) in [("auto", "md5_user.acme"), ("password", "clear_user.acme")] {
        let daemon = Run::upstream(middle.port()).set("auth", auth).start();
        for body in
            [b"".as_slice(), b"without a nul", b"an inner\0nul\0", b"\0\0", b"two\0\0", b"\0x"]
        {
            let mut raw = daemon.raw();
            answer(&mut raw, user, &Message::new(b'p', body).to_bytes());
            refused(&mut raw, &["08P01"]);
        }
        let mut raw = daemon.raw();
        answer(&mut raw, user, &Message::new(b'p', b"\0".as_slice()).to_bytes());
        refused(&mut raw, &["28P01"]);
        assert_serves(&daemon);
    }
}

#[test]
fn a_password_that_postgresql_itself_refuses_is_refused_in_its_words() {
    let middle = Middle::listening();
    let daemon = Run::upstream(middle.port()).start();
    for body in [b"".as_slice(), b"without a nul", b"an inner\0nul\0", b"\0", b"wrong\0"] {
        let mut raw = daemon.raw();
        answer(&mut raw, "clear_user.acme", &Message::new(b'p', body).to_bytes());
        refused(&mut raw, &["08P01", "28P01"]);
    }
    // A SASLInitialResponse that is none, or of a mechanism that nobody offered.
    for body in [
        b"".as_slice(),
        b"SCRAM-SHA-256",
        b"SCRAM-SHA-256\0",
        b"SCRAM-SHA-256\0\xff\xff\xff\xff",
        b"SCRAM-SHA-256\0\x7f\xff\xff\xff",
        b"SCRAM-SHA-256\0\0\0\0\x04n,,n",
        b"SCRAM-SHA-256-PLUS\0\0\0\0\x04p=x,",
        b"PLAIN\0\0\0\0\x03\0a\0",
        PASSWORD.as_bytes(),
    ] {
        let mut raw = daemon.raw();
        answer(&mut raw, "scram_user.acme", &Message::new(b'p', body).to_bytes());
        raw.shutdown_write();
        let said = messages(&read_all(&mut raw));
        assert!(!said.iter().any(|message| b"ZSK".contains(&message.tag)), "{said:?}");
    }
    assert_serves(&daemon);
}

#[test]
fn a_password_in_pieces_is_the_same_password() {
    let middle = Middle::listening();
    for auth in ["auto", "password"] {
        let daemon = Run::upstream(middle.port()).set("auth", auth).start();
        for user in ["clear_user.acme", "md5_user.acme"] {
            let password = Message::password(PASSWORD).to_bytes();
            for cut in 1..password.len() {
                let mut raw = daemon.raw();
                answer(&mut raw, user, &password[..cut]);
                raw.send(&password[cut..]);
                assert_eq!(raw.read_until(b"ZE").pop().unwrap().tag, b'Z', "{user} cut at {cut}");
            }
        }
        assert_serves(&daemon);
    }
}

#[test]
fn a_client_that_leaves_amid_its_password_leaves_nothing_behind() {
    let middle = Middle::listening();
    for auth in ["auto", "password"] {
        let daemon = Run::upstream(middle.port()).set("auth", auth).start();
        for user in ["clear_user.acme", "md5_user.acme", "scram_user.acme"] {
            let password = Message::password(PASSWORD).to_bytes();
            for cut in [0, 1, 5, password.len() - 1] {
                let mut raw = daemon.raw();
                answer(&mut raw, user, &password[..cut]);
                raw.shutdown_write();
                assert_eq!(read_all(&mut raw), b"");
                let mut raw = daemon.raw();
                answer(&mut raw, user, &password[..cut]);
                crate::man_in_the_middle::reset(&raw);
            }
        }
        assert_serves(&daemon);
    }
}

#[test]
fn a_password_for_md5_is_neither_passed_on_nor_logged() {
    let middle = Middle::listening();
    let daemon = Run::upstream(middle.port()).start();
    let mut raw = daemon.raw();
    answer(&mut raw, "md5_user.acme", &Message::password(PASSWORD).to_bytes());
    assert_eq!(raw.read_until(b"ZE").pop().unwrap().tag, b'Z');
    let heard = middle.said().remove(0);
    assert!(!crate::packets::contains(&heard, PASSWORD), "the password went upstream in clear");
    drop(raw);
    for line in daemon.log() {
        assert!(!line.contains(PASSWORD), "{line}");
    }
    assert_serves(&daemon);
}
