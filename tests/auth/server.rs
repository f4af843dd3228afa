//! The server's side of SCRAM: by the RFC's example, against our own client, and against clients
//! that lie.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use multigres::auth::scram::{
    Binding, Challenged, Channel, Client, Failure, MESSAGE_BYTES_MAX, Secret, Server,
};
use proptest::prelude::*;

/// RFC 7677, section 3.
const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
    s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
    p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

/// The secret of the RFC's password, `pencil`.
const STORED: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
    WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

const HASH: [u8; 32] = [7; 32];

fn secret() -> Secret {
    Secret::parse(STORED).unwrap()
}

fn server(channel: Channel) -> Server {
    Server::new(secret(), channel, SERVER_NONCE.into())
}

fn challenged() -> Challenged {
    server(Channel::Unoffered).challenge(CLIENT_FIRST.as_bytes()).unwrap().1
}

/// The end of an exchange with these messages of the client's.
fn outcome(first: &[u8], last: &[u8]) -> Result<String, Failure> {
    server(Channel::Unoffered).challenge(first)?.1.verify(last)
}

#[test]
fn the_example_of_the_rfc_is_verified_and_answered() {
    let (first, challenged) =
        server(Channel::Unoffered).challenge(CLIENT_FIRST.as_bytes()).unwrap();
    assert_eq!(first, SERVER_FIRST);
    assert_eq!(challenged.verify(CLIENT_FINAL.as_bytes()).as_deref(), Ok(SERVER_FINAL));
    let of_password = Secret::of_password(b"pencil", &STANDARD.decode(SALT).unwrap(), 4096);
    assert_eq!(*of_password.to_text(), STORED);
}

#[test]
fn no_bit_of_an_exchange_can_be_changed() {
    for (first, last) in [(CLIENT_FIRST, ""), ("", CLIENT_FINAL)] {
        for at in 0..first.len().max(last.len()) {
            for bit in 0..8 {
                let flip = |text: &str, other: &str| {
                    let mut bytes = if text.is_empty() { other } else { text }.as_bytes().to_vec();
                    if !text.is_empty() {
                        bytes[at] ^= 1 << bit;
                    }
                    bytes
                };
                let (first, last) = (flip(first, CLIENT_FIRST), flip(last, CLIENT_FINAL));
                let (shown_first, shown_last) = (first.escape_ascii(), last.escape_ascii());
                assert!(outcome(&first, &last).is_err(), "{shown_first} {shown_last}");
            }
        }
    }
}

#[test]
fn no_message_can_be_shorter_or_longer() {
    let (first, last) = (CLIENT_FIRST.as_bytes(), CLIENT_FINAL.as_bytes());
    for end in 0..first.len() {
        assert!(outcome(&first[..end], last).is_err(), "{end}");
    }
    for end in 0..last.len() {
        let failure = outcome(first, &last[..end]).unwrap_err();
        assert!(matches!(failure, Failure::Protocol(_)), "{end}: {failure:?}");
    }
    for more in [" ", "\n", "\0", ",", "=", "A", ",x", ",x=1", ",m=1", ",p="] {
        assert!(outcome(&[first, more.as_bytes()].concat(), last).is_err(), "{more:?}");
        assert!(outcome(first, &[last, more.as_bytes()].concat()).is_err(), "{more:?}");
    }
}

#[test]
fn the_attributes_are_those_of_the_rfc_in_their_order() {
    let nonce = "r=rOprNGfwEbeRWgbNEkqO";
    let firsts = [
        ("", "attributes"),
        ("n", "attributes"),
        ("n,", "attributes"),
        ("n,,", "attributes"),
        ("n,n=,r=x", "attributes"),
        ("x,,n=,r=x", "attributes"),
        ("N,,n=,r=x", "attributes"),
        (",,n=,r=x", "attributes"),
        ("n,,r=x,n=", "attributes"),
        ("n,,n=,n=,r=x", "attributes"),
        ("n,,n=,r=x,r=y", "attributes"),
        ("n,,n=,r=x,x=optional", "attributes"),
        ("n,,n=,r=", "nonce"),
        ("n,,n=,r=a b", "nonce"),
        ("n,,n=,r=a\tb", "nonce"),
        ("n,,n=,r=\u{e4}", "nonce"),
        ("n,a=admin,n=,r=x", "authorization identity"),
        ("n,,m=1,n=,r=x", "extension"),
        ("p=tls-server-end-point,,n=,r=x", "has not chosen SCRAM-SHA-256-PLUS"),
    ];
    for (first, part) in firsts {
        let failure = server(Channel::Unoffered).challenge(first.as_bytes()).err();
        let Some(Failure::Protocol(told)) = failure else { panic!("{first}: {failure:?}") };
        assert!(told.contains(part), "{first}: {told}");
    }
    let proof = "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let all = format!("{nonce}{SERVER_NONCE}");
    let lasts = [
        (format!("{all},c=biws,{proof}"), "attributes"),
        (format!("c=biws,{all}"), "attributes"),
        (format!("c=biws,c=biws,{all},{proof}"), "attributes"),
        (format!("c=biws,{all},{all},{proof}"), "attributes"),
        (format!("c=biws,{all},{proof},{proof}"), "attributes"),
        (format!("c=biws,{all},x=1,{proof}"), "attributes"),
        (format!("m=1,c=biws,{all},{proof}"), "extension"),
        (format!("c=biws,{nonce},{proof}"), "nonce"),
        (format!("c=biws,r=,{proof}"), "nonce"),
        (format!("c=biws,r={SERVER_NONCE},{proof}"), "nonce"),
        (format!("c=biws,{all}x,{proof}"), "nonce"),
        (format!("c=biws,{all},p="), "proof"),
        (format!("c=biws,{all},p=!"), "proof"),
        (format!("c=biws,{all},p=AAAA"), "proof"),
        (format!("c=biws,{all},p={}", STANDARD.encode([0; 33])), "proof"),
        (format!("c=biws,{all},{}", proof.trim_end_matches('=')), "proof"),
    ];
    for (last, part) in lasts {
        let failure = challenged().verify(last.as_bytes());
        let Err(Failure::Protocol(told)) = failure else { panic!("{last}: {failure:?}") };
        assert!(told.contains(part), "{last}: {told}");
    }
    for message in [b"n,,n=,r=\xff".as_slice(), b"\xc3"] {
        assert!(matches!(outcome(message, b""), Err(Failure::Protocol(_))));
    }
    assert!(matches!(challenged().verify(b"c=biws\xff"), Err(Failure::Protocol(_))));
}

proptest! {
    #[test]
    fn any_other_message_is_refused(message in "[nyp=,]{0,3}([a-z]=[ -~]{0,20},?){0,5}") {
        prop_assume!(message != CLIENT_FIRST && message != CLIENT_FINAL);
        prop_assert!(outcome(message.as_bytes(), CLIENT_FINAL.as_bytes()).is_err());
        prop_assert!(outcome(CLIENT_FIRST.as_bytes(), message.as_bytes()).is_err());
    }

    #[test]
    fn any_bytes_are_refused(message in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(outcome(&message, CLIENT_FINAL.as_bytes()).is_err());
        prop_assert!(outcome(CLIENT_FIRST.as_bytes(), &message).is_err());
    }
}

#[test]
fn a_message_has_at_most_1024_bytes() {
    let room = MESSAGE_BYTES_MAX - "n,,n=,r=".len();
    for (bytes, is_taken) in [(room, true), (room + 1, false)] {
        let first = format!("n,,n=,r={}", "x".repeat(bytes));
        assert_eq!(first.len() <= 1024, is_taken);
        let challenge = server(Channel::Unoffered).challenge(first.as_bytes());
        assert_eq!(challenge.is_ok(), is_taken, "{bytes}");
    }
    let last = format!("{CLIENT_FINAL}{}", "=".repeat(2000));
    let told = challenged().verify(last.as_bytes()).unwrap_err();
    assert_eq!(told, Failure::Protocol("a SCRAM message is longer than 1024 bytes"));
}

#[test]
fn a_wrong_password_and_a_login_that_does_not_exist_fail_alike() {
    let mock = |login: &str| Secret::mock(b"key of this installation", login.as_bytes(), 4096);
    let exchange = |secret: Secret, password: &[u8]| {
        let mut client = Client::new(password, Binding::Unsupported, "client-nonce".into());
        let server = Server::new(secret, Channel::Unoffered, "server-nonce".into());
        let (first, challenged) = server.challenge(client.first().as_bytes()).unwrap();
        let last = client.prove(first.as_bytes()).unwrap();
        (first, challenged.verify(last.as_bytes()))
    };
    let (wrong, failure) = exchange(secret(), b"pencil ");
    assert_eq!(failure, Err(Failure::Proof));
    let (absent, failure) = exchange(mock("app_user.acme"), b"pencil");
    assert_eq!(failure, Err(Failure::Proof));
    // The salt alone differs, and its length does not.
    let salt = |first: &str| first.split(',').nth(1).unwrap().to_owned();
    assert_eq!(wrong.replace(&salt(&wrong), ""), absent.replace(&salt(&absent), ""));
    assert_eq!(salt(&wrong).len(), salt(&absent).len());
    // It stays the same for a login, and is another one for each login and each key.
    assert_eq!(exchange(mock("app_user.acme"), b"x").0, absent);
    assert_ne!(exchange(mock("app_user.globex"), b"x").0, absent);
    let other = Secret::mock(b"another key", b"app_user.acme", 4096);
    assert_ne!(exchange(other, b"x").0, absent);
}

#[test]
fn our_client_and_our_server_believe_each_other() {
    let passwords = ["pencil", "", "m\u{fc}nchen", "mu\u{308}nchen", "\u{ad}", "a,b=c"];
    let channels = [
        (Binding::Unsupported, Channel::Unoffered),
        (Binding::Unsupported, Channel::Unbound),
        (Binding::Unoffered, Channel::Unoffered),
        (Binding::EndPoint(HASH.to_vec()), Channel::EndPoint(HASH.to_vec())),
    ];
    for password in passwords {
        for (binding, channel) in &channels {
            let secret = Secret::of_password(password.as_bytes(), b"salt", 3);
            let mut client = Client::new(password.as_bytes(), binding.clone(), "c".into());
            let server = Server::new(secret, channel.clone(), "s".into());
            let (first, challenged) = server.challenge(client.first().as_bytes()).unwrap();
            let last = client.prove(first.as_bytes()).unwrap();
            let proof = challenged.verify(last.as_bytes()).unwrap();
            assert_eq!(client.verify(proof.as_bytes()), Ok(()), "{password} {channel:?}");
        }
    }
}

#[test]
fn a_channel_that_ends_elsewhere_is_refused() {
    let end_point = |byte| vec![byte; 32];
    let none = "n,,n=,r=x";
    let unaware = "y,,n=,r=x";
    let bound = "p=tls-server-end-point,,n=,r=x";
    let refused =
        |channel: &Channel, first: &str| server(channel.clone()).challenge(first.as_bytes()).err();
    let ours = Channel::EndPoint(end_point(1));
    // Somebody has taken -PLUS out of the offer.
    let told = refused(&Channel::Unbound, unaware);
    assert!(matches!(told, Some(Failure::Binding(_))), "{told:?}");
    for (channel, first) in [
        (&Channel::Unbound, bound),
        (&Channel::Unoffered, bound),
        (&ours, none),
        (&ours, unaware),
        (&ours, "p=tls-unique,,n=,r=x"),
        (&ours, "p=,,n=,r=x"),
        (&ours, "p,,n=,r=x"),
    ] {
        let told = refused(channel, first);
        assert!(matches!(told, Some(Failure::Protocol(_))), "{channel:?} {first}: {told:?}");
    }
    for (channel, first) in [
        (&Channel::Unoffered, none),
        (&Channel::Unoffered, unaware),
        (&Channel::Unbound, none),
        (&ours, bound),
    ] {
        assert_eq!(refused(channel, first), None, "{channel:?} {first}");
    }
    // A client that sees the certificate of somebody in between, and one that changes its flag.
    let input = |header: &str, hash: &[u8]| STANDARD.encode([header.as_bytes(), hash].concat());
    let header = "p=tls-server-end-point,,";
    for binding in [
        input(header, &end_point(2)),
        input(header, b""),
        input(header, &end_point(1)[..31]),
        input("n,,", b""),
        input("y,,", b""),
        input("n,,", &end_point(1)),
        String::new(),
    ] {
        let (_, challenged) = server(ours.clone()).challenge(bound.as_bytes()).unwrap();
        let proof = STANDARD.encode([0; 32]);
        let last = format!("c={binding},r=x{SERVER_NONCE},p={proof}");
        let told = challenged.verify(last.as_bytes());
        assert!(matches!(told, Err(Failure::Binding(_))), "{binding}: {told:?}");
    }
}

#[test]
fn a_secret_is_read_in_postgresqls_form_alone() {
    let (head, keys) = STORED.rsplit_once('$').unwrap();
    let (stored, server) = keys.split_once(':').unwrap();
    let with = |head: &str| format!("{head}${keys}");
    let bad = [
        (String::new(), "does not begin"),
        ("pencil".into(), "does not begin"),
        ("scram-sha-256$1:AAAA$A:B".into(), "does not begin"),
        (format!(" {STORED}"), "does not begin"),
        (format!("md5{}", "0".repeat(32)), "MD5"),
        (head.into(), "no second $"),
        (with("SCRAM-SHA-256$4096"), "no salt"),
        (format!("{head}${stored}"), "no ServerKey"),
        (with(&format!("SCRAM-SHA-256$:{SALT}")), "iterations"),
        (with(&format!("SCRAM-SHA-256$0:{SALT}")), "iterations"),
        (with(&format!("SCRAM-SHA-256$-1:{SALT}")), "iterations"),
        (with(&format!("SCRAM-SHA-256$+4096:{SALT}")), "iterations"),
        (with(&format!("SCRAM-SHA-256$04096:{SALT}")), "iterations"),
        (with(&format!("SCRAM-SHA-256$4096 :{SALT}")), "iterations"),
        (with(&format!("SCRAM-SHA-256$2147483648:{SALT}")), "iterations"),
        (with(&format!("SCRAM-SHA-256$99999999999:{SALT}")), "iterations"),
        (with("SCRAM-SHA-256$4096:"), "salt is empty"),
        (with("SCRAM-SHA-256$4096:!"), "salt is not base64"),
        (with("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ"), "salt is not base64"),
        (with(&format!("SCRAM-SHA-256$4096:{}", STANDARD.encode([1; 257]))), "longer than 256"),
        (format!("{head}$:{server}"), "StoredKey"),
        (format!("{head}$AAAA:{server}"), "StoredKey"),
        (format!("{head}${}:{server}", STANDARD.encode([1; 33])), "StoredKey"),
        (format!("{head}${stored}:"), "ServerKey"),
        (format!("{head}${stored}:AAAA"), "ServerKey"),
        (format!("{STORED}\n"), "ServerKey"),
        (format!("{STORED}:"), "ServerKey"),
        (format!("{STORED}$"), "ServerKey"),
    ];
    for (text, part) in bad {
        let told = Secret::parse(&text).expect_err(&text);
        assert!(told.contains(part), "{text}: {told}");
    }
    for good in [
        STORED.to_owned(),
        with(&format!("SCRAM-SHA-256$1:{SALT}")),
        with(&format!("SCRAM-SHA-256$2147483647:{SALT}")),
        with(&format!("SCRAM-SHA-256$4096:{}", STANDARD.encode([1; 256]))),
    ] {
        let secret = Secret::parse(&good).unwrap();
        assert_eq!(*secret.to_text(), good);
        let shown = format!("{secret:?}");
        assert!(!shown.contains(stored) && !shown.contains("87"), "{shown}");
    }
}

#[test]
#[should_panic(expected = "a nonce is printable")]
fn the_servers_nonce_holds_no_comma() {
    Server::new(secret(), Channel::Unoffered, "a,b".into());
}
