//! What a client may send first: SSLRequest, GSSENCRequest, CancelRequest, StartupMessage.
//! Knows the layout, not what a parameter means.

use std::collections::BTreeSet;
use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::message::{Fields, put_cstr, put_length_prefixed};

/// The first packet of a connection, or the one after an encryption request.
#[derive(Clone, PartialEq, Eq)]
pub enum FirstPacket {
    /// SSLRequest: the client asks for TLS.
    SslRequest,
    /// GSSENCRequest: the client asks for GSSAPI encryption.
    GssEncRequest,
    /// CancelRequest, whole, for passing on byte for byte. It holds a secret key.
    CancelRequest(Bytes),
    /// StartupMessage.
    Startup(StartupMessage),
}

/// The parameters with which a client opens a session.
#[derive(Clone, PartialEq, Eq)]
pub struct StartupMessage {
    /// Major version in the upper 16 bits, always 3; minor version in the lower, as the client
    /// sent it.
    pub version: u32,
    /// Names and values in the order of the packet, without their NULs. No name stands twice,
    /// whatever its case of letters.
    pub parameters: Vec<(Bytes, Bytes)>,
}

impl StartupMessage {
    /// The value of the parameter of exactly this name.
    pub fn parameter(&self, name: &str) -> Option<&Bytes> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// Appends the message in wire format.
    pub fn encode(&self, out: &mut BytesMut) {
        put_length_prefixed(out, |body| {
            body.put_u32(self.version);
            for (name, value) in &self.parameters {
                put_cstr(body, name);
                put_cstr(body, value);
            }
            body.put_u8(0);
        });
    }

    /// Bytes that [`StartupMessage::encode`] writes.
    pub fn encoded_len(&self) -> usize {
        let parameters: usize = self
            .parameters
            .iter()
            .map(|(name, value)| parameter_bytes(name.len() + value.len()))
            .sum();
        LENGTH_BYTES + VERSION_BYTES + parameters + 1
    }
}

/// Bytes of a parameter in a StartupMessage, whose name and value have so many.
pub fn parameter_bytes(text: usize) -> usize {
    text + 2
}

/// A first packet that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartupError {
    /// The length word is below 8 or above [`STARTUP_BYTES_MAX`].
    Length(u32),
    /// An encryption request with something behind its code.
    RequestLength,
    /// A CancelRequest whose key is not of 4 to 256 bytes.
    CancelKeyLength,
    /// A protocol major version other than 3.
    Version {
        /// Major version asked for.
        major: u16,
        /// Minor version asked for.
        minor: u16,
    },
    /// A name without a value, a missing terminator, or bytes behind it.
    Layout,
    /// A parameter that stands twice; in PostgreSQL the last one would win.
    DuplicateParameter(Bytes),
}

impl fmt::Display for StartupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartupError::Length(length) => write!(f, "length of startup packet is {length}"),
            StartupError::RequestLength => f.write_str("encryption request of a wrong length"),
            StartupError::CancelKeyLength => f.write_str("cancel key of a wrong length"),
            StartupError::Version { major, minor } => write!(f, "protocol {major}.{minor}"),
            StartupError::Layout => f.write_str("layout of startup packet"),
            StartupError::DuplicateParameter(name) => {
                write!(f, "parameter \"{}\" stands twice", name.escape_ascii())
            }
        }
    }
}

/// Takes a first packet from the front of `buffer`, or `None` when it has not all come yet.
///
/// # Errors
/// [`StartupError`]; a bad length is known as soon as the length word is there, so nobody can make
/// the caller wait for, or keep, more than [`STARTUP_BYTES_MAX`] bytes.
///
/// Source: PostgreSQL manual, "Message Formats"; `backend_startup.c`.
pub fn take_first_packet(buffer: &mut BytesMut) -> Result<Option<FirstPacket>, StartupError> {
    let Some(&[a, b, c, d]) = buffer.get(..LENGTH_BYTES) else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]);
    if (length as usize) < LENGTH_BYTES + VERSION_BYTES || length as usize > STARTUP_BYTES_MAX {
        return Err(StartupError::Length(length));
    }
    if buffer.len() < length as usize {
        return Ok(None);
    }
    parse(buffer.split_to(length as usize).freeze()).map(Some)
}

/// `packet` is whole, from its length word on.
fn parse(packet: Bytes) -> Result<FirstPacket, StartupError> {
    let body = packet.slice(LENGTH_BYTES + VERSION_BYTES..);
    let code = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
    match code {
        SSL_REQUEST_CODE if body.is_empty() => Ok(FirstPacket::SslRequest),
        GSSENC_REQUEST_CODE if body.is_empty() => Ok(FirstPacket::GssEncRequest),
        SSL_REQUEST_CODE | GSSENC_REQUEST_CODE => Err(StartupError::RequestLength),
        CANCEL_REQUEST_CODE => {
            let key_bytes = body.len().saturating_sub(PID_BYTES);
            if !(CANCEL_KEY_BYTES_MIN..=CANCEL_KEY_BYTES_MAX).contains(&key_bytes) {
                return Err(StartupError::CancelKeyLength);
            }
            Ok(FirstPacket::CancelRequest(packet))
        }
        version if version >> 16 == 3 => {
            let parameters = parse_parameters(&body)?;
            Ok(FirstPacket::Startup(StartupMessage { version, parameters }))
        }
        other => Err(StartupError::Version {
            major: (other >> 16) as u16,
            minor: (other & 0xffff) as u16,
        }),
    }
}

fn parse_parameters(body: &Bytes) -> Result<Vec<(Bytes, Bytes)>, StartupError> {
    let mut fields = Fields::new(body);
    let mut parameters = Vec::new();
    let mut names = BTreeSet::new();
    loop {
        let name = fields.cstr().map_err(|_| StartupError::Layout)?;
        if name.is_empty() {
            fields.end().map_err(|_| StartupError::Layout)?;
            return Ok(parameters);
        }
        let value = fields.cstr().map_err(|_| StartupError::Layout)?;
        let name = body.slice_ref(name);
        let is_new = names.insert(name.to_ascii_lowercase());
        let is_new = planted!(is_new, DuplicateAllowed => true);
        if !is_new {
            return Err(StartupError::DuplicateParameter(name));
        }
        parameters.push((name, body.slice_ref(value)));
    }
}

/// The longest first packet, counted with its length word, which `MAX_STARTUP_PACKET_LENGTH` in
/// PostgreSQL's `pqcomm.h` does not count.
pub const STARTUP_BYTES_MAX: usize = 10_004;

const LENGTH_BYTES: usize = 4;
const VERSION_BYTES: usize = 4;
const PID_BYTES: usize = 4;
const CANCEL_KEY_BYTES_MIN: usize = 4;
const CANCEL_KEY_BYTES_MAX: usize = 256;
const CANCEL_REQUEST_CODE: u32 = (1234 << 16) | 5678;
pub(super) const SSL_REQUEST_CODE: u32 = (1234 << 16) | 5679;
const GSSENC_REQUEST_CODE: u32 = (1234 << 16) | 5680;
