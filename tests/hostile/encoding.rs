//! Client encodings in which a byte of a character may look like a quote or a backslash.

use crate::packets::{VERSION_3, startup};
use testing::{Daemon, TENANTS};

use crate::after_attack::{Unreached, assert_serves};

const ENCODINGS: [&str; 14] = [
    "SJIS",
    "SHIFT_JIS_2004",
    "GBK",
    "GB18030",
    "BIG5",
    "UHC",
    "JOHAB",
    "EUC_JP",
    "EUC_JIS_2004",
    "EUC_KR",
    "EUC_CN",
    "EUC_TW",
    "LATIN1",
    "SQL_ASCII",
];

#[test]
fn a_value_of_quotes_and_backslashes_is_the_same_value_in_every_client_encoding() {
    let daemon = Daemon::start();
    for encoding in ENCODINGS {
        for value in ["\\", "'", "\\'; select 1; --", "a\\", "~\\|^`{}@[]", "''", "acme' or 'a'='a"]
        {
            let user = format!("app_user.{value}");
            let mut raw = daemon.raw();
            raw.send(&startup(
                VERSION_3,
                &[
                    (b"user", user.as_bytes()),
                    (b"client_encoding", encoding.as_bytes()),
                    (b"options", b"-c standard_conforming_strings=off -c backslash_quote=on"),
                    (b"database", TENANTS.as_bytes()),
                ],
            ));
            let last = raw.read_until(b"ZE").pop().unwrap();
            assert_eq!(last.tag, b'Z', "{encoding} {value}: {last:?}");
            let hex = raw.query_value(
                "select encode(convert_to(current_setting('app.current_tenant_id'), 'UTF8'),
                 'hex')",
            );
            let expected: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, expected, "{encoding} {value}");
            assert_eq!(raw.query_value("select count(*)::text from contacts"), "0");
        }
    }
    assert_serves(&daemon);
}

#[test]
fn a_tenant_is_the_same_tenant_in_every_client_encoding() {
    let daemon = Daemon::start();
    for encoding in ENCODINGS {
        let mut raw = daemon.raw();
        raw.send(&startup(
            VERSION_3,
            &[
                (b"user", b"app_user.acme"),
                (b"Client_Encoding", encoding.as_bytes()),
                (b"database", TENANTS.as_bytes()),
            ],
        ));
        assert_eq!(raw.read_until(b"ZE").pop().unwrap().tag, b'Z', "{encoding}");
        for reset in ["select", "reset all", "discard all"] {
            raw.query(reset);
            let rows = raw.query_value("select string_agg(name, ' ') from contacts");
            assert_eq!(rows, "Ada Alan", "{encoding} {reset}");
        }
    }
    assert_serves(&daemon);
}

#[test]
fn a_value_with_the_lead_byte_of_a_character_is_refused() {
    let unreached = Unreached::start();
    for tail in [b"\\".as_slice(), b"'", b"' or 1=1", b"\\'", b""] {
        for lead in [0x81, 0x8f, 0x95, 0xa1, 0xbf, 0xe0, 0xfc, 0xff] {
            let user = [b"app_user.a", [lead].as_slice(), tail].concat();
            for encoding in ["SJIS", "GBK", "BIG5"] {
                let parameters = [
                    (b"user".as_slice(), user.as_slice()),
                    (b"client_encoding", encoding.as_bytes()),
                ];
                unreached.refuses(&startup(VERSION_3, &parameters), "28000");
            }
        }
    }
    unreached.assert_untouched();
}
