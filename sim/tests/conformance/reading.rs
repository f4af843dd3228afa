//! Stories of data that comes.

use multigres::net::Token;

use crate::stage::{Far, NEAR, Stage, World, positional};

pub async fn data_comes_whole_and_in_order_through_any_buffer<W: World>(stage: &mut Stage<W>) {
    let (mut near, mut far) = stage.connection().await;
    for size in [1, 7, 1000, 100_000] {
        let bytes = positional(size, 5000);
        far.write(&bytes[..1]).await;
        far.write(&bytes[1..2000]).await;
        far.write(&bytes[2000..]).await;
        stage.expect(&mut near, &bytes, size).await;
        stage.expect_nothing(&mut near);
    }
}

pub async fn a_read_that_finds_nothing_is_told_when_there_is_something<W: World>(
    stage: &mut Stage<W>,
) {
    let (mut near, mut far) = stage.connection().await;
    for round in 0..5 {
        stage.expect_nothing(&mut near);
        far.write(&positional(round, 10)).await;
        stage.until(NEAR, |told| told.readable).await;
        let told = *stage.told(NEAR);
        assert!(!told.read_closed || !stage.world.is_exact(), "nothing has ended");
        stage.expect(&mut near, &positional(round, 10), 100).await;
    }
}

pub async fn what_has_come_before_the_registration_is_told<W: World>(stage: &mut Stage<W>) {
    let mut listener = stage.world.listen().await;
    let mut far = stage.world.dial().await.unwrap();
    let (stream, _) = stage.accept(&mut listener).await;
    far.write(b"early").await;
    stage.lull(NEAR).await;
    let mut near = stage.register(stream, NEAR);
    stage.until(NEAR, |told| told.readable && told.writable).await;
    stage.expect(&mut near, b"early", 100).await;
}

pub async fn events_come_under_the_token_of_their_stream<W: World>(stage: &mut Stage<W>) {
    let mut listener = stage.world.listen().await;
    let tokens = [Token(2), Token(4), Token(6)];
    let mut pairs = Vec::new();
    for token in tokens {
        pairs.push(stage.pair(&mut listener, token).await);
    }
    for at in [1, 0, 2, 2, 0, 1] {
        for (near, _) in &mut pairs {
            stage.expect_nothing(near);
        }
        pairs[at].1.write(&[at as u8]).await;
        stage.until(tokens[at], |told| told.readable).await;
        stage.expect(&mut pairs[at].0, &[at as u8], 1).await;
    }
    // A token of a stream that is gone can be another one's.
    let (near, far) = pairs.remove(0);
    drop((near, far));
    let (mut near, mut far) = stage.pair(&mut listener, tokens[0]).await;
    far.write(b"new").await;
    stage.expect(&mut near, b"new", 100).await;
}

pub async fn the_end_stands_behind_all_data_and_stays<W: World>(stage: &mut Stage<W>) {
    let (mut near, mut far) = stage.connection().await;
    far.write(&positional(0, 5000)).await;
    far.close().await;
    stage.until(NEAR, |told| told.read_closed).await;
    stage.expect(&mut near, &positional(0, 5000), 999).await;
    stage.expect_end(&mut near).await;
}
