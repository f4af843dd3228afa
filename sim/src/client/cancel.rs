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
        // Before it is whole, it may be too late or too much for it.
        let plan = self.plan;
        let excused = cancel == Cancel::Half
            || plan.is_hasty()
            || !plan.events.is_empty()
            || plan.sessions.len() > plan.daemon.connections_max;
        while let Some(ended) = requests.join_next().await {
            match ended.unwrap_or(Some(Answer::Reset)) {
                Some(Answer::End) => {
                    self.ledger.entry(self.session.number).client.cancelled += 1;
                }
                Some(Answer::Bytes) if !excused => {
                    violate(
                        "S3",
                        format!("session {}: a CancelRequest is answered", self.session.number),
                    );
                }
                Some(Answer::Bytes | Answer::Reset) | None => {}
            }
        }
        sleep(Duration::from_millis(1)).await;
    }
}

/// How a connection with a CancelRequest ended.
enum Answer {
    End,
    Bytes,
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
    let mut space = [0; 16];
    Some(match sock.read(&mut space).await {
        Ok(0) => Answer::End,
        Ok(_) => Answer::Bytes,
        Err(_) => Answer::Reset,
    })
}
