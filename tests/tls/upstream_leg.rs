//! What upstream must prove, level by level.

use std::sync::Arc;

use multigres::tls::{ClientCertificate, Roots, Verification, server_name};
use rcgen::{CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, Error, HandshakeKind, OtherError, ProtocolVersion,
};

use crate::handshake::{VERSIONS, accepting, connecting, server, shake, start_server};
use testing::certificates::{
    Authority, Certified, NAME, expired, not_yet_valid, pem, server_params,
};

/// Dials a server with this certificate, in each version.
fn dial(
    host: &str,
    verification: &Verification,
    shown: &Certified,
) -> Result<(), CertificateError> {
    let mut ends = VERSIONS.map(|version| {
        let upstream = Arc::new(server(shown.with_key_of(shown), version));
        let tls = connecting(host, verification.clone(), None);
        let (mut client, mut server) = (tls.connect().unwrap(), start_server(&upstream));
        let ended = shake(&mut client, &mut server);
        match ended.client {
            Ok(()) => {
                assert_eq!(ended.server, Ok(()));
                assert_eq!(client.protocol_version(), Some(version.version));
                Ok(())
            }
            Err(Error::InvalidCertificate(error)) => {
                assert!(matches!(ended.server, Err(Error::AlertReceived(_))), "it is told");
                Err(error)
            }
            // In words of Multigres' own.
            Err(Error::General(text)) => {
                assert!(matches!(ended.server, Err(Error::AlertReceived(_))), "it is told");
                Err(CertificateError::Other(OtherError(Arc::new(std::io::Error::other(text)))))
            }
            Err(other) => panic!("{other}"),
        }
    });
    assert_eq!(ends[0].is_ok(), ends[1].is_ok(), "the version makes no difference");
    std::mem::replace(&mut ends[0], Ok(()))
}

fn levels(roots: &multigres::tls::Roots) -> [Verification; 3] {
    [
        Verification::AnyCertificate,
        Verification::Chain(roots.clone()),
        Verification::ChainAndName(roots.clone()),
    ]
}

#[test]
fn the_right_certificate_passes_at_every_level() {
    let ca = Authority::new("right");
    for level in levels(&ca.roots()) {
        assert_eq!(dial(NAME, &level, &ca.server()), Ok(()), "{level:?}");
        assert_eq!(dial("DB.Example", &level, &ca.server()), Ok(()), "{level:?}");
    }
}

#[test]
fn another_cas_certificate_passes_where_any_does() {
    let (right, wrong) = (Authority::new("right"), Authority::new("wrong"));
    let [any, chain, name] = levels(&right.roots());
    assert_eq!(dial(NAME, &any, &wrong.server()), Ok(()));
    for level in [chain, name] {
        assert_eq!(dial(NAME, &level, &wrong.server()), Err(CertificateError::UnknownIssuer));
    }
    // With the right CA's name it has the wrong CA's signature still.
    let [_, chain, name] = levels(&right.roots());
    let namesake = Authority::new("right");
    for level in [chain, name] {
        assert_eq!(dial(NAME, &level, &namesake.server()), Err(CertificateError::BadSignature));
    }
}

#[test]
fn another_name_passes_where_no_name_is_asked_for() {
    let ca = Authority::new("right");
    let other = ca.issue(&server_params(&["other.example", "*.db.example"]));
    let [any, chain, name] = levels(&ca.roots());
    assert_eq!(dial(NAME, &any, &other), Ok(()));
    assert_eq!(dial(NAME, &chain, &other), Ok(()));
    let error = dial(NAME, &name, &other).unwrap_err();
    assert!(matches!(error, CertificateError::NotValidForNameContext { .. }), "{error:?}");
    assert_eq!(dial("one.db.example", &name, &other), Ok(()), "a wildcard is one label");
}

#[test]
fn an_address_has_to_be_in_the_certificate_as_an_address() {
    let ca = Authority::new("right");
    let level = &levels(&ca.roots())[2];
    let with_addresses = ca.issue(&server_params(&["127.0.0.1", "::1"]));
    assert_eq!(dial("127.0.0.1", level, &with_addresses), Ok(()));
    assert_eq!(dial("::1", level, &with_addresses), Ok(()));
    for (host, shown) in [("127.0.0.2", &with_addresses), ("127.0.0.1", &ca.server())] {
        let error = dial(host, level, shown).unwrap_err();
        assert!(matches!(error, CertificateError::NotValidForNameContext { .. }), "{error:?}");
    }
}

#[test]
fn dates_count_where_the_chain_does() {
    let ca = Authority::new("right");
    let old = ca.issue(&expired(server_params(&[NAME])));
    let early = ca.issue(&not_yet_valid(server_params(&[NAME])));
    let [any, chain, name] = levels(&ca.roots());
    assert_eq!(dial(NAME, &any, &old), Ok(()));
    for level in [chain, name] {
        let error = dial(NAME, &level, &old).unwrap_err();
        assert!(matches!(error, CertificateError::ExpiredContext { .. }), "{error:?}");
        let error = dial(NAME, &level, &early).unwrap_err();
        assert!(matches!(error, CertificateError::NotValidYetContext { .. }), "{error:?}");
    }
}

#[test]
fn a_clients_certificate_is_none_for_a_server() {
    let ca = Authority::new("right");
    let [_, chain, name] = levels(&ca.roots());
    for level in [chain, name] {
        let error = dial(NAME, &level, &ca.client()).unwrap_err();
        assert!(matches!(error, CertificateError::InvalidPurposeContext { .. }), "{error:?}");
    }
}

#[test]
fn certificates_between_come_with_the_servers_own() {
    let root = Authority::new("root");
    let between = root.below("between");
    let [_, chain, name] = levels(&root.roots());
    for level in [chain, name] {
        let mut shown = between.server();
        assert_eq!(dial(NAME, &level, &shown), Err(CertificateError::UnknownIssuer));
        shown.chain += &between.pem;
        assert_eq!(dial(NAME, &level, &shown), Ok(()));
    }
}

/// PostgreSQL's manual: `openssl req -new -x509 … -out server.crt`, and the client has that file.
#[test]
fn a_self_signed_certificate_passes_when_it_stands_among_the_roots_itself() {
    let made: [fn(&[&str]) -> Certified; 2] = [
        |names| Certified::self_signed(server_params(names)),
        |names| Certified::self_signed_leaf(&server_params(names)),
    ];
    for make in made {
        let (own, other) = (make(&[NAME]), make(&[NAME]));
        let [any, chain, name] = levels(&own.roots());
        for level in [&any, &chain, &name] {
            assert_eq!(dial(NAME, level, &own), Ok(()), "{level:?}");
        }
        assert_eq!(dial(NAME, &any, &other), Ok(()));
        for level in [&chain, &name] {
            assert!(dial(NAME, level, &other).is_err(), "the same names, another key");
        }
        let misnamed = make(&["other.example"]);
        let [_, chain, name] = levels(&misnamed.roots());
        assert_eq!(dial(NAME, &chain, &misnamed), Ok(()));
        let error = dial(NAME, &name, &misnamed).unwrap_err();
        assert!(matches!(error, CertificateError::NotValidForNameContext { .. }), "{error:?}");
    }
}

#[test]
fn a_certificate_among_the_roots_that_is_no_cas_makes_no_others_believed() {
    let ca = Authority::new("the CA");
    let sets: [fn(&mut CertificateParams); 2] =
        [|_| {}, |params| params.is_ca = IsCa::ExplicitNoCa];
    for set in sets {
        let mut params = server_params(&["elsewhere.example"]);
        set(&mut params);
        let key = KeyPair::generate().unwrap();
        let leaf = params.self_signed(&key).unwrap().pem();
        let forged = Issuer::new(params, key);
        let shown = Certified::issued(&server_params(&[NAME]), &forged);
        for text in [leaf.clone(), format!("{leaf}{}", ca.pem)] {
            let roots = Roots::from_pem(text.as_bytes()).unwrap();
            for verification in
                [Verification::Chain(roots.clone()), Verification::ChainAndName(roots)]
            {
                let error = dial(NAME, &verification, &shown).expect_err("a leaf signs nothing");
                assert_eq!(error, CertificateError::UnknownIssuer);
            }
        }
    }
}

#[test]
fn a_self_signed_certificate_is_not_believed_beyond_its_time() {
    let old = Certified::self_signed(expired(server_params(&[NAME])));
    let [_, chain, name] = levels(&old.roots());
    for level in [chain, name] {
        let error = dial(NAME, &level, &old).unwrap_err();
        assert!(matches!(error, CertificateError::ExpiredContext { .. }), "{error:?}");
    }
}

/// A CA is believed to sign; only if it is among the roots itself may it be a server, too.
#[test]
fn a_ca_below_a_root_is_no_server() {
    let root = Authority::new("root");
    let mut params = server_params(&[NAME]);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let shown = root.issue(&params);
    let [_, chain, name] = levels(&root.roots());
    for level in [chain, name] {
        let error = dial(NAME, &level, &shown).unwrap_err();
        assert!(format!("{error:?}").contains("CaUsedAsEndEntity"), "{error:?}");
    }
}

/// PostgreSQL's manual: `openssl x509 -req …` makes version 1 where OpenSSL is not of the newest.
#[test]
fn version_1_passes_where_any_certificate_does() {
    let ca = Authority::new("right");
    let shown = ca.server().version_1();
    assert!(ParsedCertificate::try_from(&shown.der).is_err(), "webpki reads it");
    let [any, chain, name] = levels(&ca.roots());
    assert_eq!(dial(NAME, &any, &shown), Ok(()));
    for level in [chain, name] {
        let error = dial(NAME, &level, &shown).unwrap_err();
        assert!(format!("{error:?}").contains("X.509 version 1"), "{error:?}");
    }
}

#[test]
fn the_key_of_the_certificate_has_to_be_proved_at_every_level() {
    let ca = Authority::new("right");
    let (right, thief) = (ca.server(), ca.server());
    for shown in [&right, &right.version_1()] {
        for level in levels(&ca.roots()) {
            let is_readable = ParsedCertificate::try_from(&shown.der).is_ok();
            if !is_readable && !matches!(level, Verification::AnyCertificate) {
                continue;
            }
            for version in VERSIONS {
                let upstream = Arc::new(server(shown.with_key_of(&thief), version));
                let tls = connecting(NAME, level.clone(), None);
                let ended = shake(&mut tls.connect().unwrap(), &mut start_server(&upstream));
                let bad = Error::InvalidCertificate(CertificateError::BadSignature);
                assert_eq!(ended.client, Err(bad), "{level:?} {version:?}");
                let alert = Error::AlertReceived(AlertDescription::DecryptError);
                assert_eq!(ended.server, Err(alert));
            }
        }
    }
}

#[test]
fn what_is_no_certificate_is_refused_and_not_fatal() {
    let made = Authority::new("right").server();
    let key = |der: &[u8]| multigres::tls::Chain::from_pem(pem(der).as_bytes());
    key(&made.der).unwrap();
    for end in 0..made.der.len() {
        assert!(key(&made.der[..end]).is_err(), "cut at {end}");
    }
    for at in 0..made.der.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut der = made.der.to_vec();
            der[at] ^= flip;
            let _ = key(&der);
        }
    }
}

#[test]
fn the_name_is_told_to_upstream_and_an_address_is_not() {
    let ca = Authority::new("right");
    let upstream = accepting(ca.server().identity(), &ClientCertificate::None);
    for (host, told) in [(NAME, Some(NAME)), ("127.0.0.1", None), ("fe80::1%eth0", None)] {
        let tls = connecting(host, Verification::AnyCertificate, None);
        let mut server = upstream.accept().unwrap();
        shake(&mut tls.connect().unwrap(), &mut server).well();
        assert_eq!(server.server_name(), told);
    }
    for bad in ["", "a b", "10.0.0.1%eth0", "-", "a..b"] {
        assert!(server_name(bad).is_err(), "{bad}");
    }
}

#[test]
fn upstream_may_speak_no_alpn_or_ours_and_nothing_else() {
    let made = Authority::new("right").server();
    for version in VERSIONS {
        for (spoken, agreed) in [
            (vec![], Ok(None)),
            (vec![b"postgresql".to_vec()], Ok(Some(&b"postgresql"[..]))),
            (vec![b"h2".to_vec(), b"postgresql".to_vec()], Ok(Some(&b"postgresql"[..]))),
            (vec![b"h2".to_vec()], Err(AlertDescription::NoApplicationProtocol)),
        ] {
            let mut upstream = server(made.with_key_of(&made), version);
            upstream.alpn_protocols = spoken;
            let tls = connecting(NAME, Verification::AnyCertificate, None);
            let mut client = tls.connect().unwrap();
            let ended = shake(&mut client, &mut start_server(&Arc::new(upstream)));
            let found = ended.client.map(|()| client.alpn_protocol());
            assert_eq!(found, agreed.map_err(Error::AlertReceived));
        }
    }
}

#[test]
fn upstream_is_verified_anew_each_time() {
    let ca = Authority::new("right");
    let made = ca.server();
    for version in VERSIONS {
        let upstream = Arc::new(server(made.with_key_of(&made), version));
        let tls = connecting(NAME, Verification::ChainAndName(ca.roots()), None);
        for _ in 0..2 {
            let mut client = tls.connect().unwrap();
            shake(&mut client, &mut start_server(&upstream)).well();
            assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
        }
    }
}

#[test]
fn upstream_is_shown_a_certificate_when_it_asks() {
    let ca = Authority::new("right");
    let (own, theirs) = (ca.client(), ca.server());
    let upstream = accepting(theirs.identity(), &ClientCertificate::Required(ca.roots()));
    let level = Verification::ChainAndName(ca.roots());
    let tls = connecting(NAME, level.clone(), Some(own.identity()));
    let mut server = upstream.accept().unwrap();
    shake(&mut tls.connect().unwrap(), &mut server).well();
    assert_eq!(server.peer_certificates(), Some(&[own.der][..]));
    let tls = connecting(NAME, level, None);
    let ended = shake(&mut tls.connect().unwrap(), &mut upstream.accept().unwrap());
    assert_eq!(ended.server, Err(Error::NoCertificatesPresented));
}

#[test]
fn the_newest_version_is_taken() {
    let ca = Authority::new("right");
    let upstream = accepting(ca.server().identity(), &ClientCertificate::None);
    let tls = connecting(NAME, Verification::AnyCertificate, None);
    let (mut client, mut server) = (tls.connect().unwrap(), upstream.accept().unwrap());
    shake(&mut client, &mut server).well();
    assert_eq!(client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
}

#[test]
fn upstreams_certificate_is_our_own_only_if_it_is_the_same() {
    let ca = Authority::new("right");
    let (own, other) = (ca.server(), ca.server());
    let tls = accepting(own.identity(), &ClientCertificate::None);
    let is_own = |chain: &[&CertificateDer<'static>]| {
        let chain: Vec<_> = chain.iter().map(|der| (*der).clone()).collect();
        tls.is_own_certificate(Some(&chain))
    };
    assert!(is_own(&[&own.der]));
    assert!(is_own(&[&own.der, &other.der]), "what stands behind it does not count");
    assert!(!is_own(&[&other.der]));
    assert!(!is_own(&[&other.der, &own.der]), "only the first is the server's");
    assert!(!is_own(&[]));
    assert!(!tls.is_own_certificate(None));
    let without = connecting(NAME, Verification::AnyCertificate, None);
    assert!(!without.is_own_certificate(Some(&[own.der])), "nothing is shown to clients");
    assert!(!without.is_own_certificate(None));
}
