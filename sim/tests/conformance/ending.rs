//! Stories of ends and resets.
//!
//! A reset stands behind the data that came before it, is told once as `ConnectionReset` by
//! whichever call comes first, and then reads end and writes are `BrokenPipe`. Behind the end of
//! the other side's stream it is told by writes alone, and as `BrokenPipe` at once. So a reader
//! that reads before it believes an event loses nothing.

use std::io::ErrorKind;

use multigres::net::Stream;

use crate::stage::{End, Far, NEAR, Near, Stage, World};

pub async fn the_other_side_ends_first_and_still_listens<W: World>(stage: &mut Stage<W>) {
    let (mut near, mut far) = stage.connection().await;
    far.write(b"question").await;
    far.half_close().await;
    stage.until(NEAR, |told| told.read_closed).await;
    stage.expect(&mut near, b"question", 100).await;
    stage.expect_end(&mut near).await;
    for _ in 0..2 {
        stage.write_all(&mut near, b"answer").await;
        assert_eq!(far.read(6).await, b"answer");
    }
    near.stream.shutdown_write().unwrap();
    assert_eq!(far.read_to_end().await, (Vec::new(), End::Eof));
}

pub async fn this_side_ends_first_and_still_listens<W: World>(stage: &mut Stage<W>) {
    let (mut near, mut far) = stage.connection().await;
    stage.write_all(&mut near, b"question").await;
    near.stream.shutdown_write().unwrap();
    near.stream.shutdown_write().unwrap();
    assert_eq!(far.read_to_end().await, (b"question".to_vec(), End::Eof));
    for _ in 0..2 {
        far.write(b"answer").await;
        stage.expect(&mut near, b"answer", 100).await;
    }
    stage.expect_nothing(&mut near);
    far.close().await;
    stage.expect_end(&mut near).await;
}

pub async fn a_stream_that_has_ended_both_ways_is_not_connected<W: World>(stage: &mut Stage<W>) {
    let (mut near, mut far) = stage.connection().await;
    near.stream.shutdown_write().unwrap();
    assert_eq!(far.read_to_end().await, (Vec::new(), End::Eof));
    far.close().await;
    stage.expect_end(&mut near).await;
    assert_eq!(near.stream.shutdown_write().unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(stage.write_error(&mut near).await, ErrorKind::BrokenPipe);
}

pub async fn a_reset_stands_behind_data_that_came_before_it<W: World>(stage: &mut Stage<W>) {
    let (mut near, mut far) = stage.connection().await;
    far.write(b"last words").await;
    far.reset().await;
    expect_reset_behind(stage, &mut near, b"last words").await;
}

pub async fn a_close_with_unread_data_is_a_reset_behind_data<W: World>(stage: &mut Stage<W>) {
    let (mut near, mut far) = stage.connection().await;
    stage.write_all(&mut near, b"unread").await;
    far.await_data().await;
    far.write(b"last words").await;
    far.close().await;
    expect_reset_behind(stage, &mut near, b"last words").await;
}

async fn expect_reset_behind<W: World>(stage: &mut Stage<W>, near: &mut Near<W>, words: &[u8]) {
    stage.forget(NEAR);
    stage.until(NEAR, |told| told.readable && told.writable && told.read_closed).await;
    stage.expect(near, words, 3).await;
    assert_eq!(stage.read(near, &mut [0; 9]).await, Err(ErrorKind::ConnectionReset));
    stage.expect_end(near).await;
    assert_eq!(stage.write_error(near).await, ErrorKind::BrokenPipe);
}

pub async fn a_reset_can_be_told_by_a_write_and_then_stands_behind_no_data<W: World>(
    stage: &mut Stage<W>,
) {
    let (mut near, mut far) = stage.connection().await;
    far.write(b"last words").await;
    far.reset().await;
    stage.until_broken(NEAR).await;
    assert_eq!(stage.write_error(&mut near).await, ErrorKind::ConnectionReset);
    assert_eq!(stage.write_error(&mut near).await, ErrorKind::BrokenPipe);
    stage.expect(&mut near, b"last words", 3).await;
    stage.expect_end(&mut near).await;
}

pub async fn a_reset_behind_the_end_is_told_by_writes_alone<W: World>(stage: &mut Stage<W>) {
    let (mut near, mut far) = stage.connection().await;
    stage.write_all(&mut near, b"unread").await;
    far.await_data().await;
    far.write(b"last words").await;
    far.half_close().await;
    stage.until(NEAR, |told| told.read_closed).await;
    stage.lull(NEAR).await;
    stage.forget(NEAR);
    far.close().await;
    stage.until_broken(NEAR).await;
    stage.expect(&mut near, b"last words", 3).await;
    stage.expect_end(&mut near).await;
    assert_eq!(stage.write_error(&mut near).await, ErrorKind::BrokenPipe);
}

pub async fn a_write_to_a_closed_stream_is_answered_with_a_reset<W: World>(stage: &mut Stage<W>) {
    let (mut near, far) = stage.connection().await;
    far.close().await;
    stage.expect_end(&mut near).await;
    break_by_writing(stage, &mut near).await;
    stage.expect_end(&mut near).await;
}

pub async fn unread_data_is_kept_when_a_write_breaks_the_stream<W: World>(stage: &mut Stage<W>) {
    let (mut near, mut far) = stage.connection().await;
    far.write(b"last words").await;
    far.close().await;
    stage.until(NEAR, |told| told.read_closed).await;
    break_by_writing(stage, &mut near).await;
    stage.expect(&mut near, b"last words", 3).await;
    stage.expect_end(&mut near).await;
}

/// The other side has closed: one write is taken and answered with a reset.
async fn break_by_writing<W: World>(stage: &mut Stage<W>, near: &mut Near<W>) {
    stage.lull(NEAR).await;
    assert_eq!(stage.write(near, b"x").await, Ok(1));
    stage.forget(NEAR);
    stage.until_broken(NEAR).await;
    assert_eq!(stage.write_error(near).await, ErrorKind::BrokenPipe);
    assert_eq!(stage.write_error(near).await, ErrorKind::BrokenPipe);
}

pub async fn a_reset_stream_cannot_be_half_closed<W: World>(stage: &mut Stage<W>) {
    let (mut near, far) = stage.connection().await;
    far.reset().await;
    stage.until_broken(NEAR).await;
    assert_eq!(near.stream.shutdown_write().unwrap_err().kind(), ErrorKind::NotConnected);
    // That has not told of the reset.
    assert_eq!(stage.read(&mut near, &mut [0; 9]).await, Err(ErrorKind::ConnectionReset));
}

pub async fn a_reset_behind_the_own_end_is_a_reset<W: World>(stage: &mut Stage<W>) {
    let (mut near, mut far) = stage.connection().await;
    stage.write_all(&mut near, b"unread").await;
    near.stream.shutdown_write().unwrap();
    far.await_data().await;
    far.write(b"last words").await;
    far.close().await;
    expect_reset_behind(stage, &mut near, b"last words").await;
}

pub async fn a_dropped_stream_ends_in_order<W: World>(stage: &mut Stage<W>) {
    let (mut near, mut far) = stage.connection().await;
    far.write(b"question").await;
    stage.expect(&mut near, b"question", 100).await;
    stage.write_all(&mut near, b"answer").await;
    drop(near);
    assert_eq!(far.read_to_end().await, (b"answer".to_vec(), End::Eof));
}

pub async fn a_dropped_stream_with_unread_data_resets<W: World>(stage: &mut Stage<W>) {
    let (mut near, mut far) = stage.connection().await;
    stage.write_all(&mut near, b"answer").await;
    far.write(b"unread").await;
    stage.lull(NEAR).await;
    drop(near);
    assert_eq!(far.read_to_end().await, (b"answer".to_vec(), End::Reset));
}

pub async fn a_dropped_stream_resets_who_goes_on_writing<W: World>(stage: &mut Stage<W>) {
    let (near, mut far) = stage.connection().await;
    drop(near);
    assert_eq!(far.read_to_end().await, (Vec::new(), End::Eof));
    assert_eq!(far.write_until_broken().await, ErrorKind::BrokenPipe);
}
