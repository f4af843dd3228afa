//! Passwords of all kinds, which PostgreSQL has stored and Multigres answers SCRAM with.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use multigres::auth::scram::{Binding, Channel, Client, Secret, Server};
use postgres::NoTls;
use testing::{Daemon, TENANTS, cluster, sqlstate};

/// Passwords that PostgreSQL leaves as they are, and others: see `pg_saslprep` in `saslprep.c`.
const PASSWORDS: [&str; 18] = [
    "plain",
    "with a space and 'quotes'",
    "m\u{fc}nchen",
    "mu\u{308}nchen",
    "\u{2168}\u{aa}",
    "no\u{ad}break\u{a0}space",
    "\u{2090}",
    "\u{32ff}",
    "\u{1d43}",
    "\u{1f130}",
    "\u{340}",
    "\u{341}e",
    "\u{627}1",
    "\u{627}\u{644}\u{627}",
    "\u{e000}\u{fb01}",
    "\u{7}\u{fb01}",
    "\u{1f600}",
    "\u{ad}",
];

/// One of these blocks, and a letter in it: letters with forms, marks, spaces, controls, new ones.
fn random_password(seed: &mut u64) -> String {
    const BLOCKS: [(u32, u32); 12] = [
        (0x20, 0x7f),
        (0xa0, 0x250),
        (0x300, 0x370),
        (0x590, 0x700),
        (0x1100, 0x1200),
        (0x1d00, 0x2070),
        (0x2070, 0x2200),
        (0x3000, 0x3400),
        (0xac00, 0xac40),
        (0xf900, 0xfb50),
        (0xfb50, 0xffff),
        (0x1d400, 0x1f200),
    ];
    let mut next = |below: usize| {
        *seed =
            seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(*seed >> 33).expect("31 bits") % below
    };
    let letters = (0..1 + next(6)).filter_map(|_| {
        let (from, to) = BLOCKS[next(BLOCKS.len())];
        char::from_u32(from + u32::try_from(next((to - from) as usize)).expect("small"))
    });
    letters.filter(|letter| *letter != '\0').collect()
}

#[test]
fn every_password_that_postgresql_accepts_is_accepted() {
    let mut superuser = cluster().superuser("postgres");
    superuser
        .batch_execute(
            "set password_encryption = 'scram-sha-256';
             create role many_passwords login in role tenant_tables, by_scram",
        )
        .unwrap();
    let mut seed = 1;
    let random: Vec<String> = (0..24).map(|_| random_password(&mut seed)).collect();
    let passwords: Vec<&str> =
        PASSWORDS.into_iter().chain(random.iter().map(String::as_str)).collect();
    // Each costs thousands of rounds, and no daemon may outlive its test's time.
    for passwords in passwords.chunks(12) {
        let daemon = Daemon::with(&[("auth", "password")]);
        for password in passwords.iter().filter(|password| !password.is_empty()) {
            let quoted = password.replace('\'', "''");
            superuser
                .batch_execute(&format!("alter role many_passwords password '{quoted}'"))
                .unwrap_or_else(|error| panic!("{}: {error}", password.escape_unicode()));
            let mut config = daemon.config("many_passwords.acme");
            let client = config.dbname(TENANTS).password(password).connect(NoTls);
            assert!(client.is_ok(), "{}: {:?}", password.escape_unicode(), client.err());
        }
        let last = passwords.last().expect("a chunk is not empty");
        let mut config = daemon.config("many_passwords.acme");
        let wrong = config.password(format!("{last}x")).connect(NoTls).err().expect("wrong");
        assert_eq!(sqlstate(&wrong), "28P01", "{}", last.escape_unicode());
    }
}

/// PostgreSQL's own verifier is the one that our side makes, and believes our client.
#[test]
fn the_secret_that_postgresql_stores_is_the_one_that_we_make() {
    let mut superuser = cluster().superuser("postgres");
    superuser
        .batch_execute(
            "set password_encryption = 'scram-sha-256'; create role stored_passwords login",
        )
        .unwrap();
    for password in PASSWORDS {
        let quoted = password.replace('\'', "''");
        superuser
            .batch_execute(&format!("alter role stored_passwords password '{quoted}'"))
            .unwrap();
        let sql = "select rolpassword from pg_authid where rolname = 'stored_passwords'";
        let stored: String = superuser.query_one(sql, &[]).unwrap().get(0);
        let secret = Secret::parse(&stored).unwrap();
        assert_eq!(*secret.to_text(), stored);
        let salt = stored.split(['$', ':']).nth(2).unwrap();
        let salt = STANDARD.decode(salt).unwrap();
        let ours = Secret::of_password(password.as_bytes(), &salt, 4096);
        assert_eq!(*ours.to_text(), stored, "{}", password.escape_unicode());
        let mut client = Client::new(password.as_bytes(), Binding::Unsupported, "one".into());
        let server = Server::new(secret, Channel::Unoffered, "two".into());
        let (first, challenged) = server.challenge(client.first().as_bytes()).unwrap();
        let last = client.prove(first.as_bytes()).unwrap();
        let proof = challenged.verify(last.as_bytes()).expect(password);
        assert_eq!(client.verify(proof.as_bytes()), Ok(()));
    }
}
