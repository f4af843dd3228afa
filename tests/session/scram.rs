//! Stories of SCRAM that Multigres answers itself: upstream's side is played by the server of the
//! library, so that each proof is a right one.

use multigres::auth::scram::{Challenged, Channel, Secret, Server};
use multigres::session::{Auth, Stage};

use testing::session::{Cast, Play, at_every_chunk_size, message};

use crate::{acme, answer, authentication, ok, ready, start, text};

/// Upstream has asked, the client has given its password, and Multigres its first message.
fn begun(cast: Cast) -> (Play, Server) {
    let mut play = acme(cast.auth(Auth::Password));
    play.take_to_upstream();
    play.upstream(&offer());
    assert_eq!(play.take_to_client(), authentication(3, b""), "its password is asked for");
    play.client(&message(b'p', b"secret\0"));
    let secret = Secret::of_password(b"secret", b"salt", 1);
    (play, Server::new(secret, Channel::Unoffered, "server".into()))
}

/// Like [`begun`]; upstream's challenge and what Multigres must prove upon it.
fn challenged(cast: Cast) -> (Play, Vec<u8>, Challenged) {
    let (mut play, server) = begun(cast);
    let first = play.take_to_upstream();
    // The mechanism's name and the length of the message stand in front of it.
    let header = [b"p\0\0\0\x36".as_slice(), b"SCRAM-SHA-256\0\0\0\0\x20"].concat();
    assert!(first.starts_with(&header), "{}", first.escape_ascii());
    let (challenge, challenged) = server.challenge(&first[header.len()..]).expect("its first");
    (play, authentication(11, challenge.as_bytes()), challenged)
}

/// Like [`challenged`]; Multigres has given its proof, and upstream's own is still to come.
fn proved(cast: Cast) -> (Play, Vec<u8>) {
    let (mut play, challenge, challenged) = challenged(cast);
    play.upstream(&challenge);
    let proof = play.take_to_upstream();
    assert_eq!(proof[0], b'p');
    let own = challenged.verify(&proof[5..]).expect("the password is right");
    (play, authentication(12, own.as_bytes()))
}

fn offer() -> Vec<u8> {
    authentication(10, &text(&["SCRAM-SHA-256", ""]))
}

fn is_refused(mut play: Play, said: &[u8]) {
    play.upstream(said);
    play.expect_refusal("08P01");
    assert_eq!(play.take_to_upstream(), b"");
}

#[test]
fn a_login_is_answered_to_its_end_and_the_client_sees_none_of_it() {
    at_every_chunk_size(|cast| {
        let (mut play, last) = proved(cast);
        play.upstream(&last);
        assert_eq!((play.take_to_client(), play.take_to_upstream()), (vec![], vec![]));
        play.upstream(&start());
        play.upstream(&answer().concat());
        assert_eq!(play.stage(), Stage::Piping);
        assert_eq!(play.take_to_client(), start());
    });
}

#[test]
fn no_other_message_may_come_in_the_midst_of_the_exchange() {
    let plain = authentication(3, b"");
    let salted = authentication(5, &[1, 2, 3, 4]);
    for stray in [ok(), offer(), plain, salted, authentication(7, b""), ready()] {
        at_every_chunk_size(|cast| {
            let (mut play, _) = begun(cast);
            play.take_to_upstream();
            is_refused(play, &stray);
            is_refused(proved(cast).0, &stray);
        });
    }
}

#[test]
fn after_the_end_nothing_of_an_exchange_may_come() {
    at_every_chunk_size(|cast| {
        let (mut play, last) = proved(cast);
        play.upstream(&last);
        let (_, challenge, _) = challenged(cast);
        for stray in [challenge, last.clone(), offer(), authentication(8, b"more")] {
            let (mut play, last) = proved(cast);
            play.upstream(&last);
            is_refused(play, &stray);
        }
        is_refused(play, &authentication(11, b""));
    });
}

#[test]
fn a_proof_that_is_wrong_or_comes_before_its_time_is_no_proof() {
    at_every_chunk_size(|cast| {
        let (_, right) = proved(cast);
        let (mut play, _) = begun(cast);
        play.upstream(&right);
        play.expect_refusal("28000");
        let mut wrong = right;
        wrong[12] ^= 1;
        let (mut play, _) = proved(cast);
        play.upstream(&wrong);
        play.expect_refusal("28000");
        let (mut play, challenge, _) = challenged(cast);
        play.upstream(&challenge.repeat(2));
        play.expect_refusal("28000");
    });
}
