//! Packets that no driver would send: built of bytes, with nothing checked.

use std::io::{ErrorKind, Read};

use testing::{Message, Raw};

/// Protocol 3.0, as a StartupMessage says it.
pub(crate) const VERSION_3: u32 = 3 << 16;
pub(crate) const SSL_REQUEST: u32 = (1234 << 16) | 5679;
pub(crate) const GSSENC_REQUEST: u32 = (1234 << 16) | 5680;
pub(crate) const CANCEL_REQUEST: u32 = (1234 << 16) | 5678;

/// A first packet: its right length, this code, these bytes.
pub(crate) fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 8).expect("a packet below 4 GiB");
    [&length.to_be_bytes(), &code.to_be_bytes(), body].concat()
}

/// A StartupMessage of names and values that need not be text.
pub(crate) fn startup(version: u32, parameters: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in parameters {
        body.extend([name, b"\0".as_slice(), value, b"\0"].concat());
    }
    body.push(0);
    packet(version, &body)
}

/// A typed message whose length word says what it likes.
pub(crate) fn lying(tag: u8, length: u32, body: &[u8]) -> Vec<u8> {
    [&[tag], length.to_be_bytes().as_slice(), body].concat()
}

/// Parse, Bind, Execute and Sync of one statement.
pub(crate) fn extended(sql: &str) -> Vec<u8> {
    [
        Message::new(b'P', format!("\0{sql}\0\0\0")),
        Message::new(b'B', [0; 8]),
        Message::new(b'E', [0; 5]),
        Message::new(b'S', []),
    ]
    .iter()
    .flat_map(Message::to_bytes)
    .collect()
}

/// Reads to the end, whether that is a close or a reset.
///
/// # Panics
/// When neither comes.
pub(crate) fn read_all(raw: &mut Raw) -> Vec<u8> {
    let mut bytes = Vec::new();
    match raw.read_to_end(&mut bytes) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            panic!("no end came, only {bytes:?}")
        }
        Ok(_) | Err(_) => bytes,
    }
}

/// The typed messages in these bytes.
///
/// # Panics
/// When they are not whole messages.
pub(crate) fn messages(mut bytes: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    while let [tag, a, b, c, d, rest @ ..] = bytes {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize - 4;
        assert!(length <= rest.len(), "a message is cut off: {bytes:?}");
        let (body, behind) = rest.split_at(length);
        messages.push(Message::new(*tag, body));
        bytes = behind;
    }
    assert!(bytes.is_empty(), "a message is cut off: {bytes:?}");
    messages
}

/// Whether `needle` stands anywhere in `bytes`.
pub(crate) fn contains(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
}

/// The first column of every row, as text.
pub(crate) fn first_column(messages: &[Message]) -> Vec<String> {
    let rows = messages.iter().filter(|message| message.tag == b'D');
    rows.map(|row| String::from_utf8(row.values().remove(0).unwrap_or_default()).expect("text"))
        .collect()
}
