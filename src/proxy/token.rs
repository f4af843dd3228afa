//! Tokens: which leg of which connection, or which listener, an event is for.
//! Knows nothing of what is behind a token.

use crate::net::Token;
use crate::session::Leg;

/// A connection: its slot, and the generation that tells it from earlier users of the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConnectionKey {
    pub(super) slot: usize,
    pub(super) generation: u32,
}

/// What a token stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Connection(ConnectionKey, Leg),
    Listener(usize),
}

impl ConnectionKey {
    pub(super) fn token(self, leg: Leg) -> Token {
        let leg = match leg {
            Leg::Client => 0,
            Leg::Upstream => 1,
        };
        Token((self.generation as usize) << GENERATION_SHIFT | self.slot << 1 | leg)
    }
}

impl Target {
    pub(super) fn of(token: Token) -> Self {
        let generation = (token.0 >> GENERATION_SHIFT) as u32;
        let slot = (token.0 & SLOT_MASK) >> 1;
        if generation == LISTENER_GENERATION {
            return Target::Listener(slot);
        }
        let leg = if token.0 & 1 == 0 { Leg::Client } else { Leg::Upstream };
        Target::Connection(ConnectionKey { slot, generation }, leg)
    }
}

/// The token under which a listener is registered, by its place in the list.
pub(super) fn listener_token(at: usize) -> Token {
    Token((LISTENER_GENERATION as usize) << GENERATION_SHIFT | at << 1)
}

/// Generations of connections stay below [`LISTENER_GENERATION`].
pub(super) fn next_generation(generation: u32) -> u32 {
    (generation + 1) % LISTENER_GENERATION
}

/// Tokens from here on are the driver's own: no connection and no listener has one.
pub const DRIVER_TOKENS: usize = DRIVER_GENERATION << GENERATION_SHIFT;

const _: () = assert!(usize::BITS == 64, "a token holds a generation and a slot");
const GENERATION_SHIFT: u32 = 32;
const SLOT_MASK: usize = (1 << GENERATION_SHIFT) - 1;
const DRIVER_GENERATION: usize = u32::MAX as usize;
const LISTENER_GENERATION: u32 = u32::MAX - 1;
