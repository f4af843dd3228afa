//! PostgreSQL's messages as the model peers write and read them.
//! Written from the manual, without the daemon's codec: a common codec would hide common errors.

/// A message: tag, length, body.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// A packet without a tag.
pub fn packet(body: &[u8]) -> Vec<u8> {
    message(0, body)[1..].to_vec()
}

/// A NUL-terminated string.
pub fn text(text: impl AsRef<[u8]>) -> Vec<u8> {
    let mut out = text.as_ref().to_vec();
    out.push(0);
    out
}

/// Authentication message with this code.
pub fn authentication(code: u32, data: &[u8]) -> Vec<u8> {
    message(b'R', &[&code.to_be_bytes(), data].concat())
}

/// ParameterStatus.
pub fn parameter_status(name: &str, value: impl AsRef<[u8]>) -> Vec<u8> {
    message(b'S', &[text(name), text(value)].concat())
}

/// BackendKeyData.
pub fn backend_key_data(pid: u32, key: &[u8]) -> Vec<u8> {
    message(b'K', &[&pid.to_be_bytes(), key].concat())
}

/// ReadyForQuery.
pub fn ready_for_query(status: u8) -> Vec<u8> {
    message(b'Z', &[status])
}

/// ErrorResponse or NoticeResponse.
pub fn report(tag: u8, severity: &str, code: &str, words: impl AsRef<[u8]>) -> Vec<u8> {
    let fields = [
        [b"S".to_vec(), text(severity)].concat(),
        [b"V".to_vec(), text(severity)].concat(),
        [b"C".to_vec(), text(code)].concat(),
        [b"M".to_vec(), text(words)].concat(),
    ];
    message(tag, &[fields.concat(), vec![0]].concat())
}

/// DataRow.
pub fn data_row(columns: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = (columns.len() as u16).to_be_bytes().to_vec();
    for column in columns {
        match column {
            None => body.extend_from_slice(&(-1i32).to_be_bytes()),
            Some(value) => {
                body.extend_from_slice(&(value.len() as u32).to_be_bytes());
                body.extend_from_slice(value);
            }
        }
    }
    message(b'D', &body)
}

/// CommandComplete.
pub fn command_complete(tag: &str) -> Vec<u8> {
    message(b'C', &text(tag))
}

/// Takes a whole message from the front: its tag, its body.
pub fn take(buffer: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let &[tag, a, b, c, d] = buffer.get(..5)? else { return None };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length < 4 || buffer.len() < 1 + length {
        return None;
    }
    let whole: Vec<u8> = buffer.drain(..=length).collect();
    Some((tag, whole[5..].to_vec()))
}

/// The fields of an ErrorResponse; `None` unless it is well formed.
pub fn fields(body: &[u8]) -> Option<Vec<(u8, String)>> {
    let mut found = Vec::new();
    let mut rest = body;
    loop {
        let (&kind, after) = rest.split_first()?;
        if kind == 0 {
            return after.is_empty().then_some(found);
        }
        let end = after.iter().position(|byte| *byte == 0)?;
        found.push((kind, String::from_utf8_lossy(&after[..end]).into_owned()));
        rest = &after[end + 1..];
    }
}

/// Version and parameters of a StartupMessage, without its length word; `None` unless it ends
/// exactly at its last NUL.
pub fn startup(body: &[u8]) -> Option<(u32, Vec<(String, String)>)> {
    let (version, mut rest) = body.split_first_chunk::<4>()?;
    let mut parameters = Vec::new();
    let mut string = || -> Option<String> {
        let end = rest.iter().position(|byte| *byte == 0)?;
        let text = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[end + 1..];
        Some(text)
    };
    loop {
        let name = string()?;
        if name.is_empty() {
            break;
        }
        parameters.push((name, string()?));
    }
    rest.is_empty().then_some((u32::from_be_bytes(*version), parameters))
}

/// What stands in everything that must not reach a client.
pub const CANARY: &[u8] = b"\xc1\xa7\xf5canary\xff";

/// SSLRequest, GSSENCRequest and CancelRequest codes; protocol 3.0.
pub const SSL_REQUEST: u32 = 80_877_103;
/// GSSENCRequest.
pub const GSSENC_REQUEST: u32 = 80_877_104;
/// CancelRequest.
pub const CANCEL_REQUEST: u32 = 80_877_102;
/// Protocol 3.0.
pub const PROTOCOL_3_0: u32 = 196_608;
