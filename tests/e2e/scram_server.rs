//! The server's side of SCRAM with the clients that applications use. The secret comes from
//! PostgreSQL; the rest of the server is a few lines here.

use std::io::{Read, Write};

use multigres::auth::scram::{Channel, Failure, Secret, Server};
use multigres::tls::end_point;
use postgres::NoTls;

use testing::{
    Authority, FakeUpstream, Message, PASSWORD, Raw, TENANTS, asked_tls_server, cluster, libpq,
    sqlstate,
};

const SCRAM: &str = "SCRAM-SHA-256";
const SCRAM_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// The server's side of a login.
#[derive(Clone)]
struct Script {
    secret: Secret,
    /// The hash of the certificate that the server believes it has shown.
    end_point: Option<Vec<u8>>,
    /// Somebody in between takes the -PLUS mechanism out of the offer.
    hides_plus: bool,
}

impl Script {
    fn with(secret: Secret) -> Script {
        Script { secret, end_point: None, hides_plus: false }
    }

    /// Lets the client log in, and answers each of its queries with nothing.
    fn play(&self, stream: &mut (impl Read + Write)) {
        read_startup(stream);
        match self.authenticate(stream) {
            Ok(()) => {}
            Err(failure) => {
                let (sqlstate, text) = match failure {
                    Failure::Protocol(text) => ("08P01", text),
                    Failure::Binding(text) => ("28000", text),
                    Failure::Proof => ("28P01", "password authentication failed"),
                };
                send(stream, &Message::error("FATAL", sqlstate, text));
                return;
            }
        }
        send(stream, &Message::authentication_ok());
        send(stream, &Message::parameter_status("server_version", "15.0"));
        send(stream, &Message::backend_key_data(1, [0; 4]));
        send(stream, &Message::ready_for_query());
        while let Ok(Message { tag: b'Q', .. }) = Message::read(stream) {
            send(stream, &Message::new(b'I', []));
            send(stream, &Message::ready_for_query());
        }
    }

    fn authenticate(&self, stream: &mut (impl Read + Write)) -> Result<(), Failure> {
        let offers_plus = self.end_point.is_some() && !self.hides_plus;
        let offer =
            if offers_plus { format!("{SCRAM_PLUS}\0{SCRAM}\0\0") } else { format!("{SCRAM}\0\0") };
        send(stream, &authentication(10, offer.as_bytes()));
        let initial = Message::read(stream).expect("SASLInitialResponse").body;
        let name_bytes = initial.iter().position(|byte| *byte == 0).expect("a name");
        let (name, response) = (&initial[..name_bytes], &initial[name_bytes + 5..]);
        let channel = match &self.end_point {
            Some(hash) if name == SCRAM_PLUS.as_bytes() => Channel::EndPoint(hash.clone()),
            Some(_) => Channel::Unbound,
            None => Channel::Unoffered,
        };
        let server = Server::new(self.secret.clone(), channel, "the-nonce-of-one-test".into());
        let (first, challenged) = server.challenge(response)?;
        send(stream, &authentication(11, first.as_bytes()));
        let last = Message::read(stream).expect("SASLResponse").body;
        let proof = challenged.verify(&last)?;
        send(stream, &authentication(12, proof.as_bytes()));
        Ok(())
    }
}

fn authentication(code: i32, data: &[u8]) -> Message {
    Message::new(b'R', [code.to_be_bytes().as_slice(), data].concat())
}

fn send(stream: &mut impl Write, message: &Message) {
    // A client that has found something wrong may have gone.
    let _ = stream.write_all(&message.to_bytes()).and_then(|()| stream.flush());
}

fn read_startup(stream: &mut impl Read) {
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("a length word");
    let length = usize::try_from(i32::from_be_bytes(length)).expect("a length");
    stream.read_exact(&mut vec![0; length - 4]).expect("a StartupMessage");
}

/// PostgreSQL's own secret of the password that every role has.
fn stored() -> Secret {
    let sql = "select rolpassword from pg_authid where rolname = 'scram_user'";
    let row = cluster().superuser("postgres").query_one(sql, &[]).unwrap();
    Secret::parse(row.get(0)).unwrap()
}

/// The answer of psql to a login to this server.
fn psql(port: u16, options: &str) -> Option<Result<String, String>> {
    let host = "host=127.0.0.1 gssencmode=disable";
    let conninfo = format!("{host} port={port} user=app_user.acme dbname=x {options}");
    libpq::psql(&conninfo, "select")
}

#[test]
fn drivers_log_in_with_the_secret_that_postgresql_has_stored() {
    let script = Script::with(stored());
    let server = FakeUpstream::serve(move |mut raw| script.play(&mut raw));
    let connect = |password: &str| {
        let mut config = postgres::Config::new();
        config.host("127.0.0.1").port(server.port()).user("app_user.acme").dbname(TENANTS);
        config.password(password).connect(NoTls)
    };
    assert!(connect(PASSWORD).is_ok());
    let wrong = connect("another").err().expect("it is wrong");
    assert_eq!(sqlstate(&wrong), "28P01");
    if let Some(answer) = psql(server.port(), "sslmode=disable") {
        assert_eq!(answer.as_deref(), Ok(""));
    }
}

#[test]
fn libpq_is_refused_by_another_secret_and_by_that_of_no_login() {
    for secret in [
        Secret::of_password(b"another", b"sixteen of salt!", 4096),
        Secret::mock(b"key", b"app_user.acme", 4096),
    ] {
        let script = Script::with(secret);
        let server = FakeUpstream::serve(move |mut raw| script.play(&mut raw));
        if let Some(answer) = psql(server.port(), "sslmode=disable") {
            let told = answer.expect_err("it is refused");
            assert!(told.ends_with("FATAL: password authentication failed"), "{told}");
        }
    }
}

#[test]
fn libpq_binds_the_channel_and_finds_out_who_is_in_between() {
    let authority = Authority::new("the right one");
    let identity = authority.certify("localhost", &["localhost"]);
    let hash = end_point(&identity.der).expect("a hash");
    let play = |end_point: Option<&[u8]>, hides_plus: bool, options: &str| {
        let (identity, end_point) = (identity.clone(), end_point.map(<[u8]>::to_vec));
        let script = Script { end_point, hides_plus, ..Script::with(stored()) };
        let server = FakeUpstream::serve(move |raw: Raw| {
            script.play(&mut asked_tls_server(raw, &identity));
        });
        psql(server.port(), &format!("sslmode=require {options}"))
    };
    let taken = [
        (Some(hash.as_slice()), "channel_binding=require"),
        (Some(&hash), "channel_binding=prefer"),
        (Some(&hash), "channel_binding=disable"),
        (None, "channel_binding=prefer"),
    ];
    for (end_point, options) in taken {
        if let Some(answer) = play(end_point, false, options) {
            assert_eq!(answer.as_deref(), Ok(""), "{options}");
        }
    }
    let other = [1; 32];
    let refused = [
        (Some(hash.as_slice()), true, "has not seen the offer"),
        (Some(&other), false, "the channel binding is not that of this connection"),
    ];
    for (end_point, hides_plus, part) in refused {
        if let Some(answer) = play(end_point, hides_plus, "channel_binding=prefer") {
            let told = answer.expect_err(part);
            assert!(told.contains(part), "{told}");
        }
    }
}
