//! What the states of a login share: the bytes of each leg, the settings, the answer to the parent.
//! Knows nothing of any state.

mod io;
mod legs;
mod settings;
mod step;

pub(crate) use io::{ClientIo, INPUT_BYTES_MAX, UpstreamIo};
pub use legs::Leg;
pub(crate) use legs::{ChannelBinding, ClientChannel, Legs};
pub use settings::{Auth, ClientPlace, ClientTls, Handshake, LoginSettings, UpstreamTls};
pub(crate) use step::Step;
