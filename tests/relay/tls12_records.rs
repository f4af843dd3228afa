//! Records of TLS 1.2 that rustls would never send, encrypted as they must be.

use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::{
    Connection, ConnectionTrafficSecrets, ContentType, ProtocolVersion, SupportedCipherSuite,
};

/// Goes on where a connection has stood.
pub struct Forger {
    encrypter: Box<dyn MessageEncrypter>,
    next: u64,
}

impl Forger {
    /// All that `connection` had to say must have been taken out of it.
    pub fn new(connection: Connection) -> Self {
        let Some(SupportedCipherSuite::Tls12(suite)) = connection.negotiated_cipher_suite() else {
            panic!("TLS 1.2");
        };
        let (next, secrets) = connection.dangerous_extract_secrets().unwrap().tx;
        let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }) = secrets
        else {
            panic!("a suite whose nonce has two parts");
        };
        let (fixed, explicit) = iv.as_ref().split_at(suite.aead_alg.key_block_shape().fixed_iv_len);
        Forger { encrypter: suite.aead_alg.encrypter(key, fixed, explicit), next }
    }

    pub fn record(&mut self, typ: ContentType, body: &[u8]) -> Vec<u8> {
        let message = OutboundPlainMessage {
            typ,
            version: ProtocolVersion::TLSv1_2,
            payload: OutboundChunks::Single(body),
        };
        let record = self.encrypter.encrypt(message, self.next).unwrap().encode();
        self.next += 1;
        record
    }
}
