//! What a message costs in system calls, with TLS on both legs.

use super::peer::{Pace, settle};
use super::{BOTH, noise, pipe};

/// Calls of read and of write on both legs, for one message of this length from upstream.
fn calls(bytes: usize) -> [(usize, usize); 2] {
    let (mut world, mut client, mut upstream) = pipe(BOTH);
    // The first turns in the pipe may still learn that there is nothing to read.
    client.say(b"first");
    upstream.say(b"first");
    settle(&mut world, &mut [&mut client, &mut upstream], Pace::ANY);
    let _ = (client.wire.take_calls(), upstream.wire.take_calls());
    upstream.say(&noise(bytes, 1));
    settle(&mut world, &mut [&mut upstream, &mut client], Pace::ANY);
    [client.wire.take_calls(), upstream.wire.take_calls()]
}

#[test]
fn a_message_costs_one_read_and_one_write() {
    for bytes in [1, 100, 5_000, 16_384, 32_000] {
        assert_eq!(calls(bytes), [(0, 1), (1, 0)], "{bytes} bytes");
    }
}

#[test]
fn bulk_costs_one_read_and_one_write_for_each_buffer() {
    let buffers = 100;
    let [(_, writes), (reads, _)] = calls(buffers * 32 * 1024);
    // Headers and tags make the ciphertext a little longer.
    assert!(reads <= buffers + 2 && writes <= buffers + 2, "{reads} reads, {writes} writes");
}
