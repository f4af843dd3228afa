//! Properties of the wire codec and of the session: whatever comes, nothing panics, nothing loops,
//! and how the bytes are cut makes no difference.

use std::convert::Infallible;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use multigres::protocol::{FirstPacket, StartupMessage, backend, frontend};
use multigres::protocol::{take_first_packet, take_message};
use multigres::session::{Action, Auth, ClientPlace, Leg, LoginSettings, Session, Stage};
use multigres::tenant::{GuardDemand, Policy};
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_startup_message_survives_its_encoding(
        minor in 0u32..0x1_0000,
        parameters in vec(("[a-z_.]{1,20}", "[^\0]{0,30}"), 0..12),
    ) {
        let mut names = std::collections::BTreeSet::new();
        let parameters: Vec<(Bytes, Bytes)> = parameters
            .into_iter()
            .filter(|(name, _)| names.insert(name.clone()))
            .map(|(name, value)| (Bytes::from(name), Bytes::from(value)))
            .collect();
        let message = StartupMessage { version: (3 << 16) | minor, parameters };
        let mut wire = BytesMut::new();
        message.encode(&mut wire);
        prop_assert_eq!(wire.len(), message.encoded_len());
        wire.extend_from_slice(b"behind");
        let taken = take_first_packet(&mut wire).unwrap();
        prop_assert!(taken == Some(FirstPacket::Startup(message)));
        prop_assert_eq!(&wire[..], b"behind");
    }

    #[test]
    fn no_first_packet_panics(bytes in first_bytes()) {
        let mut buffer = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = take_first_packet(&mut buffer) {}
        prop_assert!(buffer.len() <= bytes.len());
    }

    #[test]
    fn no_message_panics(bytes in vec(any::<u8>(), 0..200), limit in 0usize..300) {
        let mut buffer = BytesMut::from(&bytes[..]);
        while let Ok(Some(message)) = take_message(&mut buffer, limit) {
            prop_assert!(message.body().len() <= limit);
        }
    }

    #[test]
    fn no_body_panics(body in vec(any::<u8>(), 0..120)) {
        let _ = backend::parse_authentication(&body);
        let _ = backend::parse_parameter_status(&body);
        let _ = backend::parse_backend_pid(&body);
        let _ = backend::parse_transaction_status(&body);
        let _ = backend::parse_data_row(&body);
        let _ = backend::parse_error(&body);
        let _ = frontend::parse_password(&body);
    }

    /// The client sends anything, or a good StartupMessage and then anything; upstream says
    /// anything, or starts a session and then says anything.
    #[test]
    fn a_session_answers_the_same_however_the_bytes_are_cut(
        client in prop_oneof![first_bytes(), vec(any::<u8>(), 0..60).prop_map(after_startup)],
        upstream in prop_oneof![
            vec(message_bytes(), 0..12).prop_map(|messages| messages.concat()),
            vec(message_bytes(), 0..12).prop_map(|messages| [START, &messages.concat()].concat()),
        ],
        auth in prop_oneof![Just(Auth::Auto), Just(Auth::Relay), Just(Auth::Password)],
        cuts in vec(1usize..9, 1..40),
    ) {
        let whole = play(auth, &client, &upstream, &[usize::MAX]);
        prop_assert_eq!(&play(auth, &client, &upstream, &[1]), &whole);
        prop_assert_eq!(&play(auth, &client, &upstream, &cuts), &whole);
        prop_assert!(whole.stage != Stage::Piping, "nobody has answered the batch");
    }
}

/// AuthenticationOk, BackendKeyData, ReadyForQuery.
const START: &[u8] = b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x2a\0\0\0\x07Z\0\0\0\x05I";

/// Bytes that are more often nearly right than chance would have it.
fn first_bytes() -> impl Strategy<Value = Vec<u8>> {
    let codes = [196_608u32, 196_610, 80_877_102, 80_877_103, 80_877_104, 131_072];
    let length = prop_oneof![0u32..40, Just(10_005), any::<u32>()];
    let code = prop_oneof![proptest::sample::select(codes.to_vec()), any::<u32>()];
    (length, code, vec(prop_oneof![Just(0u8), any::<u8>()], 0..60)).prop_map(
        |(length, code, rest)| [&length.to_be_bytes()[..], &code.to_be_bytes(), &rest].concat(),
    )
}

fn after_startup(rest: Vec<u8>) -> Vec<u8> {
    let parameters = vec![
        (Bytes::from("user"), Bytes::from("app_user.acme")),
        (Bytes::from("database"), Bytes::from("crm")),
    ];
    let mut wire = BytesMut::new();
    StartupMessage { version: 3 << 16, parameters }.encode(&mut wire);
    [&wire[..], &rest].concat()
}

fn message_bytes() -> impl Strategy<Value = Vec<u8>> {
    let tag = prop_oneof![proptest::sample::select(b"RSKNEZDCv123".to_vec()), any::<u8>()];
    let wrong = prop_oneof![9 => Just(0i64), 1 => -4i64..70_000];
    (tag, vec(prop_oneof![3 => Just(0u8), 1 => any::<u8>()], 0..24), wrong).prop_map(
        |(tag, body, wrong)| {
            let length = (body.len() as i64 + 4 + wrong) as u32;
            [&[tag][..], &length.to_be_bytes(), &body].concat()
        },
    )
}

#[derive(Debug, PartialEq)]
struct Played {
    stage: Stage,
    to_client: Vec<u8>,
    to_upstream: Vec<u8>,
    actions: Vec<Action>,
}

/// All that the client says first, then all that upstream says, cut into pieces of these sizes in
/// turn.
fn play(auth: Auth, client: &[u8], upstream: &[u8], cuts: &[usize]) -> Played {
    let policy = Policy { superuser_bypass: vec![], guard: GuardDemand::Off, ..Policy::default() };
    let settings =
        LoginSettings { policy, auth, upstream_is_local: true, ..LoginSettings::default() };
    let mut session = Session::new(Rc::new(settings), ClientPlace::Loopback, [7; 18]);
    let mut actions = Vec::new();
    let mut sizes = cuts.iter().cycle();
    for (leg, mut bytes) in [(Leg::Client, client), (Leg::Upstream, upstream)] {
        while !bytes.is_empty() && !actions.contains(&Action::DropUpstream) {
            if leg == Leg::Upstream && !actions.contains(&Action::Connect) {
                break;
            }
            let size = bytes.len().min(*sizes.next().unwrap()).min(session.room(leg));
            if size == 0 {
                break;
            }
            session.receive(leg, &bytes[..size]);
            bytes = &bytes[size..];
            let action = session.next_action();
            actions.extend(action);
            if action == Some(Action::Connect) {
                let Ok(()) = session.connected(|| Ok::<_, Infallible>(None));
            }
        }
    }
    Played {
        stage: session.stage(),
        to_client: session.output(Leg::Client).to_vec(),
        to_upstream: without_nonce(session.output(Leg::Upstream)),
        actions,
    }
}

/// A SCRAM client nonce is random, and nothing else of what a session says is.
fn without_nonce(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.windows(8).position(|window| window == b"n,,n=,r=");
    bytes[..start.unwrap_or(bytes.len())].to_vec()
}
