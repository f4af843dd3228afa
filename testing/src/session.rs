//! Plays stories with a session: feeds it in chunks of one size, collects what comes out.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;

use multigres::session::{
    Action, Auth, ClientPlace, ClientTls, Findings, Guard, Handshake, Leg, LoginSettings, Outcome,
    Session, Stage, UpstreamTls,
};
use multigres::tenant::{
    Described, GuardDemand, Policy, Pooler, Seal, SealBind, SealDemand, SealKey,
};

use crate::SEAL_KEY;

/// Who plays: the settings, and the size of the chunks.
#[derive(Clone, Copy)]
pub struct Cast {
    chunk_bytes: usize,
    auth: Auth,
    client_place: ClientPlace,
    client_tls: ClientTls,
    upstream_tls: UpstreamTls,
    pooler: Pooler,
    allow_cleartext_password: bool,
    upstream_is_local: bool,
    upstream_may_know_multigres: bool,
    seal_bind: Option<SealBind>,
    seal_demand: SealDemand,
    guard: GuardDemand,
    two_variables: bool,
    /// Multigres' end of the upstream leg.
    local_address: Option<SocketAddr>,
}

impl Cast {
    /// Chunks as large as they come.
    pub fn whole() -> Self {
        Cast {
            chunk_bytes: usize::MAX,
            auth: Auth::Auto,
            client_place: ClientPlace::Loopback,
            client_tls: ClientTls::Disabled,
            upstream_tls: UpstreamTls::Disabled,
            pooler: Pooler::None,
            allow_cleartext_password: false,
            upstream_is_local: true,
            upstream_may_know_multigres: false,
            seal_bind: None,
            seal_demand: SealDemand::Prefer,
            guard: GuardDemand::Off,
            two_variables: false,
            local_address: Some(SocketAddr::from(([127, 0, 0, 1], 54321))),
        }
    }

    pub fn auth(self, auth: Auth) -> Self {
        Cast { auth, ..self }
    }

    pub fn public(self) -> Self {
        Cast { client_place: ClientPlace::Network, ..self }
    }

    pub fn upstream_far_away(self) -> Self {
        Cast { upstream_is_local: false, ..self }
    }

    pub fn upstream_may_know_multigres(self) -> Self {
        Cast { upstream_may_know_multigres: true, ..self }
    }

    pub fn unix_socket(self) -> Self {
        Cast { client_place: ClientPlace::UnixSocket, ..self }
    }

    pub fn client_tls(self, client_tls: ClientTls) -> Self {
        Cast { client_tls, ..self }
    }

    pub fn upstream_tls(self, upstream_tls: UpstreamTls) -> Self {
        Cast { upstream_tls, ..self }
    }

    pub fn pooler(self) -> Self {
        Cast { pooler: Pooler::Session, ..self }
    }

    /// With the key [`SEAL_KEY`].
    pub fn sealed(self, bind: SealBind) -> Self {
        Cast { seal_bind: Some(bind), ..self }
    }

    pub fn seal_required(self) -> Self {
        Cast { seal_demand: SealDemand::Require, ..self }
    }

    pub fn guarded(self, guard: GuardDemand) -> Self {
        Cast { guard, ..self }
    }

    pub fn two_variables(self) -> Self {
        Cast { two_variables: true, ..self }
    }

    pub fn local_address(self, local_address: Option<SocketAddr>) -> Self {
        Cast { local_address, ..self }
    }

    fn seal(self) -> Option<Seal> {
        let key = SealKey::from_hex(SEAL_KEY.as_bytes()).unwrap();
        self.seal_bind.map(|bind| Seal { key, bind, demand: self.seal_demand })
    }

    pub fn cleartext_allowed(self) -> Self {
        Cast { allow_cleartext_password: true, ..self }
    }
}

/// Tells the story with chunks of every size that can make a difference.
pub fn at_every_chunk_size(story: impl Fn(Cast)) {
    for chunk_bytes in (1..=64).chain([usize::MAX]) {
        story(Cast { chunk_bytes, ..Cast::whole() });
    }
}

/// The same with a few of them, for stories that are many already.
pub fn at_some_chunk_sizes(story: impl Fn(Cast)) {
    for chunk_bytes in [1, 7, usize::MAX] {
        story(Cast { chunk_bytes, ..Cast::whole() });
    }
}

/// A session under way, its output collected.
pub struct Play {
    settings: Rc<LoginSettings>,
    session: Session,
    chunk_bytes: usize,
    to_client: Vec<u8>,
    to_upstream: Vec<u8>,
    /// So many bytes the upstream leg still takes.
    upstream_takes: usize,
    actions: Vec<Action>,
    local_address: Option<SocketAddr>,
    /// How often the session has asked for that.
    pub address_calls: usize,
}

impl Play {
    pub fn new(cast: Cast) -> Self {
        let mut variables = vec!["app.current_tenant_id".into()];
        variables.extend(cast.two_variables.then(|| "App.User".into()));
        let policy = Policy {
            context_variables: variables,
            upstream_pooler: cast.pooler,
            seal: cast.seal(),
            guard: cast.guard,
            ..Policy::default()
        };
        // Names all settings that there are today; a new one need not be named.
        #[allow(clippy::needless_update)]
        let settings = LoginSettings {
            policy,
            auth: cast.auth,
            allow_cleartext_password: cast.allow_cleartext_password,
            upstream_is_local: cast.upstream_is_local,
            upstream_may_know_multigres: cast.upstream_may_know_multigres,
            client_tls: cast.client_tls,
            upstream_tls: cast.upstream_tls,
            ..LoginSettings::default()
        };
        let settings = Rc::new(settings);
        Play {
            session: Session::new(Rc::clone(&settings), cast.client_place, [7; 18]),
            settings,
            chunk_bytes: cast.chunk_bytes,
            to_client: Vec::new(),
            to_upstream: Vec::new(),
            upstream_takes: usize::MAX,
            actions: Vec::new(),
            local_address: cast.local_address,
            address_calls: 0,
        }
    }

    pub fn client(&mut self, bytes: &[u8]) {
        self.feed(Leg::Client, bytes);
    }

    /// What upstream says, once it has been dialled.
    pub fn upstream(&mut self, bytes: &[u8]) {
        assert!(self.connects(), "upstream was not dialled");
        self.feed(Leg::Upstream, bytes);
    }

    /// From now on the upstream leg takes so many bytes, and no more.
    pub fn upstream_takes(&mut self, bytes: usize) {
        self.upstream_takes = bytes;
    }

    /// The handshake that was asked for is done.
    pub fn handshake_done(&mut self, leg: Leg, handshake: Handshake) {
        assert!(self.starts_tls(leg));
        self.session.handshake_done(leg, handshake);
        self.collect();
    }

    pub fn tls_fails(&mut self, leg: Leg) {
        self.session.tls_failed(leg, "for the log".into());
        self.collect();
    }

    pub fn take_input(&mut self, leg: Leg) -> Vec<u8> {
        self.session.take_input(leg).to_vec()
    }

    pub fn starts_tls(&self, leg: Leg) -> bool {
        self.actions.contains(&Action::StartTls(leg))
    }

    pub fn client_ends(&mut self) {
        self.session.ended(Leg::Client);
        self.collect();
    }

    pub fn client_fails(&mut self) {
        self.session.failed(Leg::Client);
        self.collect();
    }

    pub fn times_out(&mut self) {
        self.session.time_out();
        self.collect();
    }

    pub fn upstream_ends(&mut self) {
        self.session.ended(Leg::Upstream);
        self.collect();
    }

    pub fn take_to_client(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.to_client)
    }

    pub fn take_to_upstream(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.to_upstream)
    }

    /// The proxy knows from an earlier login what still counts.
    pub fn keeps_verdict(&mut self, findings: Findings) {
        self.session.keep_verdict(findings);
    }

    pub fn sealed(&self) -> Option<bool> {
        self.session.findings().sealed
    }

    pub fn guard(&self) -> Option<Guard> {
        self.session.findings().guard
    }

    /// What the log tells of the login.
    pub fn described(&self) -> String {
        Described(self.session.login(), &self.settings.policy).to_string()
    }

    /// The refusal as the log tells it.
    pub fn refusal(&self) -> String {
        match self.outcome() {
            Some(Outcome::Refused(refusal)) => refusal.to_string(),
            other => panic!("not refused: {other:?}"),
        }
    }

    pub fn stage(&self) -> Stage {
        self.session.stage()
    }

    pub fn outcome(&self) -> Option<&Outcome> {
        self.session.outcome()
    }

    pub fn connects(&self) -> bool {
        self.actions.contains(&Action::Connect)
    }

    /// The client has got one FATAL ErrorResponse with this SQLSTATE at the end, upstream is
    /// dropped.
    pub fn expect_refusal(&mut self, sqlstate: &str) -> Vec<u8> {
        self.expect_refusal_of(&[sqlstate])
    }

    pub fn expect_refusal_of(&mut self, sqlstates: &[&str]) -> Vec<u8> {
        assert_eq!(self.stage(), Stage::Refusing);
        assert_eq!(self.actions.last(), Some(&Action::DropUpstream));
        let said = self.take_to_client();
        let error = last_message(&said);
        assert_eq!(error[0], b'E', "{}", said.escape_ascii());
        let fields: Vec<&[u8]> = error[5..].split(|byte| *byte == 0).collect();
        assert_eq!(fields[0], b"SFATAL");
        assert_eq!(fields[1], b"VFATAL");
        let got = str::from_utf8(&fields[2][1..]).unwrap();
        assert!(fields[2][0] == b'C' && sqlstates.contains(&got), "SQLSTATE {got}");
        said
    }

    /// The client has been refused without a word more, upstream is dropped.
    pub fn expect_silence(&mut self, sqlstate: &str) {
        assert_eq!(self.stage(), Stage::Refusing);
        assert_eq!(self.actions.last(), Some(&Action::DropUpstream));
        assert_eq!(self.take_to_client(), b"");
        let Some(Outcome::Refused(refusal)) = self.outcome() else { panic!("it is refused") };
        assert_eq!(refusal.sqlstate, sqlstate);
    }

    fn feed(&mut self, leg: Leg, bytes: &[u8]) {
        for chunk in bytes.chunks(self.chunk_bytes) {
            // What comes behind a refusal does not reach a session from upstream, its leg is gone.
            if self.session.room(leg) == 0 && self.stage() != Stage::Login {
                if self.stage() == Stage::Piping {
                    match leg {
                        Leg::Client => self.to_upstream.extend_from_slice(chunk),
                        Leg::Upstream => self.to_client.extend_from_slice(chunk),
                    }
                }
                continue;
            }
            self.session.receive(leg, chunk);
            self.collect();
        }
    }

    fn collect(&mut self) {
        while let Some(action) = self.session.next_action() {
            self.actions.push(action);
            if action == Action::Connect {
                let said = self.session.output(Leg::Upstream);
                assert!(said.is_empty(), "nothing is said before there is a connection");
                let address_calls = &mut self.address_calls;
                let Ok(()) = self.session.connected(|| {
                    *address_calls += 1;
                    Ok::<_, Infallible>(self.local_address)
                });
            }
        }
        self.to_client.extend(self.session.output(Leg::Client).split());
        let output = self.session.output(Leg::Upstream);
        let taken = output.len().min(self.upstream_takes);
        self.to_upstream.extend(output.split_to(taken));
        self.upstream_takes -= taken;
    }
}

/// A typed message.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

/// A StartupMessage of protocol 3.0.
pub fn startup(parameters: &[(impl AsRef<[u8]>, impl AsRef<[u8]>)]) -> Vec<u8> {
    let mut body = vec![0, 3, 0, 0];
    for (name, value) in parameters {
        body.extend([name.as_ref(), b"\0", value.as_ref(), b"\0"].concat());
    }
    body.push(0);
    [&(body.len() as u32 + 4).to_be_bytes()[..], &body].concat()
}

/// The parameters of a StartupMessage of protocol 3.0, which must be all there is.
pub fn startup_of(bytes: &[u8]) -> Vec<(String, String)> {
    let (head, body) = bytes.split_at(8);
    assert_eq!(head, [&(bytes.len() as u32).to_be_bytes()[..], &[0, 3, 0, 0]].concat());
    assert!(body.ends_with(b"\0\0"));
    let strings: Vec<String> = body[..body.len() - 2]
        .split(|byte| *byte == 0)
        .map(|text| String::from_utf8(text.to_vec()).unwrap())
        .collect();
    strings.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

/// The last of some messages, which must be whole; an `N` before them is passed over.
fn last_message(mut bytes: &[u8]) -> &[u8] {
    let mut last = bytes;
    while !bytes.is_empty() {
        let length = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
        assert!(bytes.len() > length, "cut off: {}", bytes.escape_ascii());
        (last, bytes) = bytes.split_at(length + 1);
    }
    last
}
