//! The batch as the model PostgreSQL reads and answers it.

use std::time::Duration;

use super::Backend;
use crate::ledger::role;
use crate::plan::{Fate, Lie, SealBind};
use crate::record::{self, applied, violate};
use crate::talk::Stop;
use crate::wire::{self, CANARY};

impl Backend<'_> {
    /// Reads the batch up to its Sync: these messages in this order with these values, no other.
    pub(super) async fn hear_batch(&mut self) -> Result<(), Stop> {
        let mut tags = Vec::new();
        let mut binds = Vec::new();
        let (mut verified, mut asked, mut reached) = (0, 0, 0);
        let (mut privileges, mut verdicts, mut spellings) = (0, 0, 0);
        loop {
            let (tag, body) = self.talk.hear().await?;
            tags.push(tag);
            if tag == b'P' {
                let sql = String::from_utf8_lossy(&body);
                privileges += sql.matches("r.rolbypassrls").count();
                verdicts += sql.matches("public.multigres_verdict()").count();
                spellings += sql.matches("public.multigres_misspelt()").count();
                verified += sql.matches("public.multigres_context($").count();
                asked += sql.matches("'multigres_seal_keys'").count();
                reached += sql.matches("acldefault('r', c.relowner)").count();
            }
            match tag {
                b'P' if !is_parse_of_a_qualified_select(&body) => self.is_wrong("Parse"),
                b'B' => binds.push(bound(&body).unwrap_or_default()),
                b'E' if body != b"\0\0\0\0\0" => self.is_wrong("Execute"),
                b'C' if body != b"S\0" => self.is_wrong("Close"),
                _ => {}
            }
            if tag == b'S' || tags.len() > BATCH_MESSAGES_MAX {
                break;
            }
        }
        let (variables, has_seal) = match self.plan.daemon.seal {
            Some(_) => (self.plan.daemon.variables, 1),
            None => (0, 0),
        };
        let all = [variables, 1, has_seal, 1, 1, 1];
        let short = [variables, 0, 0, 0, 0, 1];
        match [verified, asked, reached, privileges, verdicts, spellings] {
            counts if counts == all => self.asked = Some(record::now()),
            counts if counts == short => self.check_known(),
            counts => self.is_wrong(&format!("asking so often: {counts:?}")),
        }
        let (names, pairs) = self.names_and_pairs();
        let (expected_tags, expected): (&[u8], _) = if self.plan.daemon.pooler {
            (b"PBEPBECS", vec![pairs, names])
        } else {
            (b"PBEPBEPBECS", vec![names.clone(), pairs, names])
        };
        if tags != expected_tags || binds != expected {
            self.is_wrong(&format!("batch {:?} {binds:?}", String::from_utf8_lossy(&tags)));
            return Err(Stop::Own);
        }
        Ok(())
    }

    /// What the batch leaves out, an earlier one was told.
    fn check_known(&mut self) {
        applied("S12");
        let ttl = Duration::from_millis(self.plan.daemon.verify_ttl_ms);
        let address = self.talk.sock().local_addr().expect("it is open");
        let knowledge = self.ledger.knowledge();
        if let Some(why) = knowledge.objection(self.session, self.accepted, address, ttl) {
            let number = self.session.number;
            violate("S12", format!("session {number} leaves questions out, and {why}"));
        }
    }

    fn is_wrong(&self, what: &str) {
        violate(
            "S1",
            format!("session {}: {what} is not what the batch holds", self.session.number),
        );
    }

    fn names_and_pairs(&self) -> (Vec<String>, Vec<String>) {
        let names = self.context.iter().map(|(name, _)| name.clone()).collect();
        let mut pairs: Vec<String> =
            self.context.iter().cloned().flat_map(|(name, value)| [name, value]).collect();
        pairs.extend(["role".to_owned(), role(self.session)]);
        (names, pairs)
    }

    /// The answer, right or as wrong as the script has it.
    pub(super) fn answer(&self) -> Vec<u8> {
        let lie = match self.session.script.fate {
            Fate::Lie(lie) => Some(lie),
            _ => None,
        };
        let mut out = Vec::new();
        match lie {
            Some(Lie::Error) => {
                out.extend(wire::report(b'E', "ERROR", "42501", CANARY));
                out.extend(wire::ready_for_query(b'I'));
                return out;
            }
            Some(Lie::LengthZero) => out.extend([b'1', 0, 0, 0, 0]),
            Some(Lie::LengthThree) => out.extend([b'1', 0, 0, 0, 3]),
            Some(Lie::LengthHuge) => out.extend([b'1', 0x7f, 0xff, 0xff, 0xff]),
            Some(Lie::CopyIn) => out.extend(wire::message(b'G', &[0, 0, 0])),
            Some(Lie::Notification) => {
                let body = [&self.pid.to_be_bytes()[..], &wire::text("channel"), &[0]].concat();
                out.extend(wire::message(b'A', &body));
            }
            Some(Lie::AnswerTwice) => {
                out.extend([wire::message(b'1', &[]), wire::message(b'2', &[])].concat());
            }
            Some(Lie::SuperuserLate) => out.extend(wire::parameter_status("is_superuser", "on")),
            _ => {}
        }
        let values: Vec<String> = self.context.iter().map(|(_, value)| value.clone()).collect();
        let role = role(self.session);
        if !self.plan.daemon.pooler {
            out.extend(statement(&swap(&values, lie == Some(Lie::WrongDefault)), lie, None));
        }
        let mut bound = swap(&values, lie == Some(Lie::WrongBound));
        bound.push(Some(role.clone()));
        out.extend(statement(&bound, lie, Some(Lie::ExtraRow)));
        out.extend(statement(&self.session_row(&values, &role, lie), lie, Some(Lie::MissingRow)));
        out.extend(wire::message(b'3', &[]));
        out.extend(wire::ready_for_query(match lie {
            Some(Lie::StatusT) => b'T',
            Some(Lie::StatusE) => b'E',
            _ => b'I',
        }));
        if self.session.script.talkative { interleaved(out) } else { out }
    }

    fn session_row(&self, values: &[String], role: &str, lie: Option<Lie>) -> Vec<Option<String>> {
        let mut row = swap(values, lie == Some(Lie::WrongValue));
        if lie == Some(Lie::NullValue) {
            row[0] = None;
        }
        row.push(Some(if lie == Some(Lie::WrongUser) { "postgres".into() } else { role.into() }));
        row.push(Some(role.into()));
        if self.asked.is_some() {
            row.push(match lie {
                Some(Lie::Privileged) => Some("1".into()),
                Some(Lie::PrivilegedNull) => None,
                _ => Some("0".into()),
            });
        }
        let pid = if lie == Some(Lie::WrongPid) { self.pid + 1 } else { self.pid };
        row.push(Some(pid.to_string()));
        // A key that is another one, or that the role can read.
        let is_wrong = lie == Some(Lie::OtherKey);
        let is_read = is_wrong && self.plan.daemon.seal == Some(SealBind::None);
        let is_other = is_wrong && !is_read;
        if self.plan.daemon.seal.is_some() {
            // Each value has its seal behind it.
            let values = values.iter().step_by(2);
            row.extend(values.map(|value| Some(value.clone()).filter(|_| !is_other)));
        }
        match self.plan.daemon.seal {
            _ if self.asked.is_none() => {}
            None => row.push(Some(u8::from(is_wrong).to_string())),
            Some(_) => {
                row.push(Some("t".into()));
                row.push(is_read.then(|| "SELECT is granted to PUBLIC".into()));
            }
        }
        let is_open = self.asked.is_some() && lie == Some(Lie::GuardOpen);
        row.push(Some(
            if is_open { "open: public.t: row-level security is off" } else { "held" }.into(),
        ));
        if lie == Some(Lie::ExtraColumn) {
            row.push(Some("more".into()));
        }
        row
    }
}

/// The answer to Parse, Bind and Execute of one statement, in which `own` is told if it is the lie.
fn statement(row: &[Option<String>], lie: Option<Lie>, own: Option<Lie>) -> Vec<u8> {
    let columns: Vec<Option<&[u8]>> =
        row.iter().map(|column| column.as_ref().map(|text| text.as_bytes())).collect();
    let rows = match own.filter(|own| lie == Some(*own)) {
        Some(Lie::ExtraRow) => 2,
        Some(Lie::MissingRow) => 0,
        _ => 1,
    };
    let mut out = [wire::message(b'1', &[]), wire::message(b'2', &[])].concat();
    for _ in 0..rows {
        out.extend(wire::data_row(&columns));
    }
    out.extend(match lie {
        Some(Lie::EmptyQuery) => wire::message(b'I', &[]),
        Some(Lie::NotOneRow) => wire::command_complete("SELECT 2"),
        _ => wire::command_complete("SELECT 1"),
    });
    out
}

/// What PostgreSQL may say at any time, before each message. Garbage stays as it is.
fn interleaved(mut answer: Vec<u8>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut place = 0;
    while let Some((tag, body)) = wire::take(&mut answer) {
        out.extend(match place % 2 {
            0 => wire::report(b'N', "NOTICE", "00000", format!("at {place}")),
            _ => wire::parameter_status("application_name", format!("at {place}")),
        });
        out.extend(wire::message(tag, &body));
        place += 1;
    }
    [out, answer].concat()
}

fn swap(values: &[String], wrong: bool) -> Vec<Option<String>> {
    let other = |value: &String| if wrong { format!("{value}x") } else { value.clone() };
    values.iter().map(|value| Some(other(value))).collect()
}

/// Of the unnamed statement; every function and operator call in it is qualified.
fn is_parse_of_a_qualified_select(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body);
    let Some(sql) = text.strip_prefix("\0SELECT ") else { return false };
    sql.match_indices('(').all(|(at, _)| {
        let before = &sql[..at];
        let start = before.rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.'));
        let name = &before[start.map_or(0, |at| at + 1)..];
        let is_operator = name == "OPERATOR" && sql[at + 1..].starts_with("pg_catalog.");
        name.is_empty()
            || name.starts_with("pg_catalog.")
            || is_operator
            || name == "public.multigres_context"
            || name == "public.multigres_verdict"
            || name == "public.multigres_misspelt"
    })
}

/// The parameters of a Bind, all in text format.
fn bound(body: &[u8]) -> Option<Vec<String>> {
    let rest = body.strip_prefix(b"\0\0\0\0")?;
    let (count, mut rest) = rest.split_first_chunk::<2>()?;
    let mut values = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (value, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        values.push(String::from_utf8_lossy(value).into_owned());
        rest = after;
    }
    (rest == b"\0\0").then_some(values)
}

const BATCH_MESSAGES_MAX: usize = 32;
