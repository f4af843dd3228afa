//! What strangers can make the daemon write into its log.

use crate::after_attack::Unreached;
use crate::packets::{VERSION_3, startup};

#[test]
fn what_a_stranger_sends_does_not_fill_the_log() {
    let unreached = Unreached::start();
    let long = vec![1; 9000];
    for user in [long.clone(), [b"app_user.".as_slice(), &long].concat()] {
        unreached.refuses(&startup(VERSION_3, &[(b"user", &user)]), "28000");
    }
    let twice = [
        (b"user".as_slice(), b"app_user.acme".as_slice()),
        (&long[..4000], b""),
        (&long[..4000], b""),
    ];
    unreached.refuses(&startup(VERSION_3, &twice), "08P01");
    unreached.assert_untouched();
    for line in unreached.daemon.log() {
        assert!(line.len() < 1000, "a line of {} bytes for one of 9000: {:.200}", line.len(), line);
    }
}

#[test]
fn what_a_stranger_sends_stays_within_its_line_of_the_log() {
    let unreached = Unreached::start();
    for text in ["a\nb", "a\r\nb", "\u{1b}[2Jx", "a\" up role=postgres", "a\u{2028}b", "a\\\"b"] {
        let user = format!("app_user.{text}\u{7f}");
        unreached.refuses(&startup(VERSION_3, &[(b"user", user.as_bytes())]), "28000");
    }
    unreached.assert_untouched();
    for line in unreached.daemon.log() {
        assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line:?}");
        assert!(!line.contains(" up role=postgres") || line.contains("\\\" up role"), "{line}");
        assert!(["[INFO]", "[WARN]", "[DEBUG]"].iter().any(|level| line.contains(level)), "{line}");
    }
}
