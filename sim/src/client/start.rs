//! The first packets of a model client, right or wrong.
//! Knows nothing of what is answered.

use super::Login;
use crate::ledger::database;
use crate::plan::BadStart;
use crate::wire;

impl Login<'_> {
    pub(super) fn startup(&self, user: &str, more: &[(&str, &str)]) -> Vec<u8> {
        let mut body = wire::PROTOCOL_3_0.to_be_bytes().to_vec();
        let application = format!("sim-{}", self.session.number);
        let own = [
            ("user", user),
            ("database", database(self.session)),
            ("application_name", &application),
        ];
        for (name, value) in own.iter().chain(more) {
            body.extend(wire::text(name));
            body.extend(wire::text(value));
        }
        body.push(0);
        wire::packet(&body)
    }

    pub(super) fn bad_start(&self, bad: BadStart) -> Vec<u8> {
        let with_length = |length: u32| {
            let mut bytes = self.startup(&self.user, &[]);
            bytes[..4].copy_from_slice(&length.to_be_bytes());
            bytes
        };
        match bad {
            BadStart::LengthZero => with_length(0),
            BadStart::LengthSeven => with_length(7),
            BadStart::LengthTooBig => with_length(10_005),
            BadStart::LengthNegative => with_length(u32::MAX),
            BadStart::Http => b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            BadStart::ProtocolTwo => {
                let mut bytes = self.startup(&self.user, &[]);
                bytes[5] = 2;
                bytes
            }
            BadStart::SslTwice => {
                let request = wire::packet(&wire::SSL_REQUEST.to_be_bytes());
                // The first is answered with N, behind which the refusal is an ordinary message.
                [request.clone(), request].concat()
            }
            BadStart::Trailing => {
                let mut bytes = self.startup(&self.user, &[]);
                bytes.push(b'x');
                let length = bytes.len() as u32;
                bytes[..4].copy_from_slice(&length.to_be_bytes());
                bytes
            }
            BadStart::UserTwice => self.startup(&self.user, &[("user", "postgres")]),
            BadStart::Context => self.startup(&self.user, &[("APP.Context_0", "other")]),
            BadStart::Role => self.startup(&self.user, &[("ROLE", "postgres")]),
            BadStart::Replication => self.startup(&self.user, &[("replication", "database")]),
            BadStart::NoTenant => self.startup("app_0", &[]),
            BadStart::BypassTenant => {
                let values = vec!["tenant"; self.plan.daemon.variables].join(":");
                self.startup(&format!("postgres.{values}"), &[])
            }
            BadStart::ManyValues => self.startup(&format!("{}:more", self.user), &[]),
        }
    }
}
