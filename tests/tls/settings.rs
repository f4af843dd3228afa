//! What the settings make of files, and which mistakes they find in them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use multigres::config::{Config, Sources};
use multigres::session::{ClientTls, UpstreamTls};
use multigres::tls::{Chain, ClientCertificate, Key, Tls, Verification};
use rustls::{CertificateError, Error};
use tempfile::TempDir;

use crate::handshake::{accepting, connecting, shake};
use testing::certificates::{
    Authority, Certified, NAME, expired, not_yet_valid, pem, server_params,
};

/// A folder with what the stories need; it is the working folder of none, so names are full ones.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Folder(tempfile::tempdir().unwrap());
        let (ca, wrong) = (Authority::new("right"), Authority::new("wrong"));
        let (server, client) = (ca.server(), ca.client());
        folder.write("ca.crt", &ca.pem);
        folder.write("wrong-ca.crt", &wrong.pem);
        folder.write("server.crt", &server.chain);
        folder.write("server.key", &server.key);
        folder.write("client.crt", &client.chain);
        folder.write("client.key", &client.key);
        folder
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join(name)).unwrap()
    }

    /// A settings file, `@` standing for the folder, `;` for a new line.
    fn text(&self, text: &str) -> String {
        text.replace('@', &format!("{}/", self.0.path().display())).replace(';', "\n")
    }

    fn load(&self, text: &str) -> Result<Config, Vec<String>> {
        let file = Some(("m.conf".to_owned(), Ok(self.text(text))));
        let loaded = Config::load(&Sources { file, ..Sources::default() });
        loaded.map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
    }

    fn tls(&self, text: &str) -> (ClientTls, UpstreamTls, Tls) {
        let config = self.load(text).unwrap_or_else(|told| panic!("{text}: {told:#?}"));
        let session = &config.proxy.session;
        let tls = (*config.proxy.tls).clone();
        assert_eq!(tls.client.is_some(), session.client_tls != ClientTls::Disabled, "{text}");
        assert_eq!(tls.upstream.is_some(), session.upstream_tls != UpstreamTls::Disabled, "{text}");
        (session.client_tls, session.upstream_tls, tls)
    }

    /// That these are the mistakes, by their beginnings.
    #[track_caller]
    fn finds(&self, text: &str, starts: &[&str]) {
        let told = self.load(text).expect_err(text);
        let starts: Vec<String> = starts.iter().map(|start| self.text(start)).collect();
        assert_eq!(told.len(), starts.len(), "{text}: {told:#?}");
        for (told, start) in told.iter().zip(&starts) {
            assert!(told.starts_with(start.as_str()), "{text}: {told} is not {start}…");
        }
    }
}

const SERVER: &str = "tls_cert = @server.crt;tls_key = @server.key";

#[test]
fn clients_are_offered_tls_as_soon_as_there_is_a_certificate() {
    let folder = Folder::new();
    for (text, expected) in [
        ("", ClientTls::Disabled),
        ("tls = disable", ClientTls::Disabled),
        ("tls =;tls_cert =;tls_key =;tls_client_ca =;tls_client_cert =", ClientTls::Disabled),
        (SERVER, ClientTls::Allowed),
        (&format!("{SERVER};tls ="), ClientTls::Allowed),
        (&format!("{SERVER};tls = allow"), ClientTls::Allowed),
        (&format!("{SERVER};tls = require"), ClientTls::Required),
        (&format!("{SERVER};tls = disable"), ClientTls::Disabled),
    ] {
        assert_eq!(folder.tls(text).0, expected, "{text}");
    }
    let leg = folder.tls(SERVER).2.client.unwrap();
    let in_file = Chain::from_pem(folder.read("server.crt").as_bytes());
    assert_eq!(Chain::from_pem(pem(&leg.certificate).as_bytes()), in_file);
}

#[test]
fn a_certificate_and_its_key_may_stand_in_one_file() {
    let folder = Folder::new();
    folder.write("both.pem", &(folder.read("server.key") + &folder.read("server.crt")));
    assert_eq!(folder.tls("tls_cert = @both.pem;tls_key = @both.pem").0, ClientTls::Allowed);
    folder.write("noted.crt", &format!("Issuer: right\r\n\n{}", folder.read("server.crt")));
    assert_eq!(folder.tls("tls_cert = @noted.crt;tls_key = @server.key").0, ClientTls::Allowed);
}

#[test]
fn upstream_is_asked_for_tls_unless_it_is_on_this_machine() {
    let folder = Folder::new();
    for (host, by_default) in [
        ("127.0.0.1", UpstreamTls::Disabled),
        ("127.8.9.10", UpstreamTls::Disabled),
        ("::1", UpstreamTls::Disabled),
        ("[::ffff:127.0.0.1]", UpstreamTls::Disabled),
        ("LocalHost", UpstreamTls::Disabled),
        ("/run/postgresql", UpstreamTls::Disabled),
        ("10.0.0.1", UpstreamTls::Preferred),
        ("fe80::1%eth0", UpstreamTls::Preferred),
        ("db.example", UpstreamTls::Preferred),
        ("db_1", UpstreamTls::Preferred),
        ("db.example.", UpstreamTls::Preferred),
        ("localhost.example", UpstreamTls::Preferred),
    ] {
        let at = format!("upstream_host = {host}");
        assert_eq!(folder.tls(&at).1, by_default, "{at}");
        assert_eq!(folder.tls(&format!("{at};upstream_tls =")).1, by_default, "{at}");
        assert_eq!(folder.tls(&format!("{at};upstream_tls = disable")).1, UpstreamTls::Disabled);
        let asked = folder.tls(&format!("{at};upstream_tls = prefer")).1;
        let is_unix = host.starts_with('/');
        let expected = if is_unix { UpstreamTls::Disabled } else { UpstreamTls::Preferred };
        assert_eq!(asked, expected, "{at}");
        if !is_unix {
            let required = format!("{at};upstream_tls = require");
            assert_eq!(folder.tls(&required).1, UpstreamTls::Required);
            let direct = format!("{required};upstream_tls_negotiation = direct");
            assert_eq!(folder.tls(&direct).1, UpstreamTls::Direct);
        }
    }
}

/// Dials a server of the right CA that has another name, and one of the wrong CA.
fn accepts(
    tls: &Tls,
    right: &Certified,
    wrong: &Certified,
) -> (Result<(), Error>, Result<(), Error>) {
    let dial = |made: &Certified| {
        let upstream = accepting(made.identity(), &ClientCertificate::None);
        shake(&mut tls.connect().unwrap(), &mut upstream.accept().unwrap()).client
    };
    (dial(right), dial(wrong))
}

#[test]
fn the_words_mean_what_they_mean_to_libpq() {
    let folder = Folder::new();
    let (ca, wrong_ca) = (Authority::new("right"), Authority::new("wrong"));
    folder.write("own-ca.crt", &ca.pem);
    let right = ca.issue(&server_params(&["other.example"]));
    let wrong = wrong_ca.server();
    let at = "upstream_host = db.example";
    let with_ca = format!("{at};upstream_tls_ca = @own-ca.crt");
    let unknown = Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
    for any in [at, &format!("{at};upstream_tls = require")] {
        assert_eq!(accepts(&folder.tls(any).2, &right, &wrong), (Ok(()), Ok(())));
    }
    for word in ["require", "verify-ca"] {
        let tls = folder.tls(&format!("{with_ca};upstream_tls = {word}")).2;
        assert_eq!(accepts(&tls, &right, &wrong), (Ok(()), unknown.clone()), "{word}");
    }
    let tls = folder.tls(&format!("{with_ca};upstream_tls = verify-full")).2;
    let (misnamed, foreign) = accepts(&tls, &right, &wrong);
    let Err(Error::InvalidCertificate(error)) = misnamed else { panic!("{misnamed:?}") };
    assert!(matches!(error, CertificateError::NotValidForNameContext { .. }), "{error:?}");
    assert_eq!(foreign, unknown);
    assert_eq!(accepts(&tls, &ca.server(), &wrong).0, Ok(()), "the right name");
}

#[test]
fn client_certificates_are_asked_for_as_the_settings_say() {
    let folder = Folder::new();
    let own = format!("{SERVER};tls_client_ca = @ca.crt");
    let none = Err(Error::NoCertificatesPresented);
    let verified = Verification::AnyCertificate;
    for (text, without) in [
        (format!("{own};tls = require"), none.clone()),
        (format!("{own};tls = require;tls_client_cert ="), none.clone()),
        (format!("{own};tls = require;tls_client_cert = require"), none),
        (format!("{own};tls = require;tls_client_cert = request"), Ok(())),
        (format!("{own};tls = allow;tls_client_cert = request"), Ok(())),
        (format!("{own};tls_client_cert = request"), Ok(())),
    ] {
        let tls = folder.tls(&text).2;
        let client = connecting(NAME, verified.clone(), None);
        let ended = shake(&mut client.connect().unwrap(), &mut tls.accept().unwrap());
        assert_eq!(ended.server, without, "{text}");
        // The daemon's other leg shows one: here to a daemon.
        let shows = "upstream_host = db.example;upstream_tls_cert = @client.crt;\
                     upstream_tls_key = @client.key";
        let (_, _, client) = folder.tls(shows);
        shake(&mut client.connect().unwrap(), &mut tls.accept().unwrap()).well();
    }
}

#[test]
fn a_certificate_needs_its_key_and_a_key_its_certificate() {
    let folder = Folder::new();
    folder.finds("tls_cert = @server.crt", &["m.conf:1: tls_cert is set and tls_key is not"]);
    folder.finds(";tls_key = @server.key", &["m.conf:2: tls_key is set and tls_cert is not"]);
    folder.finds(
        "tls_cert = @server.crt;tls_key = @client.key",
        &["m.conf:2: tls_key does not fit tls_cert: the key is not that of the first certificate"],
    );
    folder.write("chain.crt", &(folder.read("ca.crt") + &folder.read("server.crt")));
    folder.finds(
        "tls_key = @server.key;tls_cert = @chain.crt",
        &["m.conf:1: tls_key does not fit tls_cert"],
    );
    let at = "upstream_host = db.example";
    folder.finds(
        &format!("{at};upstream_tls_cert = @client.crt"),
        &["m.conf:2: upstream_tls_cert is set and upstream_tls_key is not"],
    );
    folder.finds(
        &format!("{at};upstream_tls_key = @client.key"),
        &["m.conf:2: upstream_tls_key is set and upstream_tls_cert is not"],
    );
    folder.finds(
        &format!("{at};upstream_tls_cert = @client.crt;upstream_tls_key = @server.key"),
        &["m.conf:3: upstream_tls_key does not fit upstream_tls_cert"],
    );
    // A pair that does not fit is a mistake whether it is used or not.
    folder.finds(
        "tls = disable;tls_cert = @server.crt;tls_key = @client.key",
        &["m.conf:3: tls_key does not fit tls_cert"],
    );
}

#[test]
fn settings_of_the_client_leg_that_come_to_nothing_are_told() {
    let folder = Folder::new();
    for word in ["allow", "require"] {
        let start = format!("m.conf:1: tls = {word} and no tls_cert");
        folder.finds(&format!("tls = {word}"), &[&start]);
    }
    folder.finds(
        "tls_client_ca = @ca.crt",
        &["m.conf:1: tls_client_ca is set and tls_cert is not: without TLS nobody is asked"],
    );
    folder.finds(
        "tls_client_cert = request",
        &["m.conf:1: tls_client_cert is set and tls_client_ca is not"],
    );
    folder.finds(
        &format!("{SERVER};tls_client_cert = require;tls = require"),
        &["m.conf:3: tls_client_cert is set and tls_client_ca is not"],
    );
    folder.finds(
        &format!("{SERVER};tls = disable;tls_client_ca = @ca.crt"),
        &["m.conf:4: tls_client_ca is set and tls = disable"],
    );
    for more in ["", ";tls = allow", ";tls_client_cert = require"] {
        folder.finds(
            &format!("{SERVER};tls_client_ca = @ca.crt{more}"),
            &["m.conf:3: tls_client_ca is set and tls is not require: clients without TLS"],
        );
    }
    folder.finds(
        &format!("{SERVER};tls = require;tls_client_ca = @client.crt"),
        &["m.conf:4: tls_client_ca: no certificate in it is a CA's"],
    );
    // One mistake brings no other along.
    folder.finds("tls = require;tls_cert = /nowhere", &["m.conf:2: tls_cert: \"/nowhere\""]);
    folder.finds("tls_client_ca = /nowhere", &["m.conf:1: tls_client_ca: \"/nowhere\""]);
    let with = format!("tls_client_ca = /nowhere;tls_client_cert = request;{SERVER}");
    folder.finds(&with, &["m.conf:1: tls_client_ca: \"/nowhere\""]);
    folder.finds(
        "tls = require;tls_key = @server.key",
        &["m.conf:2: tls_key is set and tls_cert is not"],
    );
    let named = "tls = require;tls_cert = /nowhere;tls_key = @server.key;tls_client_ca = @ca.crt";
    folder.finds(named, &["m.conf:2: tls_cert: \"/nowhere\""]);
    folder.finds(
        "tls = on;tls_cert = @server.crt;tls_key = @server.key;tls_client_ca = @ca.crt",
        &["m.conf:1: tls: \"on\" is not one of disable, allow, require"],
    );
}

#[test]
fn settings_of_the_upstream_leg_that_come_to_nothing_are_told() {
    let folder = Folder::new();
    let all = "upstream_tls_ca = @ca.crt;upstream_tls_cert = @client.crt;\
               upstream_tls_key = @client.key;upstream_tls_negotiation = direct";
    let told = |because: &str| {
        [
            format!("m.conf:1: upstream_tls_ca is set and {because}"),
            format!("m.conf:2: upstream_tls_cert is set and {because}"),
            format!("m.conf:3: upstream_tls_key is set and {because}"),
            format!("m.conf:4: upstream_tls_negotiation = direct and {because}"),
        ]
    };
    for (more, because) in [
        ("", "upstream_host is this machine"),
        ("upstream_host = localhost", "upstream_host is this machine"),
        ("upstream_tls = disable", "upstream_tls = disable"),
        ("upstream_host = db.example;upstream_tls = disable", "upstream_tls = disable"),
        ("upstream_host = /run/x", "upstream_host is a unix socket"),
        ("upstream_host = /run/x;upstream_tls = prefer", "upstream_host is a unix socket"),
    ] {
        let starts = told(because);
        folder.finds(&format!("{all};{more}"), &starts.each_ref().map(String::as_str));
    }
    for word in ["require", "verify-ca", "verify-full"] {
        let start = format!("m.conf:2: upstream_tls = {word} and upstream_host is a unix socket");
        folder.finds(&format!("upstream_host = /run/x;upstream_tls = {word}"), &[&start]);
    }
    let at = "upstream_host = db.example";
    for more in ["", ";upstream_tls = prefer"] {
        folder.finds(
            &format!("{at};upstream_tls_ca = @ca.crt{more}"),
            &["m.conf:2: upstream_tls_ca is set and upstream_tls is prefer"],
        );
        folder.finds(
            &format!("{at};upstream_tls_negotiation = direct{more}"),
            &["m.conf:2: upstream_tls_negotiation = direct needs upstream_tls = require"],
        );
    }
    folder.finds(
        &format!("{at};upstream_tls = verify-ca"),
        &["m.conf:2: upstream_tls = verify-ca and no upstream_tls_ca"],
    );
    folder.finds(
        "upstream_tls = require;upstream_host = a..b",
        &["m.conf:2: upstream_host: \"a..b\" is not a name that a certificate can be for"],
    );
    // One mistake brings no other along.
    for setting in ["upstream_tls_ca", "upstream_tls_cert", "upstream_tls_key"] {
        let start = format!("m.conf:1: {setting}: ");
        folder.finds(&format!("{setting} = /nowhere"), &[&start]);
    }
    for more in ["upstream_host = a,b", "upstream_tls = yes"] {
        assert_eq!(folder.load(&format!("{all};{more}")).unwrap_err().len(), 1, "{more}");
    }
    let named = format!("{at};upstream_tls = verify-ca;upstream_tls_ca = /nowhere");
    folder.finds(&named, &["m.conf:3: upstream_tls_ca: \"/nowhere\""]);
}

const ENCRYPTED: [&str; 2] = [
    "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIBvTBXBgkq\n-----END ENCRYPTED PRIVATE KEY-----\n",
    "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\
     DEK-Info: AES-256-CBC,0123456789ABCDEF\n\nMIIBvTBX\n-----END RSA PRIVATE KEY-----\n",
];

#[test]
fn what_is_wrong_with_a_file_is_told_without_what_is_in_it() {
    let folder = Folder::new();
    let secret = "c2VjcmV0c2VjcmV0";
    let key = |body: &str| format!("-----BEGIN PRIVATE KEY-----\n{body}-----END PRIVATE KEY-----");
    let none = "no private key in it";
    let odd = "the key in it is broken or of a kind that is not supported";
    let keys = [
        (String::new(), none),
        (folder.read("server.crt"), none),
        (format!("-----BEGIN OPENSSH KEY-----\n{secret}\n-----END OPENSSH KEY-----\n"), none),
        (ENCRYPTED[0].into(), "the key in it is encrypted"),
        (ENCRYPTED[1].into(), "the key in it is encrypted"),
        (key(&format!("{secret}\n")), odd),
        (key(&format!("{secret}*\n")), "a section of it is not base64"),
        (format!("-----BEGIN PRIVATE KEY-----\n{secret}"), "a section of it has no -----END line"),
        ("x".repeat(1024 * 1024), "it is 1 MiB or more"),
    ];
    for (text, what) in keys {
        folder.write("bad.key", &text);
        let start = format!("m.conf:2: tls_key: \"@bad.key\": {what}");
        folder.finds("tls_cert = @server.crt;tls_key = @bad.key", &[&start]);
        let told = folder.load("tls_cert = @server.crt;tls_key = @bad.key").unwrap_err();
        assert!(!told[0].contains(secret), "{told:?}");
    }
    let none = "no certificate in it";
    let readable = folder.read("ca.crt");
    let one = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let files = [
        (String::new(), none, none),
        (folder.read("server.key"), none, none),
        ("\0\u{1}0\u{82}".into(), none, none),
        (one.into(), "its first certificate cannot be read", "certificate 1 of it cannot be read"),
        (format!("{readable}{one}"), "", "certificate 2 of it cannot be read"),
        (readable.replace("-----END", "END"), "a section of it", "a section of it"),
        (readable + &"x".repeat(1024 * 1024), "it is 1 MiB or more", "it is 1 MiB or more"),
    ];
    for (text, as_chain, as_roots) in files {
        folder.write("bad.crt", &text);
        let ca = format!("m.conf:2: upstream_tls_ca: \"@bad.crt\": {as_roots}");
        let at = "upstream_host = db.example;upstream_tls_ca = @bad.crt;upstream_tls = verify-ca";
        folder.finds(at, &[&ca]);
        let ca = format!("m.conf:1: tls_client_ca: \"@bad.crt\": {as_roots}");
        folder.finds(&format!("tls_client_ca = @bad.crt;{SERVER};tls = require"), &[&ca]);
        if !as_chain.is_empty() {
            let cert = format!("m.conf:2: tls_cert: \"@bad.crt\": {as_chain}");
            folder.finds("tls_key = @server.key;tls_cert = @bad.crt", &[&cert]);
        }
    }
    for path in ["/nowhere", "/", "/dev/null"] {
        let start = format!("m.conf:1: tls_key: \"{path}\": ");
        folder.finds(&format!("tls_key = {path};tls_cert = @server.crt"), &[&start]);
    }
}

#[test]
fn a_key_that_others_can_read_is_refused_and_a_certificate_is_not() {
    let folder = Folder::new();
    let set = |name: &str, mode| {
        fs::set_permissions(folder.0.path().join(name), Permissions::from_mode(mode)).unwrap();
    };
    for (name, text) in [
        ("server.key", SERVER.to_owned()),
        (
            "client.key",
            "upstream_tls_key = @client.key;upstream_tls_cert = @client.crt;\
             upstream_host = db.example"
                .into(),
        ),
    ] {
        for mode in [0o644, 0o604, 0o660] {
            set(name, mode);
            let told = folder.load(&text).unwrap_err();
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(told[0].contains(&format!("its mode is {mode:03o}")), "{told:?}");
        }
        set(name, 0o400);
    }
    set("server.crt", 0o644);
    folder.load(SERVER).unwrap();
}

#[test]
fn a_mistake_has_the_place_of_its_source() {
    let folder = Folder::new();
    let load = |environment: &[(&str, &str)], flags: &[(&str, &str)]| {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), folder.text(value));
        let environment =
            environment.iter().map(owned).map(|(name, value)| (name, Ok(value))).collect();
        let flags = flags.iter().map(owned).collect();
        let told = Config::load(&Sources { file: None, environment, flags }).unwrap_err();
        told.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    let told = load(&[("MULTIGRES_TLS_CERT", "@server.crt")], &[]);
    assert_eq!(told, "environment MULTIGRES_TLS_CERT: tls_cert is set and tls_key is not");
    let told = load(&[], &[("upstream_tls_key", "@none"), ("upstream_tls", "verify-ca")]);
    assert!(told.starts_with("--upstream-tls-key: upstream_tls_key: \""), "{told}");
    assert!(told.contains("; --upstream-tls: upstream_tls = verify-ca and no"), "{told}");
}

/// What a reload will build on.
#[test]
fn loading_again_takes_what_is_in_the_files_then() {
    let folder = Folder::new();
    let text = format!(
        "{SERVER};upstream_host = db.example;upstream_tls_cert = @client.crt;\
                        upstream_tls_key = @client.key"
    );
    let first = folder.load(&text).unwrap().proxy;
    let again = folder.load(&text).unwrap().proxy;
    assert_ne!(first.tls, again.tls, "the same files make new objects");
    assert_eq!(first.session, again.session);
    let certificate = |tls: &Tls| tls.client.clone().unwrap().certificate;
    assert_eq!(certificate(&first.tls), certificate(&again.tls));
    let renewed = Authority::new("right").server();
    folder.write("server.crt", &renewed.chain);
    assert!(folder.load(&text).is_err(), "half of the change alone");
    folder.write("server.key", &renewed.key);
    let later = folder.load(&text).unwrap().proxy;
    assert_eq!(certificate(&later.tls), renewed.der);
    assert_ne!(certificate(&first.tls), renewed.der, "what was loaded stays as it is");
}

#[test]
fn the_systems_roots_serve_verify_full_alone() {
    let folder = Folder::new();
    fs::create_dir(folder.0.path().join("empty")).unwrap();
    folder.write("none.pem", "");
    let check = |roots: &str, mode: &str| {
        let roots = folder.text(roots);
        let mut command = Command::new(env!("CARGO_BIN_EXE_multigres"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MULTIGRES_") {
                command.env_remove(name);
            }
        }
        command.env("SSL_CERT_FILE", roots).env("SSL_CERT_DIR", folder.text("@empty"));
        command.args(["--check", "--upstream-host", "db.example", "--upstream-tls", mode]);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert!(Path::new(&folder.text("@ca.crt")).exists());
    assert_eq!(check("@ca.crt", "verify-full"), (Some(0), String::new()));
    for none in ["@none.pem", "@nowhere.pem"] {
        let (code, told) = check(none, "verify-full");
        assert_eq!(code, Some(2));
        let start = "--upstream-tls: upstream_tls = verify-full and no upstream_tls_ca: the \
                     system has no root certificates";
        assert!(told.starts_with(start) && told.lines().count() == 1, "{told}");
        assert_eq!(check(none, "require"), (Some(0), String::new()));
    }
    let (code, told) = check("@ca.crt", "verify-ca");
    assert_eq!(code, Some(2));
    assert!(told.starts_with("--upstream-tls: upstream_tls = verify-ca and no"), "{told}");
}

#[test]
fn debug_output_shows_no_key() {
    let folder = Folder::new();
    let shown = format!("{:?}", folder.tls(SERVER).2);
    let key = Key::from_pem(folder.read("server.key").as_bytes()).unwrap();
    assert_eq!(format!("{key:?}"), "Key(ECDSA)");
    for line in folder.read("server.key").lines().filter(|line| !line.starts_with('-')) {
        assert!(!shown.contains(line), "{shown}");
    }
}

#[test]
fn a_certificate_outside_of_its_time_or_near_its_end_is_warned_of() {
    let folder = Folder::new();
    let ca = Authority::new("right");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60 + 60 * 60);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let params = || server_params(&[NAME]);
    let until = |time: Duration| {
        let mut params = params();
        params.not_after = epoch + time;
        params
    };
    // 2050 is the first year of the other form of a time.
    let (mut far, mut future) = (params(), params());
    far.not_after = rcgen::date_time_ymd(2050, 3, 1);
    future.not_before = epoch + now + days(2);
    for (params, expected) in [
        (params(), None),
        (far, None),
        (until(now + days(31)), None),
        (until(now + days(29)), Some("tls_cert: the certificate expires in 29 days")),
        (until(now + days(0)), Some("tls_cert: the certificate expires within a day")),
        (until(now - days(3)), Some("tls_cert: the certificate has expired, 3 days ago")),
        (expired(params()), Some("tls_cert: the certificate has expired, ")),
        (future, Some("tls_cert: the certificate is not yet valid: its time begins in 2 days")),
        (not_yet_valid(params()), Some("tls_cert: the certificate is not yet valid")),
    ] {
        let server = ca.issue(&params);
        folder.write("dated.crt", &server.chain);
        folder.write("dated.key", &server.key);
        let config = folder.load("tls_cert = @dated.crt;tls_key = @dated.key").unwrap();
        let told: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
        match expected {
            None => assert!(told.is_empty(), "{told:?}"),
            Some(expected) => {
                assert!(told[0].starts_with(&format!("m.conf:1: {expected}")), "{told:?}")
            }
        }
    }
}
