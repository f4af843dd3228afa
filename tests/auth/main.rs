//! SCRAM by the RFC's own example, and PostgreSQL's SASLprep by what PostgreSQL's source says.

mod server;

use multigres::auth::saslprep::prepare;
use multigres::auth::scram::{Binding, Client, NONCE_BYTES, nonce};

/// RFC 7677, section 3, with the nonces of the example. PostgreSQL is not told a user name here, so
/// the proofs are not the RFC's: made once more, by Python's hashlib, from the same salt.
const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
    s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

fn client(binding: Binding) -> Client {
    Client::new(b"pencil", binding, NONCE.into())
}

#[test]
fn the_example_of_the_rfc_is_answered_and_believed() {
    let mut client = client(Binding::Unsupported);
    assert_eq!(client.first(), format!("n,,n=,r={NONCE}"));
    let proof = client.prove(SERVER_FIRST.as_bytes()).unwrap();
    let expected = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=qvT2SWdEH5Q06albL+hjSYuUhCG7VndFyzIb7CK4n9k=";
    assert_eq!(proof, expected);
    assert_eq!(client.verify(b"v=3HO6Qt1M4MKJrmlKaoOqLAI0/0TV0HZe7J9H3MBtSOg="), Ok(()));
}

#[test]
fn the_binding_is_a_part_of_what_is_proven() {
    for (binding, first, input) in [
        (Binding::Unsupported, "n,,n=", "c=biws,"),
        (Binding::Unoffered, "y,,n=", "c=eSws,"),
        (
            Binding::EndPoint(vec![1, 2, 3]),
            "p=tls-server-end-point,,n=",
            "c=cD10bHMtc2VydmVyLWVuZC1wb2ludCwsAQID,",
        ),
    ] {
        let mut client = client(binding);
        assert!(client.first().starts_with(first));
        assert!(client.prove(SERVER_FIRST.as_bytes()).unwrap().starts_with(input));
    }
}

#[test]
fn no_other_proof_and_no_other_message_is_believed() {
    let proofs: [&[u8]; 7] = [
        b"",
        b"v=",
        b"v=!",
        b"e=other-error",
        b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        b"3HO6Qt1M4MKJrmlKaoOqLAI0/0TV0HZe7J9H3MBtSOg=",
        b"v=3HO6Qt1M4MKJrmlKaoOqLAI0/0TV0HZe7J9H3MBtSOg=x",
    ];
    for proof in proofs {
        let mut client = client(Binding::Unsupported);
        client.prove(SERVER_FIRST.as_bytes()).unwrap();
        assert!(client.verify(proof).is_err(), "{}", proof.escape_ascii());
    }
    assert!(
        client(Binding::Unsupported)
            .verify(b"v=3HO6Qt1M4MKJrmlKaoOqLAI0/0TV0HZe7J9H3MBtSOg=")
            .is_err(),
        "before it was asked"
    );
    let bad: [&[u8]; 9] = [
        b"",
        b"r=other,s=W22Z,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqO,s=W22Z,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=W22Z,i=0",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=W22Z,i=100001",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=W22Z,i=1,x",
        b"m=1,r=rOprNGfwEbeRWgbNEkqOx,s=W22Z,i=1",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=W22Z",
        b"r=rOprNGfwEbeRWgbNEkqOx\xff,s=W22Z,i=1",
    ];
    for message in bad {
        let answer = client(Binding::Unsupported).prove(message);
        assert!(answer.is_err(), "{}", message.escape_ascii());
    }
    let mut twice = client(Binding::Unsupported);
    twice.prove(SERVER_FIRST.as_bytes()).unwrap();
    assert!(twice.prove(SERVER_FIRST.as_bytes()).is_err());
}

#[test]
fn a_nonce_holds_all_of_its_randomness_and_no_comma() {
    let mut seen = vec![];
    for at in 0..NONCE_BYTES {
        let mut random = [0xff; NONCE_BYTES];
        random[at] = 0;
        let nonce = nonce(random);
        assert!(nonce.bytes().all(|byte| byte.is_ascii_graphic() && byte != b','), "{nonce}");
        assert!(!seen.contains(&nonce));
        seen.push(nonce);
    }
}

/// RFC 4013, section 3, and where PostgreSQL differs from it.
#[test]
fn passwords_are_prepared_as_postgresql_does() {
    for (password, expected) in [
        ("I\u{ad}X", "IX"),
        ("user", "user"),
        ("\u{aa}", "a"),
        ("\u{2168}", "IX"),
        ("a\u{a0}b\u{3000}c", "a b c"),
        ("\u{e4}", "\u{e4}"),
        ("a\u{308}", "\u{e4}"),
        // As they are: prohibited, not assigned in Unicode 3.2, or of both directions.
        ("\u{7}", "\u{7}"),
        ("\u{7}\u{2168}", "\u{7}\u{2168}"),
        ("\u{2168}\u{7}", "\u{2168}\u{7}"),
        ("\u{627}1", "\u{627}1"),
        ("\u{627}a\u{627}", "\u{627}a\u{627}"),
        ("\u{2090}", "\u{2090}"),
        ("\u{32ff}", "\u{32ff}"),
        ("\u{1d43}", "\u{1d43}"),
        ("\u{1f130}", "\u{1f130}"),
        ("\u{340}", "\u{340}"),
        ("\u{e000}\u{aa}", "\u{e000}\u{aa}"),
        // Nothing would be left.
        ("\u{ad}", "\u{ad}"),
    ] {
        let prepared = prepare(password.as_bytes());
        assert_eq!(str::from_utf8(&prepared), Ok(expected), "{}", password.escape_unicode());
    }
    assert_eq!(*prepare(b"\xff\xc2\xaa"), *b"\xff\xc2\xaa");
}

#[test]
#[should_panic(expected = "a nonce is printable")]
fn the_clients_nonce_holds_no_comma() {
    Client::new(b"pencil", Binding::Unsupported, "a,b".into());
}
