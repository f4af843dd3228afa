//! Stories of streams that take no more.

use std::io::ErrorKind;

use multigres::net::Stream;

use crate::stage::{End, Far, NEAR, Near, Stage, World, positional};

pub async fn a_stream_takes_what_there_is_room_for<W: World>(stage: &mut Stage<W>) {
    let (mut near, mut far) = stage.connection().await;
    // Nobody reads meanwhile. A write that is cut short is followed by an event.
    stage.write_all(&mut near, &positional(0, 5000)).await;
    assert!(far.read(5000).await == positional(0, 5000));
}

pub async fn a_full_stream_tells_when_there_is_room_and_loses_nothing<W: World>(
    stage: &mut Stage<W>,
) {
    let (mut near, mut far) = stage.connection().await;
    let mut written = 0;
    let mut read = 0;
    for _ in 0..3 {
        let full = stage.fill(&mut near, written).await;
        assert!(full > written, "there was room");
        written = full;
        assert!(far.read(written - read).await == positional(read, written - read));
        read = written;
        // What is written next waits for the event.
        stage.write_all(&mut near, &positional(written, 10)).await;
        written += 10;
    }
    near.stream.shutdown_write().unwrap();
    assert_eq!(far.read_to_end().await, (positional(read, 10), End::Eof));
}

pub async fn a_full_stream_tells_of_a_reset<W: World>(stage: &mut Stage<W>) {
    let (mut near, far) = full(stage).await;
    far.reset().await;
    stage.until(NEAR, |told| told.readable && told.writable && told.read_closed).await;
    assert_eq!(stage.write_error(&mut near).await, ErrorKind::ConnectionReset);
    assert_eq!(stage.write_error(&mut near).await, ErrorKind::BrokenPipe);
    stage.expect_end(&mut near).await;
}

pub async fn a_full_stream_tells_of_a_reset_behind_the_end<W: World>(stage: &mut Stage<W>) {
    let (mut near, mut far) = full(stage).await;
    far.half_close().await;
    stage.expect_end(&mut near).await;
    stage.lull(NEAR).await;
    stage.forget(NEAR);
    far.close().await;
    stage.until_broken(NEAR).await;
    assert_eq!(stage.write_error(&mut near).await, ErrorKind::BrokenPipe);
}

async fn full<W: World>(stage: &mut Stage<W>) -> (Near<W>, W::Far) {
    let (mut near, mut far) = stage.connection().await;
    stage.fill(&mut near, 0).await;
    far.await_data().await;
    stage.forget(NEAR);
    (near, far)
}

pub async fn no_bytes_can_be_written_behind_the_own_end<W: World>(stage: &mut Stage<W>) {
    let (mut near, mut far) = stage.connection().await;
    stage.write_all(&mut near, b"last").await;
    near.stream.shutdown_write().unwrap();
    assert_eq!(stage.write_error(&mut near).await, ErrorKind::BrokenPipe);
    assert_eq!(far.read_to_end().await, (b"last".to_vec(), End::Eof));
}
