//! PostgreSQL's protocol in bare bytes, for what no driver would send or show. Every read and
//! write has a deadline. Serves both ends: a raw client, and a fake upstream's connection.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::DEADLINE;
use crate::session::startup;

/// One message behind the startup phase: its tag and what stands behind the length word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub tag: u8,
    pub body: Vec<u8>,
}

impl Message {
    pub fn new(tag: u8, body: impl Into<Vec<u8>>) -> Message {
        Message { tag, body: body.into() }
    }

    pub fn authentication_ok() -> Message {
        Message::new(b'R', 0i32.to_be_bytes())
    }

    pub fn parameter_status(name: &str, value: &str) -> Message {
        Message::new(b'S', format!("{name}\0{value}\0"))
    }

    pub fn backend_key_data(pid: i32, key: [u8; 4]) -> Message {
        Message::new(b'K', [pid.to_be_bytes(), key].concat())
    }

    pub fn ready_for_query() -> Message {
        Message::new(b'Z', b"I")
    }

    pub fn error(severity: &str, sqlstate: &str, text: &str) -> Message {
        Message::new(b'E', format!("S{severity}\0V{severity}\0C{sqlstate}\0M{text}\0\0"))
    }

    pub fn query(sql: &str) -> Message {
        Message::new(b'Q', format!("{sql}\0"))
    }

    pub fn password(password: &str) -> Message {
        Message::new(b'p', format!("{password}\0"))
    }

    /// The next one, from whatever carries them.
    pub fn read(from: &mut impl Read) -> io::Result<Message> {
        let mut head = [0; 5];
        from.read_exact(&mut head)?;
        let [tag, length @ ..] = head;
        let length = usize::try_from(i32::from_be_bytes(length)).ok();
        let length = length.and_then(|length| length.checked_sub(4));
        let Some(length) = length else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "bad message length"));
        };
        let mut body = vec![0; length];
        from.read_exact(&mut body)?;
        Ok(Message { tag, body })
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.tag];
        bytes.extend(length_word(self.body.len() + 4));
        bytes.extend(&self.body);
        bytes
    }

    /// The values of a DataRow.
    ///
    /// # Panics
    /// When it is another message, or none that PostgreSQL would send.
    pub fn values(&self) -> Vec<Option<Vec<u8>>> {
        assert_eq!(self.tag, b'D', "{self:?}");
        let count = i16::from_be_bytes([self.body[0], self.body[1]]);
        let mut rest = &self.body[2..];
        let mut values = Vec::new();
        for _ in 0..count {
            let (length, behind) = rest.split_first_chunk::<4>().expect("a length word");
            let length = i32::from_be_bytes(*length);
            let (value, behind) = behind.split_at(usize::try_from(length).unwrap_or(0));
            values.push((length >= 0).then(|| value.to_vec()));
            rest = behind;
        }
        assert!(rest.is_empty(), "{self:?}");
        values
    }

    /// The fields of an ErrorResponse or NoticeResponse.
    ///
    /// # Panics
    /// When it is another message, or lacks what PostgreSQL always sends.
    pub fn error_fields(&self) -> ErrorFields {
        assert!(matches!(self.tag, b'E' | b'N'), "no ErrorResponse: {self:?}");
        assert!(self.body.ends_with(b"\0\0"), "{self:?}");
        let text = String::from_utf8_lossy(&self.body);
        let field = |code: char| {
            text.split('\0').find_map(|field| field.strip_prefix(code)).map(str::to_owned)
        };
        ErrorFields {
            severity: field('S').expect("a severity"),
            sqlstate: field('C').expect("an SQLSTATE"),
            message: field('M').expect("a message"),
            detail: field('D'),
            hint: field('H'),
        }
    }
}

/// What an ErrorResponse says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorFields {
    pub severity: String,
    pub sqlstate: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

/// A socket that speaks in bytes and messages.
#[derive(Debug)]
pub enum Raw {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Raw {
    pub fn tcp(address: SocketAddr) -> Raw {
        Raw::from_tcp(TcpStream::connect_timeout(&address, DEADLINE).expect("it listens"))
    }

    pub fn from_tcp(stream: TcpStream) -> Raw {
        stream.set_nodelay(true).expect("an open socket");
        stream.set_read_timeout(Some(DEADLINE)).expect("an open socket");
        stream.set_write_timeout(Some(DEADLINE)).expect("an open socket");
        Raw::Tcp(stream)
    }

    pub fn unix(path: &Path) -> Raw {
        let stream = UnixStream::connect(path).expect("it listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("an open socket");
        stream.set_write_timeout(Some(DEADLINE)).expect("an open socket");
        Raw::Unix(stream)
    }

    /// A second handle on the same socket.
    pub fn try_clone(&self) -> io::Result<Raw> {
        Ok(match self {
            Raw::Tcp(stream) => Raw::Tcp(stream.try_clone()?),
            Raw::Unix(stream) => Raw::Unix(stream.try_clone()?),
        })
    }

    /// The address of its own end of a TCP connection: the daemon's log knows it as `client`.
    pub fn local_address(&self) -> SocketAddr {
        match self {
            Raw::Tcp(stream) => stream.local_addr().expect("an open socket"),
            Raw::Unix(_) => panic!("a unix socket has no address"),
        }
    }

    /// Another limit on each read than the usual one.
    pub fn set_read_timeout(&mut self, timeout: Duration) {
        let result = match self {
            Raw::Tcp(stream) => stream.set_read_timeout(Some(timeout)),
            Raw::Unix(stream) => stream.set_read_timeout(Some(timeout)),
        };
        result.expect("an open socket");
    }

    /// Another limit on each write than the usual one.
    pub fn set_write_timeout(&mut self, timeout: Duration) {
        let result = match self {
            Raw::Tcp(stream) => stream.set_write_timeout(Some(timeout)),
            Raw::Unix(stream) => stream.set_write_timeout(Some(timeout)),
        };
        result.expect("an open socket");
    }

    /// # Panics
    /// When the other end does not take the bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        self.write_all(bytes).expect("the other end takes the bytes");
    }

    pub fn send_message(&mut self, message: &Message) {
        self.send(&message.to_bytes());
    }

    pub fn send_startup(&mut self, parameters: &[(&str, &str)]) {
        self.send(&startup(parameters));
    }

    /// Ends the sending direction only.
    pub fn shutdown_write(&mut self) {
        let _ = match self {
            Raw::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Raw::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    /// Ends both directions, of all handles.
    pub fn shutdown(&mut self) {
        let _ = match self {
            Raw::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Raw::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    pub fn try_read_message(&mut self) -> io::Result<Message> {
        Message::read(self)
    }

    /// # Panics
    /// When no whole message comes.
    pub fn read_message(&mut self) -> Message {
        self.try_read_message().expect("a whole message comes")
    }

    /// All messages up to and with the first of these tags.
    pub fn read_until(&mut self, tags: &[u8]) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            messages.push(self.read_message());
            if messages.last().is_some_and(|message| tags.contains(&message.tag)) {
                return messages;
            }
        }
    }

    /// Everything until the other end closes.
    ///
    /// # Panics
    /// When it does not close, or resets the connection.
    pub fn read_to_close(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).expect("the other end closes in good order");
        bytes
    }

    /// Reads the ErrorResponse that must come next, and the close that must follow it.
    pub fn read_refusal(&mut self) -> ErrorFields {
        let fields = self.read_message().error_fields();
        assert_eq!(self.read_to_close(), b"", "nothing follows {fields:?}");
        fields
    }

    /// Logs in where no password is asked for; answers with the messages up to ReadyForQuery.
    pub fn login(&mut self, user: &str, database: &str) -> Vec<Message> {
        self.send_startup(&[("user", user), ("database", database)]);
        let messages = self.read_until(b"ZE");
        let last = messages.last().expect("at least one message");
        assert_eq!(last.tag, b'Z', "{user} does not get in: {:?}", last.error_fields());
        messages
    }

    /// Runs a simple query; answers with the messages up to ReadyForQuery.
    pub fn query(&mut self, sql: &str) -> Vec<Message> {
        self.send_message(&Message::query(sql));
        self.read_until(b"Z")
    }

    /// Runs a simple query that yields one value.
    pub fn query_value(&mut self, sql: &str) -> String {
        let messages = self.query(sql);
        let row = messages.iter().find(|message| message.tag == b'D');
        let row = row.unwrap_or_else(|| panic!("no row from {sql}: {messages:?}"));
        let value = row.values().remove(0).expect("not null");
        String::from_utf8(value).expect("text")
    }

    /// As a fake upstream: the parameters of the StartupMessage that must come first.
    pub fn read_startup(&mut self) -> Vec<(String, String)> {
        let mut length = [0; 4];
        self.read_exact(&mut length).expect("a length word");
        let length = usize::try_from(i32::from_be_bytes(length)).expect("a length");
        let mut body = vec![0; length - 4];
        self.read_exact(&mut body).expect("a whole packet");
        assert_eq!(body[..2], [0, 3], "no StartupMessage");
        let text = String::from_utf8_lossy(&body[4..]).into_owned();
        let text = text.strip_suffix("\0\0").expect("a NUL behind the last value and one more");
        let words: Vec<String> = text.split('\0').map(str::to_owned).collect();
        words.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
    }
}

impl Read for Raw {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match self {
                Raw::Tcp(stream) => stream.read(buffer),
                Raw::Unix(stream) => stream.read(buffer),
            };
            // A machine that was halted meanwhile breaks off a read that has a timeout.
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

impl Write for Raw {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Raw::Tcp(stream) => stream.write(bytes),
            Raw::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn length_word(length: usize) -> [u8; 4] {
    u32::try_from(length).expect("a message below 4 GiB").to_be_bytes()
}
