//! Stories of the listener.

use std::io::ErrorKind;

use multigres::net::{Net, Token};

use crate::stage::{End, Far, LISTENER, NEAR, Stage, World};

pub async fn a_listener_gives_who_waits_and_then_nothing<W: World>(stage: &mut Stage<W>) {
    let mut listener = stage.world.listen().await;
    for _ in 0..3 {
        let none = stage.world.net().accept(&mut listener).err().map(|error| error.kind());
        assert_eq!(none, Some(ErrorKind::WouldBlock));
        stage.forget(LISTENER);
        let far = stage.world.dial().await.unwrap();
        stage.until(LISTENER, |told| told.readable).await;
        let (_, who) = stage.world.net().accept(&mut listener).unwrap();
        assert!(who.is_loopback());
        far.close().await;
    }
}

pub async fn two_who_come_at_once_may_have_one_event<W: World>(stage: &mut Stage<W>) {
    let mut listener = stage.world.listen().await;
    let mut first = stage.world.dial().await.unwrap();
    let mut second = stage.world.dial().await.unwrap();
    first.write(b"first").await;
    second.write(b"second").await;
    stage.until(LISTENER, |told| told.readable).await;
    for (token, words) in [(Token(2), &b"first"[..]), (Token(4), b"second")] {
        let (stream, _) = stage.world.net().accept(&mut listener).unwrap();
        let mut near = stage.register(stream, token);
        stage.expect(&mut near, words, 100).await;
    }
}

pub async fn who_has_left_before_it_is_accepted_is_accepted_with_its_words<W: World>(
    stage: &mut Stage<W>,
) {
    let mut listener = stage.world.listen().await;
    let mut far = stage.world.dial().await.unwrap();
    far.write(b"good bye").await;
    far.close().await;
    stage.lull(LISTENER).await;
    let (stream, _) = stage.world.net().accept(&mut listener).unwrap();
    let mut near = stage.register(stream, NEAR);
    stage.expect(&mut near, b"good bye", 3).await;
    stage.expect_end(&mut near).await;
}

pub async fn who_has_reset_before_it_is_accepted_is_accepted_with_its_words<W: World>(
    stage: &mut Stage<W>,
) {
    let mut listener = stage.world.listen().await;
    let mut far = stage.world.dial().await.unwrap();
    far.write(b"good bye").await;
    far.reset().await;
    stage.lull(LISTENER).await;
    let (stream, _) = stage.world.net().accept(&mut listener).unwrap();
    let mut near = stage.register(stream, NEAR);
    stage.expect(&mut near, b"good bye", 3).await;
    assert_eq!(stage.read(&mut near, &mut [0; 9]).await, Err(ErrorKind::ConnectionReset));
    stage.expect_end(&mut near).await;
}

pub async fn a_dropped_listener_resets_who_waits_and_refuses_who_comes<W: World>(
    stage: &mut Stage<W>,
) {
    let listener = stage.world.listen().await;
    let mut waiting = stage.world.dial().await.unwrap();
    drop(listener);
    assert_eq!(waiting.read_to_end().await, (Vec::new(), End::Reset));
    assert_eq!(stage.world.dial().await.err(), Some(ErrorKind::ConnectionRefused));
}
