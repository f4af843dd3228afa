//! Frontend messages that Multigres writes itself.
//! Knows their layout; what is bound, and why, is the session's.

use bytes::{BufMut, BytesMut};

use super::message::{put_cstr, put_length_prefixed, put_message};
use super::startup::SSL_REQUEST_CODE;

/// Tag of every message by which a client answers an authentication request: PasswordMessage,
/// SASLInitialResponse, SASLResponse, GSSResponse.
pub const AUTHENTICATION_REPLY: u8 = b'p';

/// Longest body of such a message (`PG_MAX_AUTH_TOKEN_LENGTH` in `auth.h`).
pub const AUTHENTICATION_REPLY_BYTES_MAX: usize = 65_535;

/// Parse of the unnamed statement, all of whose parameters are of type text.
pub fn put_parse(out: &mut BytesMut, sql: &str, parameters: usize) {
    put_message(out, b'P', |body| {
        put_cstr(body, b"");
        put_cstr(body, sql.as_bytes());
        body.put_i16(count(parameters));
        for _ in 0..parameters {
            body.put_u32(TEXT_OID);
        }
    });
}

/// Bind of the unnamed statement to the unnamed portal: parameters and results in text format.
pub fn put_bind(out: &mut BytesMut, values: &[impl AsRef<[u8]>]) {
    put_message(out, b'B', |body| {
        put_cstr(body, b"");
        put_cstr(body, b"");
        body.put_i16(0);
        body.put_i16(count(values.len()));
        for value in values.iter().map(AsRef::as_ref) {
            body.put_i32(i32::try_from(value.len()).expect("values come from a login packet"));
            body.put_slice(value);
        }
        body.put_i16(0);
    });
}

/// Execute of the unnamed portal, all rows.
pub fn put_execute(out: &mut BytesMut) {
    put_message(out, b'E', |body| {
        put_cstr(body, b"");
        body.put_i32(0);
    });
}

/// Close of the unnamed statement.
pub fn put_close_statement(out: &mut BytesMut) {
    put_message(out, b'C', |body| {
        body.put_u8(b'S');
        put_cstr(body, b"");
    });
}

/// Sync.
pub fn put_sync(out: &mut BytesMut) {
    put_message(out, b'S', |_| {});
}

/// SSLRequest.
pub fn put_ssl_request(out: &mut BytesMut) {
    put_length_prefixed(out, |body| body.put_u32(SSL_REQUEST_CODE));
}

/// Terminate.
pub fn put_terminate(out: &mut BytesMut) {
    put_message(out, b'X', |_| {});
}

/// PasswordMessage.
///
/// # Panics
/// When `password` holds a NUL.
pub fn put_password(out: &mut BytesMut, password: &[u8]) {
    put_message(out, AUTHENTICATION_REPLY, |body| put_cstr(body, password));
}

/// SASLInitialResponse.
pub fn put_sasl_initial_response(out: &mut BytesMut, mechanism: &str, data: &[u8]) {
    put_message(out, AUTHENTICATION_REPLY, |body| {
        put_cstr(body, mechanism.as_bytes());
        body.put_i32(i32::try_from(data.len()).expect("a SCRAM message is short"));
        body.put_slice(data);
    });
}

/// SASLResponse.
pub fn put_sasl_response(out: &mut BytesMut, data: &[u8]) {
    put_message(out, AUTHENTICATION_REPLY, |body| body.put_slice(data));
}

/// Whether a SASLInitialResponse says that the client binds channels and believes that the server
/// does not: a gs2-cbind-flag of `y` (RFC 5802, section 7).
pub fn believes_no_channel_binding(body: &[u8]) -> bool {
    let mechanism_end = body.iter().position(|byte| *byte == 0);
    let data = mechanism_end.and_then(|end| body.get(end + 1 + LENGTH_BYTES..));
    data.is_some_and(|data| data.starts_with(b"y"))
}

/// The password in a PasswordMessage, or `None` when its body is not one NUL-terminated string.
pub fn parse_password(body: &[u8]) -> Option<&[u8]> {
    let (&last, password) = body.split_last()?;
    (last == 0 && !password.contains(&0)).then_some(password)
}

fn count(items: usize) -> i16 {
    i16::try_from(items).expect("a handful of parameters")
}

/// Of the data's length word.
const LENGTH_BYTES: usize = 4;

/// `TEXTOID` in `pg_type.dat`.
const TEXT_OID: u32 = 25;
