//! The seals that a sealed model PostgreSQL expects.
//! Written from their definition, without the daemon's code, as `sql/setup.sql` computes them.

use std::net::{IpAddr, SocketAddr};

use sha2::{Digest, Sha256};

use crate::ledger::{role, values, variables};
use crate::plan::{Plan, SealBind, Session};

/// The key that daemon and database share, as it stands in its file.
pub const SEAL_KEY: &str = "6b1f3a09c4d87e2255aa00ff13579bdf2468ace0fedcba98765432100badcafe";

/// What is bound to a session: each variable with its value, and behind it its seal if the plan is
/// sealed. `peer` is where the connection comes from.
pub(super) fn context(
    plan: &Plan,
    session: &Session,
    peer: Option<SocketAddr>,
) -> Vec<(String, String)> {
    let count = plan.daemon.variables;
    let mut context = Vec::new();
    for (name, value) in variables(count).into_iter().zip(values(session, count)) {
        let seal = plan.daemon.seal.map(|bind| {
            let place = peer.filter(|_| bind == SealBind::Address);
            (format!("{name}_seal"), seal(&name, &value, &role(session), place))
        });
        context.push((name, value));
        context.extend(seal);
    }
    context
}

fn seal(name: &str, value: &str, role: &str, place: Option<SocketAddr>) -> String {
    let bind = if place.is_some() { "address" } else { "none" };
    let mut message = Vec::new();
    for field in ["multigres-seal-2", bind, name, value, "crm", role] {
        message.extend(format!("{field}\x01").bytes());
    }
    if let Some(place) = place {
        match place.ip() {
            IpAddr::V4(ip) => message.extend([&[2, 32, 0, 4], &ip.octets()[..]].concat()),
            IpAddr::V6(ip) => message.extend([&[3, 128, 0, 16], &ip.octets()[..]].concat()),
        }
        message.extend(u32::from(place.port()).to_be_bytes());
    }
    let inner = Sha256::digest([&pad(0x36)[..], &message].concat());
    let outer = Sha256::digest([&pad(0x5c)[..], &inner[..]].concat());
    outer.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The key with zeros behind it to a block of the hash, all of it with this byte.
fn pad(byte: u8) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&SEAL_KEY[2 * at..2 * at + 2], 16);
    (0..64).map(|at| if at < 32 { digits(at).expect("hex") ^ byte } else { byte }).collect()
}
