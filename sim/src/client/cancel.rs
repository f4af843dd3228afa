//! CancelRequests of a model client, right, wrong, halved, or many at once.
//! Knows nothing of what they cancel.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{Login, daemon};
use crate::plan::Cancel;
use crate::record::violate;
use crate::sock::{Orphans, Sock};
use crate::wire;

impl Login<'_> {
    /// Sends them and waits until each is done with.
    pub(super) async fn cancel(&mut self, orphans: &Orphans) {
        let mut key = self.key.clone().unwrap_or_default();
        let cancel = self.session.pipe.cancel;
        if cancel == Cancel::WrongKey
            && let Some(last) = key.last_mut()
        {
            *last ^= 0xff;
            self.ledger.entry(self.session.number).client.wrong_key = Some(key.clone());
        }
        let code = wire::CANCEL_REQUEST.to_be_bytes();
        let mut packet = wire::packet(&[&code[..], &key].concat());
        if cancel == Cancel::Half {
            packet.truncate(packet.len() / 2);
        }
        let window = self.plan.network.window;
        let mut requests = JoinSet::new();
        for _ in 0..cancel.count().max(1) {
            let (packet, orphans) = (packet.clone(), orphans.clone());
            requests.spawn_local(request(packet, window, orphans, cancel == Cancel::Half));
        }
        while let Some(ended) = requests.join_next().await {
            match ended.unwrap_or(Some(Answer::Reset)) {
                Some(Answer::End) => {
                    self.ledger.entry(self.session.number).client.cancelled += 1;
                }
                Some(Answer::Bytes(bytes)) if !self.may_refuse(bytes.clone()) => {
                    let text = format!("a CancelRequest is answered with {bytes:?}");
                    violate("S3", format!("session {}: {text}", self.session.number));
                }
                Some(Answer::Bytes(_) | Answer::Reset) | None => {}
            }
        }
        sleep(Duration::from_millis(1)).await;
    }

    /// As long as the daemon has not read the whole packet, it is a silent client like others: it
    /// is told when it is crowded out, when its time is over, and in a drain. That nothing is said
    /// to it once it has been read is seen in the kernel.
    fn may_refuse(&self, mut answer: Vec<u8>) -> bool {
        let is_error = answer.first() == Some(&b'E');
        let Some((_, body)) = wire::take(&mut answer).filter(|_| is_error) else {
            // Who is crowded out, or there when all is stopped, is closed at once, told or not.
            let plan = self.plan;
            return is_error && (plan.is_crowded() || plan.stops() || plan.is_disruptive());
        };
        let fields = wire::fields(&body).unwrap_or_default();
        let code = fields.iter().find(|(kind, _)| *kind == b'C').map(|(_, code)| code.as_str());
        let plan = self.plan;
        answer.is_empty()
            && match code {
                Some("53300") => plan.is_crowded(),
                Some("57014") => plan.is_hasty() || !plan.events.is_empty(),
                // A run that is over ends the daemon: what never came whole is still there then.
                Some("57P03") => plan.ends_at().is_some() || plan.is_disruptive(),
                _ => false,
            }
    }
}

/// How a connection with a CancelRequest ended.
enum Answer {
    End,
    Bytes(Vec<u8>),
    Reset,
}

async fn request(packet: Vec<u8>, window: usize, orphans: Orphans, half: bool) -> Option<Answer> {
    let mut sock = Sock::connect(daemon(), window, &orphans).await.ok()?;
    let mut rest = &packet[..];
    while let Ok(count @ 1..) = sock.write(rest).await {
        rest = &rest[count..];
        if rest.is_empty() {
            break;
        }
    }
    if half {
        return None;
    }
    let mut answer = Vec::new();
    let mut space = [0; 256];
    loop {
        match sock.read(&mut space).await {
            Ok(0) if answer.is_empty() => return Some(Answer::End),
            Ok(0) => return Some(Answer::Bytes(answer)),
            Ok(count) => answer.extend_from_slice(&space[..count]),
            Err(_) if answer.is_empty() => return Some(Answer::Reset),
            Err(_) => return Some(Answer::Bytes(answer)),
        }
    }
}
