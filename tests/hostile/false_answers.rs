//! Upstreams that answer in good form and not the truth: a login is not let through by a word that
//! only looks right.

use crate::after_attack::assert_serves;
use crate::man_in_the_middle::{Change, Middle, Place};
use testing::{Message, Run};

use crate::broken_upstreams::{login, refused};

/// A way to forge one message of the login; `None` where it is not the one.
type Forgery = fn(Place, &Message) -> Option<Vec<u8>>;

fn row(values: &[Option<&str>]) -> Vec<u8> {
    let mut body = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
    for value in values {
        match value {
            None => body.extend((-1i32).to_be_bytes()),
            Some(text) => {
                body.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
                body.extend(text.as_bytes());
            }
        }
    }
    Message::new(b'D', body).to_bytes()
}

/// The row again, with its columns changed.
fn columns(message: &Message, change: impl Fn(&mut Vec<Option<String>>)) -> Option<Vec<u8>> {
    if message.tag != b'D' {
        return None;
    }
    let text = |value: Vec<u8>| String::from_utf8(value).unwrap();
    let mut values: Vec<_> = message.values().into_iter().map(|value| value.map(text)).collect();
    change(&mut values);
    let values: Vec<_> = values.iter().map(Option::as_deref).collect();
    Some(row(&values))
}

const FORGERIES: [(&str, Forgery); 21] = [
    ("other values", |_, message| {
        columns(message, |values| {
            for value in values.iter_mut().flatten().filter(|value| *value == "acme") {
                *value = "globex".into();
            }
        })
    }),
    ("a prefix of the value", |_, message| {
        columns(message, |values| {
            for value in values.iter_mut().flatten().filter(|value| *value == "acme") {
                *value = "acm".into();
            }
        })
    }),
    ("the value and more", |_, message| {
        columns(message, |values| {
            for value in values.iter_mut().flatten().filter(|value| *value == "acme") {
                *value = "acme ".into();
            }
        })
    }),
    ("NULL in the first column", |_, message| columns(message, |values| values[0] = None)),
    ("NULL in the last column", |_, message| {
        columns(message, |values| *values.last_mut().unwrap() = None)
    }),
    ("empty text in the first column", |_, message| {
        columns(message, |values| values[0] = Some(String::new()))
    }),
    ("one column more", |_, message| columns(message, |values| values.push(Some("acme".into())))),
    ("one column less", |_, message| columns(message, |values| drop(values.pop()))),
    ("no columns", |_, message| columns(message, Vec::clear)),
    ("columns in another order", |_, message| {
        (message.tag == b'D' && message.values().len() > 1)
            .then(|| columns(message, |values| values.rotate_left(1)))
            .flatten()
    }),
    ("more columns than there are", |_, message| {
        let body = [0x7f, 0xff].iter().chain(message.body.iter().skip(2)).copied();
        (message.tag == b'D').then(|| Message::new(b'D', body.collect::<Vec<_>>()).to_bytes())
    }),
    ("a negative count of columns", |_, message| {
        let body = [0xff, 0xff].iter().chain(message.body.iter().skip(2)).copied();
        (message.tag == b'D').then(|| Message::new(b'D', body.collect::<Vec<_>>()).to_bytes())
    }),
    ("a column beyond the end", |_, message| {
        let body = b"\0\x01\x7f\xff\xff\xffacme".as_slice();
        (message.tag == b'D').then(|| Message::new(b'D', body).to_bytes())
    }),
    ("a column of a negative length", |_, message| {
        let body = b"\0\x01\xff\xff\xff\xfeacme".as_slice();
        (message.tag == b'D').then(|| Message::new(b'D', body).to_bytes())
    }),
    ("another command", |_, message| {
        (message.tag == b'C').then(|| Message::new(b'C', b"SELECT 2\0".as_slice()).to_bytes())
    }),
    ("no row by the command's word", |_, message| {
        (message.tag == b'C').then(|| Message::new(b'C', b"SELECT 0\0".as_slice()).to_bytes())
    }),
    ("a command without its nul", |_, message| {
        (message.tag == b'C').then(|| Message::new(b'C', b"SELECT 1".as_slice()).to_bytes())
    }),
    ("a transaction", |_, message| {
        (message.tag == b'Z').then(|| Message::new(b'Z', b"T".as_slice()).to_bytes())
    }),
    ("a failed transaction", |place, message| {
        (message.tag == b'Z' && place.readies == 1)
            .then(|| Message::new(b'Z', b"E".as_slice()).to_bytes())
    }),
    ("readiness of two bytes", |_, message| {
        (message.tag == b'Z').then(|| Message::new(b'Z', b"II".as_slice()).to_bytes())
    }),
    ("readiness of none", |_, message| {
        (message.tag == b'Z').then(|| Message::new(b'Z', b"".as_slice()).to_bytes())
    }),
];

#[test]
fn a_forged_answer_to_the_batch_is_refused() {
    let middle = Middle::start(|place, message| {
        FORGERIES[place.attack].1(place, message).map_or(Change::Pass, Change::Say)
    });
    let daemon = Run::upstream(middle.port()).start();
    for (at, (what, _)) in FORGERIES.iter().enumerate() {
        refused(&mut login(&daemon, at), &["08P01", "08004"], what);
    }
    assert_serves(&daemon);
}

const FALSE_GREETINGS: [(&str, &[&str], Forgery); 14] = [
    ("no BackendKeyData", &["08004"], |_, message| (message.tag == b'K').then(Vec::new)),
    ("BackendKeyData twice", &["08P01"], |_, message| {
        (message.tag == b'K').then(|| [message.to_bytes(), message.to_bytes()].concat())
    }),
    ("another pid", &["08004"], |_, message| {
        (message.tag == b'K').then(|| Message::backend_key_data(1, *b"keys").to_bytes())
    }),
    ("a key of three bytes", &["08P01"], |_, message| {
        (message.tag == b'K').then(|| Message::new(b'K', message.body[..7].to_vec()).to_bytes())
    }),
    ("a key of 257 bytes", &["08P01"], |_, message| {
        let body = [&message.body[..4], &[7; 257]].concat();
        (message.tag == b'K').then(|| Message::new(b'K', body).to_bytes())
    }),
    ("a superuser", &["28000"], |_, message| {
        message
            .body
            .starts_with(b"is_superuser\0")
            .then(|| Message::parameter_status("is_superuser", "on").to_bytes())
    }),
    ("a superuser by the way", &["28000"], |_, message| {
        let status = Message::parameter_status("is_superuser", "on").to_bytes();
        (message.tag == b'2').then(|| [status, message.to_bytes()].concat())
    }),
    ("a ParameterStatus that is none", &["08P01"], |_, message| {
        (message.tag == b'S').then(|| Message::new(b'S', b"canary".as_slice()).to_bytes())
    }),
    ("AuthenticationOk twice", &["08P01"], |_, message| {
        (message.tag == b'R').then(|| [message.to_bytes(), message.to_bytes()].concat())
    }),
    ("a password request behind AuthenticationOk", &["08P01"], |_, message| {
        let request = Message::new(b'R', 3i32.to_be_bytes()).to_bytes();
        (message.tag == b'R').then(|| [message.to_bytes(), request].concat())
    }),
    ("an Authentication of no code", &["08P01"], |_, message| {
        (message.tag == b'R').then(|| Message::new(b'R', b"\0\0".as_slice()).to_bytes())
    }),
    ("an Authentication of an unknown code", &["08P01"], |_, message| {
        (message.tag == b'R').then(|| Message::new(b'R', 99i32.to_be_bytes()).to_bytes())
    }),
    ("readiness twice before the batch", &["08004", "08P01"], |place, message| {
        (message.tag == b'Z' && place.readies == 0)
            .then(|| [message.to_bytes(), message.to_bytes()].concat())
    }),
    ("nothing but readiness", &["08P01"], |_, message| {
        (message.tag == b'R').then(|| Message::ready_for_query().to_bytes())
    }),
];

#[test]
fn a_false_greeting_is_refused() {
    let middle = Middle::start(|place, message| {
        FALSE_GREETINGS[place.attack].2(place, message).map_or(Change::Pass, Change::Say)
    });
    let daemon = Run::upstream(middle.port()).start();
    for (at, (what, sqlstates, _)) in FALSE_GREETINGS.iter().enumerate() {
        refused(&mut login(&daemon, at), sqlstates, what);
    }
    assert_serves(&daemon);
}
