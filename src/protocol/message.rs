//! Framing of typed messages: one tag byte, a length, a body; and a cursor over a body.
//! Knows nothing of what a tag means.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

/// One whole message as it stood on the wire: tag, length, body.
///
/// Source: PostgreSQL manual, "Overview: Messaging Overview".
#[derive(Clone, PartialEq, Eq)]
pub struct Message(Bytes);

impl Message {
    /// The message type byte.
    pub fn tag(&self) -> u8 {
        self.0[0]
    }

    /// What stands behind the length word.
    pub fn body(&self) -> &[u8] {
        &self.0[MESSAGE_HEADER_BYTES..]
    }

    /// The whole message, unaltered, for passing on.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Tag and length only: a body may hold a password or a customer's data.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({:?}, {} bytes)", self.tag() as char, self.0.len())
    }
}

/// Bytes that do not follow the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// The length word of a message is below 4.
    LengthTooSmall,
    /// A message is longer than its place in the dialogue allows.
    TooLong,
    /// A body ends before, or goes on behind, what its message type says.
    BadBody,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WireError::LengthTooSmall => "invalid message length",
            WireError::TooLong => "message too long",
            WireError::BadBody => "invalid message format",
        })
    }
}

/// Takes one whole message from the front of `buffer`, or `None` when it has not all come yet.
///
/// # Errors
/// [`WireError`] when the length word is impossible or names a body of more than
/// `body_bytes_max` bytes; known as soon as the length word is there.
pub fn take_message(
    buffer: &mut BytesMut,
    body_bytes_max: usize,
) -> Result<Option<Message>, WireError> {
    let Some(&[a, b, c, d]) = buffer.get(1..MESSAGE_HEADER_BYTES) else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length < LENGTH_BYTES {
        return Err(WireError::LengthTooSmall);
    }
    if length - LENGTH_BYTES > body_bytes_max {
        return Err(WireError::TooLong);
    }
    if buffer.len() <= length {
        return Ok(None);
    }
    Ok(Some(Message(buffer.split_to(1 + length).freeze())))
}

/// Type and length of the message that begins in front of `buffer`, all of it counted; `None` when
/// its header has not all come yet.
pub fn message_bytes(buffer: &[u8]) -> Option<(u8, usize)> {
    let &[tag, a, b, c, d] = buffer.first_chunk::<MESSAGE_HEADER_BYTES>()?;
    Some((tag, (u32::from_be_bytes([a, b, c, d]) as usize).saturating_add(1)))
}

/// Appends a message: its tag, the length of what `body` writes, and that.
pub(super) fn put_message(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    put_length_prefixed(out, body);
}

/// Appends a length word, which counts itself, and what `body` writes.
pub(super) fn put_length_prefixed(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let at = out.len();
    out.put_u32(0);
    body(out);
    let length = u32::try_from(out.len() - at).expect("messages built here are small");
    out[at..at + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
}

/// Appends a NUL-terminated string.
///
/// # Panics
/// When `text` holds a NUL, which would end it early and shift all that follows: whoever calls
/// this has parsed `text` from NUL-terminated strings or checked it.
pub(super) fn put_cstr(out: &mut BytesMut, text: &[u8]) {
    assert!(!text.contains(&0), "a NUL inside a protocol string");
    out.put_slice(text);
    out.put_u8(0);
}

/// A cursor over the body of a message. Every method fails with [`WireError::BadBody`] where the
/// body is too short.
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Fields(body)
    }

    pub(super) fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.bytes(1)?[0])
    }

    pub(super) fn i16(&mut self) -> Result<i16, WireError> {
        let bytes = self.bytes(2)?;
        Ok(i16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub(super) fn i32(&mut self) -> Result<i32, WireError> {
        let bytes = self.bytes(4)?;
        Ok(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(WireError::BadBody)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A string without its NUL.
    pub(super) fn cstr(&mut self) -> Result<&'a [u8], WireError> {
        let end = self.0.iter().position(|&byte| byte == 0).ok_or(WireError::BadBody)?;
        let text = &self.0[..end];
        self.0 = &self.0[end + 1..];
        Ok(text)
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Nothing may stand behind the last field.
    pub(super) fn end(self) -> Result<(), WireError> {
        if self.0.is_empty() { Ok(()) } else { Err(WireError::BadBody) }
    }
}

const LENGTH_BYTES: usize = 4;
/// Bytes of tag and length word.
pub const MESSAGE_HEADER_BYTES: usize = 1 + LENGTH_BYTES;
