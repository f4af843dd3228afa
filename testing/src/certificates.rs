//! Certificates and keys for tests, made anew in each run, as PEM text and as files.
//! Knows nothing of who shows which.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use multigres::tls::{Chain, Identity, Key, Roots};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, date_time_ymd,
};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio_postgres_rustls::MakeRustlsConnect;

/// The name that right certificates are for.
pub const NAME: &str = "db.example";

/// A certificate with its key, and those that it was signed by.
#[derive(Clone)]
pub struct Certified {
    pub der: CertificateDer<'static>,
    /// Its own first.
    pub chain: String,
    pub key: String,
}

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
    pub der: CertificateDer<'static>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = ca_params(name);
        let certificate = params.self_signed(&key).unwrap();
        Authority::of(&certificate, params, key)
    }

    /// A CA below this one.
    pub fn below(&self, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = ca_params(name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Authority::of(&certificate, params, key)
    }

    fn of(certificate: &Certificate, params: CertificateParams, key: KeyPair) -> Self {
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Authority { issuer: Issuer::new(params, key), pem, der }
    }

    /// A certificate with this common name, good for these names and addresses.
    pub fn certify(&self, common_name: &str, names: &[&str]) -> Certified {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, common_name);
        self.issue(&params)
    }

    pub fn issue(&self, params: &CertificateParams) -> Certified {
        Certified::issued(params, &self.issuer)
    }

    /// The right one: for [`NAME`], a hundred years from 1975 on.
    pub fn server(&self) -> Certified {
        self.issue(&server_params(&[NAME]))
    }

    pub fn client(&self) -> Certified {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "app_user");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(&params)
    }

    pub fn roots(&self) -> Roots {
        Roots::from_pem(self.pem.as_bytes()).unwrap()
    }

    /// The TLS of a client that verifies this authority's certificates, and shows its own if it
    /// has one.
    pub fn connector(&self, identity: Option<&Certified>) -> MakeRustlsConnect {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("an authority's certificate");
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider knows them")
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = identity.pair();
                builder.with_client_auth_cert(chain, key).expect("they fit")
            }
        };
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        MakeRustlsConnect::new(config)
    }
}

impl Certified {
    /// What stands in two files: the chain, and the key of its first certificate.
    pub fn from_pem(chain: &str, key: &str) -> Self {
        let der = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
        Certified { der, chain: chain.to_owned(), key: key.to_owned() }
    }

    /// Signed by whoever it is, who may have no right to.
    pub fn issued(params: &CertificateParams, issuer: &Issuer<'_, KeyPair>) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, issuer).unwrap();
        Certified {
            der: certificate.der().clone(),
            chain: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// As `openssl req -x509` makes it: signed by itself, as a CA.
    pub fn self_signed(mut params: CertificateParams) -> Self {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Certified::self_signed_leaf(&params)
    }

    /// Signed by itself, as what it is.
    pub fn self_signed_leaf(params: &CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Certified {
            der: certificate.der().clone(),
            chain: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// The chain and the key as rustls takes them.
    pub fn pair(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let chain = CertificateDer::pem_slice_iter(self.chain.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("PEM");
        (chain.map(Result::unwrap).collect(), key)
    }

    pub fn identity(&self) -> Identity {
        let chain = Chain::from_pem(self.chain.as_bytes()).unwrap();
        Identity::new(chain, Key::from_pem(self.key.as_bytes()).unwrap()).unwrap()
    }

    pub fn roots(&self) -> Roots {
        Roots::from_pem(self.chain.as_bytes()).unwrap()
    }

    /// This certificate with any key, for peers that are not Multigres.
    pub fn with_key_of(&self, other: &Certified) -> CertifiedKey {
        let chain = CertificateDer::pem_slice_iter(self.chain.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(other.key.as_bytes()).unwrap();
        let key = ring::default_provider().key_provider.load_private_key(key).unwrap();
        CertifiedKey::new(chain.map(Result::unwrap).collect(), key)
    }

    /// The same key in a certificate of X.509 version 1, which has no extensions. Its signature is
    /// no longer right.
    pub fn version_1(&self) -> Self {
        let (_, certificate, _) = element(&self.der);
        let (_, body, signature) = element(certificate);
        let mut fields = Vec::new();
        let mut rest = body;
        while !rest.is_empty() {
            let (tag, _, behind) = element(rest);
            let whole = &rest[..rest.len() - behind.len()];
            // The version and the extensions have tags of their own.
            if tag < 0xa0 {
                fields.extend_from_slice(whole);
            }
            rest = behind;
        }
        let mut content = sequence(&fields);
        content.extend_from_slice(signature);
        let der = sequence(&content);
        Certified { chain: pem(&der), der: der.into(), key: self.key.clone() }
    }
}

pub fn server_params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

pub fn expired(mut params: CertificateParams) -> CertificateParams {
    params.not_after = date_time_ymd(2001, 1, 1);
    params
}

pub fn not_yet_valid(mut params: CertificateParams) -> CertificateParams {
    params.not_before = date_time_ymd(3000, 1, 1);
    params
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// Tag and content of the first element, and what stands behind it.
pub fn element(input: &[u8]) -> (u8, &[u8], &[u8]) {
    let (header, length) = match input[1] {
        0x81 => (3, input[2].into()),
        0x82 => (4, u16::from_be_bytes([input[2], input[3]]).into()),
        length => (2, usize::from(length)),
    };
    let (content, rest) = input[header..].split_at(length);
    (input[0], content, rest)
}

fn sequence(content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let header: &[u8] = match (high, low) {
        (0, 0..=0x7f) => &[0x30, low],
        (0, _) => &[0x30, 0x81, low],
        _ => &[0x30, 0x82, high, low],
    };
    [header, content].concat()
}

pub fn pem(der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for three in der.chunks(3) {
        let at = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 63;
            let is_padding = digit > three.len();
            text.push(if is_padding { '=' } else { DIGITS[value as usize].into() });
        }
    }
    text + "\n-----END CERTIFICATE-----\n"
}

/// ring's cryptography, for clients and servers that are not Multigres.
pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Files in a folder of their own, which goes with this value.
pub struct Files(TempDir);

impl Files {
    pub fn new() -> Files {
        Files(TempDir::new().expect("a folder"))
    }

    /// A file that its owner alone can read.
    pub fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its owner");
        path
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}
