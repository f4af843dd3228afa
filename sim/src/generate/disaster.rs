//! What befalls the network and the hosts of a plan.
//! Changing anything here changes what every seed means.

use super::HEALTHY_MS;
use crate::plan::{Event, Happening, Profile};
use crate::rng::Rng;

/// The events of a plan with so many client hosts, which in a liveness run leave the core whole.
pub(super) fn events(rng: &mut Rng, profile: Profile, hosts: usize) -> Vec<Event> {
    let mut events = Vec::new();
    let mut add = |at_ms: u64, what: Happening| events.push(Event { at_ms, what });
    let drains = if profile == Profile::Liveness { 0 } else { 6 };
    if rng.percent(drains) {
        // Often in the midst of the logins.
        let latest = rng.pick(&[60, 120, 400]);
        add(rng.within(20..latest), Happening::Drain);
    }
    if profile == Profile::Quiet {
        return events;
    }
    if rng.percent(drains / 2) {
        add(rng.within(20..600), Happening::Stop);
    }
    let latest = HEALTHY_MS - 100;
    if rng.percent(12) {
        let at = rng.within(0..600);
        add(at, Happening::HoldUpstream);
        add((at + rng.within(1..600)).min(latest), Happening::ReleaseUpstream);
    }
    if rng.percent(12) {
        let (at, host) = (rng.within(30..600), rng.size(0..hosts));
        add(at, Happening::HoldClient(host));
        add((at + rng.within(1..600)).min(latest), Happening::ReleaseClient(host));
    }
    if rng.percent(8) {
        // Link after link falls still, and they come back in another order.
        for host in 0..hosts {
            add(rng.within(30..300), Happening::HoldClient(host));
            add(rng.within(300..700), Happening::ReleaseClient(host));
        }
        add(rng.within(30..300), Happening::HoldUpstream);
        add(rng.within(300..700), Happening::ReleaseUpstream);
    }
    let disasters = if profile == Profile::Liveness { 60 } else { 5 };
    if rng.percent(disasters) {
        let host = rng.size(0..hosts);
        let what = rng.pick(&[
            Happening::PartitionClient(host),
            Happening::PartitionFromClient(host),
            Happening::PartitionToClient(host),
            Happening::HoldClient(host),
        ]);
        // What was held before must not be released afterwards.
        add(rng.within(30..800), what);
    }
    if rng.percent(disasters) {
        let at = if rng.percent(20) { 0 } else { rng.within(30..700) };
        add(at, Happening::CrashUpstream);
        add((at + rng.within(1..400)).min(latest), Happening::BounceUpstream);
    }
    events
}
