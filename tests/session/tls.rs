//! Stories of TLS on either leg: what is asked for, what is answered, what becomes of SCRAM.

use bytes::Bytes;
use multigres::refusal::Fault;
use multigres::session::{Auth, ClientTls, Handshake, Leg, Outcome, Stage, UpstreamTls};

use super::{acme, answer, authentication, contains, ok, start, text};
use testing::session::{Cast, Play, at_every_chunk_size, message, startup, startup_of};

const SSL_REQUEST: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];
const GSS_REQUEST: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 48];
const CLIENT_HELLO: &[u8] = &[0x16, 3, 1, 0, 9, 1, 2, 3];
const AGREED: Handshake = Handshake { alpn: true, same_certificate: false, end_point: None };
const WITHOUT_ALPN: Handshake = Handshake { alpn: false, ..AGREED };
const SAME_CERTIFICATE: Handshake = Handshake { same_certificate: true, ..AGREED };
const WITH_END_POINT: Handshake =
    Handshake { end_point: Some(Bytes::from_static(b"a hash")), ..AGREED };

fn login() -> Vec<u8> {
    startup(&[("user", "app_user.acme")])
}

fn cancel() -> Vec<u8> {
    [&16u32.to_be_bytes()[..], &[4, 210, 22, 46, 0, 0, 0, 42, 1, 2, 3, 4]].concat()
}

/// A client behind an SSLRequest and its handshake.
fn encrypted(cast: Cast) -> Play {
    let mut play = Play::new(cast.client_tls(ClientTls::Allowed));
    play.client(SSL_REQUEST);
    assert_eq!(play.take_to_client(), b"S");
    assert!(play.starts_tls(Leg::Client));
    play.handshake_done(Leg::Client, WITHOUT_ALPN);
    play
}

/// Whose fault the refusal is, and its SQLSTATE.
fn refused(play: &Play) -> (Fault, &'static str) {
    let Some(Outcome::Refused(refusal)) = play.outcome() else { panic!("{:?}", play.outcome()) };
    (refusal.fault, refusal.sqlstate)
}

#[test]
fn tls_is_granted_once_and_the_login_goes_on_inside() {
    at_every_chunk_size(|cast| {
        let mut play = Play::new(cast.client_tls(ClientTls::Allowed));
        play.client(GSS_REQUEST);
        assert_eq!(play.take_to_client(), b"N");
        play.client(SSL_REQUEST);
        assert_eq!(play.take_to_client(), b"S");
        assert!(play.starts_tls(Leg::Client));
        assert!(!play.connects(), "nothing is dialled before the handshake");
        play.handshake_done(Leg::Client, WITHOUT_ALPN);
        play.client(&login());
        assert_eq!(startup_of(&play.take_to_upstream())[0].1, "app_user");
    });
}

#[test]
fn inside_tls_neither_kind_of_encryption_is_asked_for_again() {
    for request in [SSL_REQUEST, GSS_REQUEST] {
        at_every_chunk_size(|cast| {
            let mut play = encrypted(cast);
            play.client(request);
            play.expect_refusal("08P01");
            assert!(!play.connects());
        });
    }
}

#[test]
fn bytes_stuffed_behind_an_ssl_request_are_refused() {
    for stuffed in [login(), CLIENT_HELLO.to_vec(), cancel(), vec![0]] {
        let mut play = Play::new(Cast::whole().client_tls(ClientTls::Allowed));
        play.client(&[SSL_REQUEST, &stuffed].concat());
        let said = play.expect_refusal("08P01");
        assert!(!said.starts_with(b"S"));
        assert!(!play.starts_tls(Leg::Client) && !play.connects());
    }
}

#[test]
fn plain_bytes_that_reach_a_session_in_the_handshake_are_never_believed() {
    let mut play = Play::new(Cast::whole().client_tls(ClientTls::Allowed));
    play.client(SSL_REQUEST);
    play.take_to_client();
    play.client(&login());
    play.handshake_done(Leg::Client, AGREED);
    play.expect_refusal("08P01");
    assert!(!play.connects());
}

#[test]
fn tls_from_the_first_byte_needs_alpn() {
    at_every_chunk_size(|cast| {
        for (handshake, sqlstate) in [(AGREED, None), (WITHOUT_ALPN, Some("08P01"))] {
            let mut play = Play::new(cast.client_tls(ClientTls::Allowed));
            play.client(&CLIENT_HELLO[..1]);
            assert!(play.starts_tls(Leg::Client));
            assert_eq!(play.take_input(Leg::Client), &CLIENT_HELLO[..1]);
            play.handshake_done(Leg::Client, handshake);
            match sqlstate {
                None => {
                    play.client(&login());
                    assert!(play.connects());
                }
                Some(sqlstate) => {
                    play.expect_refusal(sqlstate);
                }
            }
            assert!(!play.take_to_client().contains(&b'S'), "nobody has asked");
        }
    });
}

#[test]
fn all_of_a_client_hello_that_has_come_is_handed_back() {
    let mut play = Play::new(Cast::whole().client_tls(ClientTls::Required));
    play.client(CLIENT_HELLO);
    assert_eq!(play.take_input(Leg::Client), CLIENT_HELLO);
    assert_eq!(play.stage(), Stage::Login);
}

#[test]
fn only_the_very_first_byte_starts_tls() {
    for before in [SSL_REQUEST, GSS_REQUEST] {
        let mut play = Play::new(Cast::whole());
        play.client(before);
        assert_eq!(play.take_to_client(), b"N");
        play.client(CLIENT_HELLO);
        play.expect_silence("08P01");
    }
    let mut play = encrypted(Cast::whole());
    play.client(CLIENT_HELLO);
    play.expect_silence("08P01");
}

#[test]
fn a_unix_socket_has_no_tls() {
    for tls in [ClientTls::Allowed, ClientTls::Required] {
        at_every_chunk_size(|cast| {
            let mut play = Play::new(cast.unix_socket().client_tls(tls));
            play.client(SSL_REQUEST);
            assert_eq!(play.take_to_client(), b"N");
            play.client(&login());
            assert!(play.connects(), "which is nothing to require there");
            let mut play = Play::new(cast.unix_socket().client_tls(tls));
            play.client(CLIENT_HELLO);
            play.expect_silence("08P01");
        });
    }
}

#[test]
fn a_login_without_required_tls_is_refused_and_a_cancel_is_not() {
    at_every_chunk_size(|cast| {
        for user in ["app_user.acme", "postgres"] {
            let mut play = Play::new(cast.client_tls(ClientTls::Required));
            play.client(&startup(&[("user", user)]));
            play.expect_refusal("28000");
            assert!(!play.connects());
        }
        let mut play = Play::new(cast.client_tls(ClientTls::Required));
        play.client(&cancel());
        assert_eq!(play.take_to_upstream(), cancel());
        let mut play = encrypted(cast.client_tls(ClientTls::Required));
        play.client(&login());
        assert!(play.connects());
    });
}

#[test]
fn a_client_whose_handshake_fails_hears_nothing_but_the_alert() {
    for first in [SSL_REQUEST, CLIENT_HELLO] {
        let mut play = Play::new(Cast::whole().client_tls(ClientTls::Allowed));
        play.client(first);
        play.take_to_client();
        play.take_input(Leg::Client);
        play.tls_fails(Leg::Client);
        assert_eq!(play.stage(), Stage::Refusing);
        assert_eq!(play.take_to_client(), b"");
        assert_eq!(refused(&play), (Fault::Client, "08P01"));
    }
}

#[test]
fn a_client_that_leaves_in_the_handshake_is_gone() {
    for first in [SSL_REQUEST, CLIENT_HELLO] {
        let mut play = Play::new(Cast::whole().client_tls(ClientTls::Allowed));
        play.client(first);
        play.take_input(Leg::Client);
        play.client_ends();
        assert_eq!(play.outcome(), Some(&Outcome::ClientLeft));
    }
}

#[test]
fn upstream_is_asked_for_tls_before_anything_is_said() {
    for tls in [UpstreamTls::Preferred, UpstreamTls::Required] {
        at_every_chunk_size(|cast| {
            let mut play = acme(cast.upstream_tls(tls));
            assert_eq!(play.take_to_upstream(), SSL_REQUEST);
            play.upstream(b"S");
            assert!(play.starts_tls(Leg::Upstream));
            assert_eq!(play.take_to_upstream(), b"");
            play.handshake_done(Leg::Upstream, WITHOUT_ALPN);
            let names = startup_of(&play.take_to_upstream());
            assert!(names.contains(&("app.current_tenant_id".into(), "acme".into())));
            play.upstream(&start());
            play.upstream(&answer().concat());
            assert_eq!(play.stage(), Stage::Piping);
        });
    }
}

#[test]
fn an_upstream_without_tls_is_good_enough_only_where_it_is_preferred() {
    let mut play = acme(Cast::whole().upstream_tls(UpstreamTls::Preferred));
    assert_eq!(play.take_to_upstream(), SSL_REQUEST);
    play.upstream(b"N");
    assert_eq!(startup_of(&play.take_to_upstream())[0].1, "app_user");
    let mut play = acme(Cast::whole().upstream_tls(UpstreamTls::Required));
    play.upstream(b"N");
    play.expect_refusal("08001");
    assert_eq!(play.take_to_upstream(), SSL_REQUEST, "and nothing of the login");
}

#[test]
fn whatever_else_upstream_answers_is_never_shown() {
    let error = message(b'E', b"SFATAL\0C53300\0Mclick here\0\0");
    for tls in [UpstreamTls::Preferred, UpstreamTls::Required] {
        for answer in [&error[..], b"E", b"\0", b"R\0\0\0\x08\0\0\0\0", b"H", b"\x15\x03\x03"] {
            at_every_chunk_size(|cast| {
                let mut play = acme(cast.upstream_tls(tls));
                play.take_to_upstream();
                play.upstream(answer);
                let said = play.expect_refusal("08001");
                assert!(!contains(&said, b"click"));
                assert_eq!(play.take_to_upstream(), b"");
            });
        }
    }
}

#[test]
fn bytes_stuffed_behind_upstreams_answer_are_refused() {
    for tls in [UpstreamTls::Preferred, UpstreamTls::Required] {
        for answer in [&b"S"[..], b"N"] {
            let mut play = acme(Cast::whole().upstream_tls(tls));
            play.take_to_upstream();
            play.upstream(&[answer, &start()].concat());
            play.expect_refusal("08P01");
            assert!(!play.starts_tls(Leg::Upstream));
            assert_eq!(play.take_to_upstream(), b"");
        }
    }
}

#[test]
fn direct_tls_to_upstream_starts_at_once_and_needs_alpn() {
    let mut play = acme(Cast::whole().upstream_tls(UpstreamTls::Direct));
    assert!(play.starts_tls(Leg::Upstream));
    assert_eq!(play.take_to_upstream(), b"");
    play.handshake_done(Leg::Upstream, AGREED);
    assert_eq!(startup_of(&play.take_to_upstream())[0].1, "app_user");
    let mut play = acme(Cast::whole().upstream_tls(UpstreamTls::Direct));
    play.handshake_done(Leg::Upstream, WITHOUT_ALPN);
    play.expect_refusal("08001");
    assert_eq!(play.take_to_upstream(), b"");
}

#[test]
fn a_handshake_that_fails_upstream_is_told_to_the_client_without_its_reason() {
    for tls in [UpstreamTls::Preferred, UpstreamTls::Required, UpstreamTls::Direct] {
        let mut play = acme(Cast::whole().upstream_tls(tls));
        if tls != UpstreamTls::Direct {
            play.upstream(b"S");
        }
        play.take_to_upstream();
        play.tls_fails(Leg::Upstream);
        let said = play.expect_refusal("08001");
        assert!(!contains(&said, b"for the log"), "and preferring is no reason to go on without");
        assert_eq!(play.take_to_upstream(), b"");
        assert_eq!(refused(&play).0, Fault::Upstream);
    }
    let mut play = acme(Cast::whole());
    play.upstream(&ok());
    play.tls_fails(Leg::Upstream);
    play.expect_refusal("08006");
}

#[test]
fn upstream_that_ends_in_the_negotiation_is_told_to_the_client() {
    for said in [&b""[..], b"S"] {
        let mut play = acme(Cast::whole().upstream_tls(UpstreamTls::Required));
        play.upstream(said);
        play.upstream_ends();
        play.expect_refusal("08006");
    }
}

#[test]
fn a_cancel_request_takes_the_same_way_upstream() {
    at_every_chunk_size(|cast| {
        let mut play = encrypted(cast.upstream_tls(UpstreamTls::Required));
        play.client(&cancel());
        assert_eq!(play.take_to_upstream(), SSL_REQUEST);
        play.upstream(b"S");
        assert_eq!(play.take_to_upstream(), b"", "the key is a secret");
        play.handshake_done(Leg::Upstream, WITHOUT_ALPN);
        assert_eq!(play.take_to_upstream(), cancel());
        play.upstream_ends();
        assert_eq!(play.outcome(), Some(&Outcome::Cancelled));
        assert_eq!(play.take_to_client(), b"");
    });
    let mut play = Play::new(Cast::whole().upstream_tls(UpstreamTls::Preferred));
    play.client(&cancel());
    play.upstream(b"N");
    assert_eq!(play.take_to_upstream(), [SSL_REQUEST, &cancel()].concat());
}

#[test]
fn a_cancel_request_is_not_sent_where_tls_cannot_be_had() {
    type Spoil = fn(&mut Play);
    let spoils: [Spoil; 4] = [
        |play| play.upstream(b"N"),
        |play| play.upstream(b"SX"),
        |play| play.upstream_ends(),
        |play| {
            play.upstream(b"S");
            play.tls_fails(Leg::Upstream);
        },
    ];
    for spoil in spoils {
        let mut play = Play::new(Cast::whole().upstream_tls(UpstreamTls::Required));
        play.client(&cancel());
        spoil(&mut play);
        assert_eq!(play.stage(), Stage::Ended);
        assert_eq!(refused(&play).0, Fault::Upstream);
        assert_eq!(play.take_to_upstream(), SSL_REQUEST);
        assert_eq!(play.take_to_client(), b"");
    }
}

/// Both legs with TLS, or one of them, as far as upstream's first question.
fn asked(cast: Cast, client: bool, upstream: Option<Handshake>) -> Play {
    let tls = if upstream.is_some() { UpstreamTls::Required } else { UpstreamTls::Disabled };
    let cast = cast.public().upstream_tls(tls);
    let mut play = if client { encrypted(cast) } else { Play::new(cast) };
    play.client(&login());
    if let Some(handshake) = upstream {
        play.upstream(b"S");
        play.handshake_done(Leg::Upstream, handshake);
    }
    play.take_to_upstream();
    let offer: &[&str] = if tls == UpstreamTls::Required {
        &["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", ""]
    } else {
        &["SCRAM-SHA-256", ""]
    };
    play.upstream(&authentication(10, &text(offer)));
    play
}

const UNBOUND: &[&str] = &["SCRAM-SHA-256", ""];

fn first_message(mechanism: &str, data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u32).to_be_bytes();
    message(b'p', &[mechanism.as_bytes(), b"\0", &length, data].concat())
}

#[test]
fn a_client_without_tls_is_not_offered_to_bind_to_it() {
    at_every_chunk_size(|cast| {
        let mut play = asked(cast, false, Some(AGREED));
        assert_eq!(play.take_to_client(), authentication(10, &text(UNBOUND)));
        let first = first_message("SCRAM-SHA-256", b"n,,n=,r=x");
        play.client(&first);
        assert_eq!(play.take_to_upstream(), first);
    });
}

#[test]
fn an_upstream_without_tls_is_relayed_as_it_is() {
    at_every_chunk_size(|cast| {
        let mut play = asked(cast, true, None);
        assert_eq!(play.take_to_client(), authentication(10, &text(UNBOUND)));
        let first = first_message("SCRAM-SHA-256", b"y,,n=,r=x");
        play.client(&first);
        assert_eq!(play.take_to_upstream(), first, "such a server takes this for no attack");
    });
}

#[test]
fn across_two_certificates_the_password_is_asked_for() {
    at_every_chunk_size(|cast| {
        let mut play = asked(cast, true, Some(AGREED));
        assert_eq!(play.take_to_client(), authentication(3, b""), "TLS keeps it from listeners");
        play.client(&message(b'p', b"secret\0"));
        let first = play.take_to_upstream();
        assert!(
            contains(&first, b"SCRAM-SHA-256\0")
                && contains(&first, b"n,,n=,r=BwcHBwcHBwcHBwcHBwcHBwcH")
        );
    });
}

#[test]
fn multigres_binds_its_own_proof_to_the_certificate_that_it_sees() {
    at_every_chunk_size(|cast| {
        let mut play = asked(cast, true, Some(WITH_END_POINT));
        play.client(&message(b'p', b"secret\0"));
        let first = play.take_to_upstream();
        assert!(contains(&first, b"SCRAM-SHA-256-PLUS\0"));
        assert!(contains(&first, b"p=tls-server-end-point,,n=,r="));
    });
    // An offer from which binding was taken: only a server that has none takes this for true.
    let mut play = encrypted(Cast::whole().public().upstream_tls(UpstreamTls::Required));
    play.client(&login());
    play.upstream(b"S");
    play.handshake_done(Leg::Upstream, WITH_END_POINT);
    play.take_to_upstream();
    play.upstream(&authentication(10, &text(UNBOUND)));
    play.client(&message(b'p', b"secret\0"));
    assert!(contains(&play.take_to_upstream(), b"y,,n=,r="));
}

#[test]
fn a_password_that_would_keep_the_others_waiting_is_not_hashed() {
    for (bytes, is_taken) in [(256, true), (257, false), (60_000, false)] {
        let mut play = asked(Cast::whole(), true, Some(AGREED));
        play.take_to_client();
        play.client(&message(b'p', &[&vec![b'x'; bytes][..], b"\0"].concat()));
        if is_taken {
            assert!(contains(&play.take_to_upstream(), b"n,,n=,r="));
        } else {
            play.expect_refusal("28P01");
            assert_eq!(play.take_to_upstream(), b"");
        }
    }
}

#[test]
fn across_two_certificates_a_relay_says_what_breaks_it() {
    at_every_chunk_size(|cast| {
        let mut play = asked(cast.auth(Auth::Relay), true, Some(AGREED));
        assert_eq!(play.take_to_client(), authentication(10, &text(UNBOUND)));
        let unbound = first_message("SCRAM-SHA-256", b"n,,n=,r=x");
        play.client(&unbound);
        assert_eq!(play.take_to_upstream(), unbound);
        let mut play = asked(cast.auth(Auth::Relay), true, Some(AGREED));
        play.take_to_client();
        play.client(&first_message("SCRAM-SHA-256", b"y,,n=,r=x"));
        let said = play.expect_refusal("28000");
        assert!(contains(&said, b"channel binding"));
        assert_eq!(play.take_to_upstream(), b"");
    });
}

#[test]
fn one_certificate_on_both_legs_lets_channel_binding_through() {
    at_every_chunk_size(|cast| {
        for auth in [Auth::Auto, Auth::Relay] {
            let mut play = asked(cast.auth(auth), true, Some(SAME_CERTIFICATE));
            let offer = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", ""];
            assert_eq!(play.take_to_client(), authentication(10, &text(&offer)));
            let first = first_message("SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,n=,r=x");
            play.client(&first);
            assert_eq!(play.take_to_upstream(), first);
        }
        let mut play = asked(cast, false, Some(SAME_CERTIFICATE));
        assert_eq!(play.take_to_client(), authentication(10, &text(UNBOUND)), "seen by nobody");
    });
}

#[test]
fn a_password_may_be_asked_for_over_tls() {
    for request in [authentication(3, b""), authentication(5, &[1, 2, 3, 4])] {
        let mut play = encrypted(Cast::whole().public());
        play.client(&login());
        play.upstream(&request);
        assert_eq!(play.take_to_client(), authentication(3, b""));
        let mut play = Play::new(Cast::whole().public().client_tls(ClientTls::Allowed));
        play.client(&login());
        play.upstream(&request);
        play.expect_refusal("28000");
    }
}

#[test]
fn a_password_goes_to_no_upstream_in_clear_over_a_network() {
    let asked = |cast: Cast| {
        let mut play = encrypted(cast.upstream_far_away());
        play.client(&login());
        play.upstream(&authentication(3, b""));
        play
    };
    for auth in [Auth::Auto, Auth::Relay, Auth::Password] {
        let mut play = asked(Cast::whole().auth(auth));
        play.expect_refusal("28000");
        let mut play = asked(Cast::whole().auth(auth).cleartext_allowed());
        assert_eq!(play.take_to_client(), authentication(3, b""));
        let cast = Cast::whole().auth(auth).upstream_tls(UpstreamTls::Required);
        let mut play = encrypted(cast.upstream_far_away());
        play.client(&login());
        play.upstream(b"S");
        play.handshake_done(Leg::Upstream, AGREED);
        play.upstream(&authentication(3, b""));
        assert_eq!(play.take_to_client(), authentication(3, b""));
    }
}
