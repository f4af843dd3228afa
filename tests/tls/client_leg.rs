//! What clients are offered, shown and asked for.

use std::sync::Arc;

use multigres::tls::{ClientCertificate, Verification};
use rustls::crypto::ring;
use rustls::version::TLS12;
use rustls::{AlertDescription, CertificateError, Error, HandshakeKind, SupportedCipherSuite};

use crate::handshake::{VERSIONS, accepting, client, client_with, connecting, shake, start_client};
use testing::certificates::{Authority, Certified, NAME, server_params};

#[test]
fn clients_of_both_versions_are_served() {
    let made = Certified::self_signed_leaf(&server_params(&[NAME]));
    let tls = accepting(made.identity(), &ClientCertificate::None);
    for version in VERSIONS {
        let mut client = start_client(&Arc::new(client(&made, version)), NAME);
        let mut server = tls.accept().unwrap();
        shake(&mut client, &mut server).well();
        assert_eq!(server.protocol_version(), Some(version.version));
        assert_eq!(client.peer_certificates(), Some(&[made.der.clone()][..]));
    }
}

/// With TLS 1.2 AES' keys wear out, and the end of a session with them.
#[test]
fn keys_that_cannot_be_changed_are_such_as_never_wear_out() {
    let made = Certified::self_signed_leaf(&server_params(&[NAME]));
    let tls = accepting(made.identity(), &ClientCertificate::None);
    let mut provider = ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| format!("{:?}", suite.suite()).contains("CHACHA"));
    let config = client_with(provider, &made, &TLS12);
    let mut client = start_client(&Arc::new(config), NAME);
    let mut server = tls.accept().unwrap();
    shake(&mut client, &mut server).well();
    let Some(SupportedCipherSuite::Tls12(suite)) = server.negotiated_cipher_suite() else {
        panic!("TLS 1.2 has suites of its own")
    };
    assert_eq!(suite.common.confidentiality_limit, u64::MAX, "whatever the client prefers");
}

#[test]
fn clients_are_shown_the_whole_chain() {
    let root = Authority::new("root");
    let between = root.below("between");
    let mut made = between.server();
    made.chain += &between.pem;
    let server = accepting(made.identity(), &ClientCertificate::None);
    let client = connecting(NAME, Verification::ChainAndName(root.roots()), None);
    shake(&mut client.connect().unwrap(), &mut server.accept().unwrap()).well();
}

/// Whoever shows PostgreSQL's own certificate to clients may have one of the manual's.
#[test]
fn a_certificate_of_version_1_is_shown_as_it_is() {
    let made = Authority::new("right").server().version_1();
    let server = accepting(made.identity(), &ClientCertificate::None);
    let client = connecting(NAME, Verification::AnyCertificate, None);
    let mut client = client.connect().unwrap();
    shake(&mut client, &mut server.accept().unwrap()).well();
    assert!(server.is_own_certificate(client.peer_certificates()));
}

#[test]
fn a_client_may_speak_no_alpn_or_ours_and_nothing_else() {
    let made = Certified::self_signed_leaf(&server_params(&[NAME]));
    let tls = accepting(made.identity(), &ClientCertificate::None);
    for version in VERSIONS {
        for (spoken, agreed) in [
            (vec![], Ok(None)),
            (vec![b"postgresql".to_vec()], Ok(Some(&b"postgresql"[..]))),
            (vec![b"h2".to_vec(), b"postgresql".to_vec()], Ok(Some(&b"postgresql"[..]))),
            (vec![b"h2".to_vec()], Err(())),
            (vec![b"postgresq".to_vec(), b"PostgreSQL".to_vec()], Err(())),
        ] {
            let mut config = client(&made, version);
            config.alpn_protocols = spoken;
            let mut client = start_client(&Arc::new(config), NAME);
            let mut server = tls.accept().unwrap();
            let ended = shake(&mut client, &mut server);
            match agreed {
                Ok(agreed) => {
                    ended.well();
                    assert_eq!(server.alpn_protocol(), agreed);
                }
                Err(()) => {
                    assert_eq!(ended.server, Err(Error::NoApplicationProtocol));
                    let alert = AlertDescription::NoApplicationProtocol;
                    assert_eq!(ended.client, Err(Error::AlertReceived(alert)));
                }
            }
        }
    }
}

/// What a client says of itself, by whether it must: the server's end.
fn with_certificate(asked: &ClientCertificate, shown: Option<&Certified>) -> Result<(), Error> {
    let ca = Authority::new("server's");
    let server = accepting(ca.server().identity(), asked);
    let level = Verification::ChainAndName(ca.roots());
    let client = connecting(NAME, level, shown.map(Certified::identity));
    let mut server = server.accept().unwrap();
    let ended = shake(&mut client.connect().unwrap(), &mut server);
    if ended.server.is_ok() {
        let own = shown.filter(|_| !matches!(asked, ClientCertificate::None));
        let seen = server.peer_certificates().map(|chain| &chain[0]);
        assert_eq!(seen, own.map(|own| &own.der));
        assert_eq!(ended.client, Ok(()));
    } else {
        assert!(matches!(ended.client, Err(Error::AlertReceived(_))), "it is told");
    }
    ended.server
}

#[test]
fn a_client_certificate_is_asked_for_as_configured() {
    let (right, wrong) = (Authority::new("right"), Authority::new("wrong"));
    let (own, strange) = (right.client(), wrong.client());
    let unknown = || Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
    let requested = ClientCertificate::Requested(right.roots());
    assert_eq!(with_certificate(&requested, None), Ok(()));
    assert_eq!(with_certificate(&requested, Some(&own)), Ok(()));
    assert_eq!(with_certificate(&requested, Some(&strange)), unknown());
    let required = ClientCertificate::Required(right.roots());
    assert_eq!(with_certificate(&required, None), Err(Error::NoCertificatesPresented));
    assert_eq!(with_certificate(&required, Some(&own)), Ok(()));
    assert_eq!(with_certificate(&required, Some(&strange)), unknown());
    assert_eq!(with_certificate(&ClientCertificate::None, Some(&strange)), Ok(()));
    let for_servers = with_certificate(&required, Some(&right.server())).unwrap_err();
    let Error::InvalidCertificate(error) = for_servers else { panic!("{for_servers}") };
    assert!(matches!(error, CertificateError::InvalidPurposeContext { .. }), "{error:?}");
}

#[test]
fn no_session_is_taken_up_again() {
    let made = Certified::self_signed_leaf(&server_params(&[NAME]));
    let tls = accepting(made.identity(), &ClientCertificate::None);
    for version in VERSIONS {
        // rustls' clients would, by default.
        let config = Arc::new(client(&made, version));
        for _ in 0..2 {
            let mut client = start_client(&config, NAME);
            shake(&mut client, &mut tls.accept().unwrap()).well();
            assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
            assert_eq!(client.tls13_tickets_received(), 0);
        }
    }
}
