//! A PostgreSQL whose key is of a kind that few have: Multigres takes what libpq takes.

use testing::{
    ACME, Authority, Certified, Cluster, Files, Run, binding, bound, contacts, sqlstate,
};

const KEYS: [(&str, &str); 3] = [
    (include_str!("../keys/p521.pem"), include_str!("../keys/p521.key")),
    (include_str!("../keys/pss.pem"), include_str!("../keys/pss.key")),
    (include_str!("../keys/pss_sha256.pem"), include_str!("../keys/pss_sha256.key")),
];

#[test]
fn keys_on_p521_and_for_pss_are_proved_and_bound() {
    let files = Files::new();
    let stranger = Authority::new("stranger");
    let wrong = files.put("wrong.pem", &stranger.pem).display().to_string();
    for (certificate, key) in KEYS {
        let identity = Certified::from_pem(certificate, key);
        let cluster = Cluster::with_tls(&identity, &stranger);
        let right = files.put("right.pem", certificate).display().to_string();
        let mut runs = vec![Run::on(&cluster).set("upstream_tls", "require")];
        for level in ["verify-ca", "verify-full"] {
            let run = Run::on(&cluster).set("upstream_tls", level);
            runs.push(run.set("upstream_tls_ca", &right));
        }
        for run in runs {
            // SCRAM by Multigres itself is bound to the certificate.
            let daemon = run.set("auth", "password").start();
            let mut client = daemon.connect("scram_user.acme");
            assert_eq!(contacts(&mut client), ACME);
            assert_eq!(bound(&mut client), binding("acme", "scram_user"));
            let ssl = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
            assert!(client.query_one(ssl, &[]).unwrap().get::<_, bool>(0));
        }
        let run = Run::on(&cluster).set("upstream_tls", "verify-full");
        let daemon = run.set("upstream_tls_ca", &wrong).start();
        let error = daemon.try_connect("scram_user.acme").err().expect("refused");
        assert_eq!(sqlstate(&error), "08001");
    }
}
