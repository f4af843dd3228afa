//! Stories of connections that are dialled.

use std::io::{ErrorKind, Read, Write};

use multigres::net::Stream;

use crate::stage::{End, Far, NEAR, Stage, World};

pub async fn a_connection_is_made_once_and_stays_made<W: World>(stage: &mut Stage<W>) {
    let address = stage.world.address();
    let mut near = stage.dial(&address, NEAR);
    stage.until(NEAR, |told| told.writable).await;
    stage.connected(&mut near).await.unwrap();
    let mut far = stage.world.answered().await;
    far.write(b"news").await;
    stage.until(NEAR, |told| told.readable).await;
    assert!(near.stream.connect_result().unwrap());
    stage.expect(&mut near, b"news", 100).await;
    stage.write_all(&mut near, b"answer").await;
    assert_eq!(far.read(6).await, b"answer");
    far.close().await;
    stage.expect_end(&mut near).await;
    assert!(near.stream.connect_result().unwrap(), "an end is no failure");
}

pub async fn a_refused_connection_tells_once_why<W: World>(stage: &mut Stage<W>) {
    let address = stage.world.nowhere();
    let mut near = stage.dial(&address, NEAR);
    stage.until(NEAR, |told| told.readable && told.writable && told.read_closed).await;
    assert_eq!(stage.connected(&mut near).await, Err(ErrorKind::ConnectionRefused));
    // The error has been taken, as SO_ERROR is.
    assert!(!near.stream.connect_result().unwrap());
    stage.expect_end(&mut near).await;
    assert_eq!(stage.write_error(&mut near).await, ErrorKind::BrokenPipe);
}

pub async fn a_connection_without_answer_is_neither_made_nor_failed<W: World>(
    stage: &mut Stage<W>,
) {
    let address = stage.world.stalled().await;
    let mut near = stage.dial(&address, NEAR);
    for _ in 0..2 {
        assert!(!near.stream.connect_result().unwrap());
        let read = near.stream.read(&mut [0; 9]).unwrap_err().kind();
        assert!(matches!(read, ErrorKind::WouldBlock | ErrorKind::Interrupted), "{read}");
        let write = near.stream.write(b"early").unwrap_err().kind();
        assert!(matches!(write, ErrorKind::WouldBlock | ErrorKind::Interrupted), "{write}");
        stage.lull(NEAR).await;
    }
    stage.world.unstall().await;
    stage.connected(&mut near).await.unwrap();
    let mut far = stage.world.answered_late().await;
    stage.write_all(&mut near, b"at last").await;
    assert_eq!(far.read(7).await, b"at last");
    far.write(b"indeed").await;
    stage.expect(&mut near, b"indeed", 100).await;
}

pub async fn a_connection_given_up_leaves_nothing_behind<W: World>(stage: &mut Stage<W>) {
    let stalled = stage.world.stalled().await;
    let near = stage.dial(&stalled, NEAR);
    drop(near);
    // Its token may be used again, and nobody else's events come under it.
    let address = stage.world.address();
    let mut near = stage.dial(&address, NEAR);
    stage.connected(&mut near).await.unwrap();
    let mut far = stage.world.answered().await;
    stage.world.unstall().await;
    stage.lull(NEAR).await;
    stage.expect_nothing(&mut near);
    far.write(b"news").await;
    stage.expect(&mut near, b"news", 100).await;
    drop(near);
    assert_eq!(far.read_to_end().await, (Vec::new(), End::Eof));
}

pub async fn a_connection_reset_before_it_is_asked_after_has_failed<W: World>(
    stage: &mut Stage<W>,
) {
    let address = stage.world.address();
    let mut near = stage.dial(&address, NEAR);
    stage.until(NEAR, |told| told.writable).await;
    stage.world.answered().await.reset().await;
    stage.until_broken(NEAR).await;
    assert_eq!(stage.connected(&mut near).await, Err(ErrorKind::ConnectionReset));
    assert!(!near.stream.connect_result().unwrap());
    stage.expect_end(&mut near).await;
}
