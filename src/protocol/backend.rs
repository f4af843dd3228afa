//! Backend messages: those of a login, parsed, and those that Multigres says to a client itself.
//! Knows their layout; which one may come when is the session's.

use bytes::{BufMut, BytesMut};

use super::message::{Fields, WireError, put_cstr, put_message};

/// Tags of the backend messages that a login can meet.
pub mod tag {
    /// Authentication request or AuthenticationOk.
    pub const AUTHENTICATION: u8 = b'R';
    /// BackendKeyData.
    pub const BACKEND_KEY_DATA: u8 = b'K';
    /// BindComplete.
    pub const BIND_COMPLETE: u8 = b'2';
    /// CloseComplete.
    pub const CLOSE_COMPLETE: u8 = b'3';
    /// CommandComplete.
    pub const COMMAND_COMPLETE: u8 = b'C';
    /// DataRow.
    pub const DATA_ROW: u8 = b'D';
    /// ErrorResponse.
    pub const ERROR_RESPONSE: u8 = b'E';
    /// NegotiateProtocolVersion.
    pub const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';
    /// NoticeResponse.
    pub const NOTICE_RESPONSE: u8 = b'N';
    /// ParameterStatus.
    pub const PARAMETER_STATUS: u8 = b'S';
    /// ParseComplete.
    pub const PARSE_COMPLETE: u8 = b'1';
    /// ReadyForQuery.
    pub const READY_FOR_QUERY: u8 = b'Z';
}

/// What an Authentication message asks or says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// AuthenticationOk.
    Ok,
    /// AuthenticationCleartextPassword.
    CleartextPassword,
    /// AuthenticationMD5Password with its salt.
    Md5Password([u8; 4]),
    /// AuthenticationSASL with the names of the mechanisms offered.
    Sasl(Vec<String>),
    /// AuthenticationSASLContinue with the mechanism's data.
    SaslContinue(Vec<u8>),
    /// AuthenticationSASLFinal with the mechanism's data.
    SaslFinal(Vec<u8>),
    /// AuthenticationGSS, AuthenticationGSSContinue or AuthenticationSSPI.
    Gss,
    /// A code that the manual does not list.
    Unknown(i32),
}

/// Parses the body of an Authentication message.
///
/// # Errors
/// [`WireError::BadBody`] when the body does not fit its code.
pub fn parse_authentication(body: &[u8]) -> Result<Authentication, WireError> {
    let mut fields = Fields::new(body);
    let parsed = match fields.i32()? {
        0 => Authentication::Ok,
        3 => Authentication::CleartextPassword,
        5 => {
            let salt = fields.bytes(4)?;
            Authentication::Md5Password([salt[0], salt[1], salt[2], salt[3]])
        }
        7..=9 => return Ok(Authentication::Gss),
        10 => Authentication::Sasl(parse_mechanisms(&mut fields)?),
        11 => return Ok(Authentication::SaslContinue(fields.rest().to_vec())),
        12 => return Ok(Authentication::SaslFinal(fields.rest().to_vec())),
        code => return Ok(Authentication::Unknown(code)),
    };
    fields.end()?;
    Ok(parsed)
}

fn parse_mechanisms(fields: &mut Fields<'_>) -> Result<Vec<String>, WireError> {
    let mut mechanisms = Vec::new();
    loop {
        let name = fields.cstr()?;
        if name.is_empty() {
            return Ok(mechanisms);
        }
        mechanisms.push(String::from_utf8_lossy(name).into_owned());
    }
}

/// Name and value of a ParameterStatus.
///
/// # Errors
/// [`WireError::BadBody`] when the body is not two strings.
pub fn parse_parameter_status(body: &[u8]) -> Result<(&[u8], &[u8]), WireError> {
    let mut fields = Fields::new(body);
    let parsed = (fields.cstr()?, fields.cstr()?);
    fields.end()?;
    Ok(parsed)
}

/// The process id in a BackendKeyData. The key behind it is of 4 to 256 bytes.
///
/// # Errors
/// [`WireError::BadBody`] when the body is of another length.
pub fn parse_backend_pid(body: &[u8]) -> Result<i32, WireError> {
    let mut fields = Fields::new(body);
    let pid = fields.i32()?;
    let key_bytes = fields.rest().len();
    if (4..=256).contains(&key_bytes) { Ok(pid) } else { Err(WireError::BadBody) }
}

/// The transaction status in a ReadyForQuery: `I`, `T` or `E`.
///
/// # Errors
/// [`WireError::BadBody`] when the body is not one byte.
pub fn parse_transaction_status(body: &[u8]) -> Result<u8, WireError> {
    let mut fields = Fields::new(body);
    let status = fields.u8()?;
    fields.end()?;
    Ok(status)
}

/// The columns of a DataRow; `None` is NULL.
///
/// # Errors
/// [`WireError::BadBody`] when counts and lengths do not fit the body.
pub fn parse_data_row(body: &[u8]) -> Result<Vec<Option<&[u8]>>, WireError> {
    let mut fields = Fields::new(body);
    let count = usize::try_from(fields.i16()?).map_err(|_| WireError::BadBody)?;
    let mut columns = Vec::new();
    for _ in 0..count {
        columns.push(match fields.i32()? {
            -1 => None,
            length => {
                let length = usize::try_from(length).map_err(|_| WireError::BadBody)?;
                Some(fields.bytes(length)?)
            }
        });
    }
    fields.end()?;
    Ok(columns)
}

/// SQLSTATE and primary message of an ErrorResponse.
///
/// # Errors
/// [`WireError::BadBody`] unless the body is made of fields, and the three that are always present
/// are among them: severity, SQLSTATE and message.
pub fn parse_error(body: &[u8]) -> Result<(String, String), WireError> {
    let (mut severity, mut sqlstate, mut message) = (None, None, None);
    let mut fields = Fields::new(body);
    loop {
        let field = fields.u8()?;
        if field == 0 {
            break;
        }
        let text = fields.cstr()?;
        match field {
            b'S' => severity = Some(text),
            b'C' => sqlstate = Some(parse_sqlstate(text)?),
            b'M' => message = Some(String::from_utf8_lossy(text).into_owned()),
            _ => {}
        }
    }
    fields.end()?;
    severity.filter(|text| !text.is_empty()).ok_or(WireError::BadBody)?;
    sqlstate.zip(message).ok_or(WireError::BadBody)
}

/// Five digits or capital letters.
fn parse_sqlstate(text: &[u8]) -> Result<String, WireError> {
    let is_right = |byte: &u8| byte.is_ascii_digit() || byte.is_ascii_uppercase();
    match str::from_utf8(text) {
        Ok(state) if text.len() == 5 && text.iter().all(is_right) => Ok(state.to_owned()),
        Ok(_) | Err(_) => Err(WireError::BadBody),
    }
}

/// AuthenticationCleartextPassword.
pub fn put_cleartext_password_request(out: &mut BytesMut) {
    put_message(out, tag::AUTHENTICATION, |body| body.put_i32(3));
}

/// AuthenticationSASL with the names of the mechanisms offered.
pub fn put_sasl_mechanisms<'a>(out: &mut BytesMut, names: impl Iterator<Item = &'a str>) {
    put_message(out, tag::AUTHENTICATION, |body| {
        body.put_i32(10);
        for name in names {
            put_cstr(body, name.as_bytes());
        }
        put_cstr(body, b"");
    });
}

/// An ErrorResponse of severity FATAL.
///
/// Source: PostgreSQL manual, "Error and Notice Message Fields".
///
/// # Panics
/// When a text holds a NUL.
pub fn put_fatal(
    out: &mut BytesMut,
    sqlstate: &str,
    message: &str,
    detail: Option<&str>,
    hint: Option<&str>,
) {
    let texts = [
        (b'S', Some("FATAL")),
        (b'V', Some("FATAL")),
        (b'C', Some(sqlstate)),
        (b'M', Some(message)),
        (b'D', detail),
        (b'H', hint),
    ];
    put_message(out, tag::ERROR_RESPONSE, |body| {
        for (field, text) in texts {
            if let Some(text) = text {
                body.put_u8(field);
                put_cstr(body, text.as_bytes());
            }
        }
        body.put_u8(0);
    });
}
