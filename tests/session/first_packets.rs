//! First packets at their limits: lengths, codes and versions that just are good, and that just
//! are not, with what the log is told of them. Knows nothing of user names.

use multigres::session::Stage;

use testing::session::{Cast, Play, at_every_chunk_size, startup};

use crate::contains;

/// A first packet of this code, whatever length it says.
fn packet(length: u32, code: [u8; 4], body: &[u8]) -> Vec<u8> {
    [&length.to_be_bytes()[..], &code, body].concat()
}

/// The same with its right length.
fn whole(code: [u8; 4], body: &[u8]) -> Vec<u8> {
    packet(8 + u32::try_from(body.len()).unwrap(), code, body)
}

const VERSION_3: [u8; 4] = [0, 3, 0, 0];
const CANCEL_REQUEST: [u8; 4] = [4, 210, 22, 46];
const SSL_REQUEST: [u8; 4] = [4, 210, 22, 47];
const GSSENC_REQUEST: [u8; 4] = [4, 210, 22, 48];

/// Refused with a word to the client, or without one; answers with what the log is told.
fn refused(packet: &[u8], is_told: bool) -> String {
    at_every_chunk_size(|cast| {
        let mut play = Play::new(cast);
        play.client(packet);
        assert_eq!(play.stage(), Stage::Refusing, "{}", packet.escape_ascii());
        assert_eq!(!play.take_to_client().is_empty(), is_told, "{}", packet.escape_ascii());
        assert!(!play.connects());
    });
    let mut play = Play::new(Cast::whole());
    play.client(packet);
    play.refusal()
}

#[test]
fn a_length_is_of_8_to_10004_bytes() {
    for length in [0, 3, 4, 7, 10_005, 0x7fff_ffff, u32::MAX] {
        let told = refused(&packet(length, VERSION_3, b"")[..4], false);
        let reason =
            format!("invalid length of startup packet: length of startup packet is {length}");
        assert_eq!(told, format!("fault=client sqlstate=08P01 reason={reason:?}"));
    }
    let told = refused(&packet(8, VERSION_3, b""), true);
    assert!(told.contains("invalid startup packet layout: layout of startup packet"), "{told}");
}

#[test]
fn the_longest_packet_is_passed_on_and_a_longer_one_is_not_read() {
    let padded = |cast: Cast, user: &str, most: usize| {
        let bare = startup(&[("user", user), ("database", "crm"), ("options", "")]).len();
        let padding = "x".repeat(most - bare);
        let mut play = Play::new(cast);
        play.client(&startup(&[("user", user), ("database", "crm"), ("options", &padding)]));
        play
    };
    let mut play = padded(Cast::whole(), "postgres", 10_004);
    assert_eq!(play.take_to_upstream().len(), 10_004);
    padded(Cast::whole(), "postgres", 10_005).expect_silence("08P01");
    // ".acme" is taken away, and what is bound comes to it.
    let bound = "app.current_tenant_id acme role app_user ".len() - ".acme".len();
    let mut play = padded(Cast::whole(), "app_user.acme", 10_004 - bound);
    assert_eq!(play.take_to_upstream().len(), 10_004);
    let mut play = padded(Cast::whole(), "app_user.acme", 10_005 - bound);
    let told = play.expect_refusal("08P01");
    assert!(contains(&told, b"startup packet too long to add the tenant context"));
    assert!(!play.connects());
}

#[test]
fn a_cancel_key_is_of_4_to_256_bytes() {
    for bytes in [0, 1, 7, 4 + 257, 4 + 1000] {
        let told = refused(&whole(CANCEL_REQUEST, &vec![7; bytes]), false);
        let reason = "invalid length of cancel request packet: cancel key of a wrong length";
        assert_eq!(told, format!("fault=client sqlstate=08P01 reason={reason:?}"));
    }
    for bytes in [8, 4 + 256] {
        let mut play = Play::new(Cast::whole());
        play.client(&whole(CANCEL_REQUEST, &vec![7; bytes]));
        assert_eq!(play.stage(), Stage::Cancelling, "{bytes}");
    }
}

#[test]
fn an_encryption_request_has_nothing_behind_its_code() {
    for code in [SSL_REQUEST, GSSENC_REQUEST] {
        let told = refused(&whole(code, b"x"), true);
        let reason = "invalid length of encryption request packet: \
                      encryption request of a wrong length";
        assert_eq!(told, format!("fault=client sqlstate=08P01 reason={reason:?}"));
    }
}

#[test]
fn every_version_but_3_is_refused_and_named() {
    for (code, version) in [
        ([0, 0, 0, 0], "0.0"),
        ([0, 2, 0, 0], "2.0"),
        ([0, 4, 0, 9], "4.9"),
        ([1, 3, 0, 0], "259.0"),
        ([3, 0, 0, 0], "768.0"),
        ([4, 210, 22, 45], "1234.5677"),
        ([4, 210, 22, 49], "1234.5681"),
    ] {
        let told = refused(&whole(code, b"user\0app_user.acme\0\0"), true);
        let reason =
            format!("unsupported frontend protocol: only version 3 is: protocol {version}");
        assert_eq!(told, format!("fault=client sqlstate=0A000 reason={reason:?}"));
    }
    for minor in [[0, 0], [0, 2], [0x27, 0x0f], [0xff, 0xff]] {
        let mut play = Play::new(Cast::whole());
        play.client(&whole([0, 3, minor[0], minor[1]], b"user\0app_user.acme\0\0"));
        assert_eq!(play.take_to_upstream()[4..8], [0, 3, minor[0], minor[1]], "as it was asked");
    }
}

#[test]
fn parameters_end_with_one_nul_and_nothing_behind_it() {
    for body in [
        &b"user\0app_user.acme\0"[..],
        b"user\0app_user.acme",
        b"user\0app_user.acme\0\0\0",
        b"user\0app_user.acme\0\0x",
        b"user\0",
        b"user",
        b"",
    ] {
        let told = refused(&whole(VERSION_3, body), true);
        let reason = "invalid startup packet layout: layout of startup packet";
        assert_eq!(told, format!("fault=client sqlstate=08P01 reason={reason:?}"));
    }
    let told = refused(&whole(VERSION_3, b"user\0a\0b\"\xff\0c\0B\"\xff\0d\0\0"), true);
    let name = r#"parameter "B\"\xff" stands twice"#;
    let reason = format!("duplicate parameter in startup packet: {name}");
    assert_eq!(told, format!("fault=client sqlstate=08P01 reason={reason:?}"));
}
