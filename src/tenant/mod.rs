//! Who a login is and what is bound to it: the user-name grammar and the parameters sent upstream.
//! Knows nothing of messages that follow StartupMessage, nor of states.

mod seal;

use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;

use crate::probe::{Mutant, previous};
use crate::protocol::StartupMessage;
use crate::protocol::startup::{STARTUP_BYTES_MAX, parameter_bytes};
use crate::refusal::{Fault, Refusal, sqlstate};

pub use seal::{
    Claim, SEAL_DIGITS, SEAL_KEY_BYTES, SEAL_SEPARATOR, Seal, SealBind, SealDemand, SealKey,
    SealKeyError, hex,
};

/// The settings that say how a user name is read and what is bound.
///
/// [`crate::config`] holds what must be true of them: separators of at least one byte that do not
/// contain each other, at least one variable, each a legal custom parameter name, none with the
/// name of another one's seal, and no seal that is bound to an address PostgreSQL does not see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Stands between role and values in the user name.
    pub tenant_separator: String,
    /// Stands between two values.
    pub value_separator: String,
    /// Custom parameters, one for each value, in the order of the values.
    pub context_variables: Vec<String>,
    /// Users that pass through untouched.
    pub superuser_bypass: Vec<String>,
    /// What stands between Multigres and PostgreSQL.
    pub upstream_pooler: Pooler,
    /// How each value is sealed, if it is.
    pub seal: Option<Seal>,
    /// Whether the database is asked if it still holds apart what it protects.
    pub guard: GuardDemand,
}

/// The daemon's defaults.
impl Default for Policy {
    fn default() -> Self {
        Policy {
            tenant_separator: ".".into(),
            value_separator: ":".into(),
            context_variables: vec!["app.current_tenant_id".into()],
            superuser_bypass: vec!["postgres".into()],
            upstream_pooler: Pooler::None,
            seal: None,
            guard: GuardDemand::Prefer,
        }
    }
}

/// What a database is to Multigres that cannot say whether it holds apart what it protects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardDemand {
    /// It is not asked.
    Off,
    /// Good enough: sql/setup.sql is to be run in it later.
    Prefer,
    /// Refused.
    Require,
}

/// What stands between Multigres and PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooler {
    /// Nothing: context travels in StartupMessage too, and the backend's pid must fit its key.
    None,
    /// A pooler in session mode: it refuses startup parameters it does not know and makes up its
    /// own cancel keys, so the context is bound by the batch alone.
    Session,
}

/// Whose session this is to be, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Who logs in.
    pub user: User,
    /// The database, by default the one that has the name of the upstream user.
    pub database: Bytes,
}

/// Who logs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// A user of the bypass list: no context, nothing rewritten.
    Bypass(Bytes),
    /// A role with a value for every context variable.
    Tenant(Tenant),
}

/// A role and its context values. Made by [`Policy::identify`] alone, so a value of this type
/// fits the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    role: Bytes,
    values: Vec<Bytes>,
}

impl Tenant {
    /// The role that logs in upstream: 1 to 63 bytes without NUL.
    pub fn role(&self) -> &[u8] {
        &self.role
    }

    /// One value per context variable: 1 to 128 bytes of printable ASCII each.
    pub fn values(&self) -> &[Bytes] {
        &self.values
    }
}

/// What is bound to a session: each variable with its value and, behind it, its seal.
/// Made by [`Policy::context`] alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context(Vec<(Bytes, Bytes)>);

impl Context {
    /// Nothing, as is bound to a bypass user's session.
    pub fn none() -> Self {
        Context(Vec::new())
    }

    /// Names and values, in the order in which they are bound.
    pub fn parameters(&self) -> &[(Bytes, Bytes)] {
        &self.0
    }
}

/// As it stands in log lines: ` role=app_user context=app.current_tenant_id=acme database=crm`,
/// with the space before it; nothing for a login that is not known.
pub struct Described<'a>(pub Option<&'a Login>, pub &'a Policy);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Described(Some(login), policy) = self else { return Ok(()) };
        match &login.user {
            User::Bypass(user) => write!(f, " role={} bypass", Field(user))?,
            User::Tenant(tenant) => {
                write!(f, " role={} context=", Field(&tenant.role))?;
                for (at, (name, value)) in
                    policy.context_variables.iter().zip(&tenant.values).enumerate()
                {
                    let comma = if at == 0 { "" } else { "," };
                    write!(f, "{comma}{name}={}", Field(value))?;
                }
            }
        }
        write!(f, " database={}", Field(&login.database))
    }
}

/// A value in a log line, escaped so that it is one word and one item of a list,
/// and cut where a good one ends at the latest.
struct Field<'a>(&'a [u8]);

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in self.0.iter().take(VALUE_BYTES_MAX) {
            if byte == b' ' || byte == b',' {
                write!(f, "\\x{byte:02x}")?;
            } else {
                write!(f, "{}", byte.escape_ascii())?;
            }
        }
        Ok(())
    }
}

impl Policy {
    /// Reads the login out of a StartupMessage.
    ///
    /// # Errors
    /// A [`Refusal`] for every user that is neither in the bypass list nor a role with exactly one
    /// good value per context variable, and for a tenant that asks for what it may not have:
    /// replication, a parameter that Multigres binds, or a name that cannot be sealed.
    pub fn identify(&self, startup: &StartupMessage) -> Result<Login, Refusal> {
        let user = match startup.parameter("user") {
            Some(user) if !user.is_empty() => user,
            Some(_) | None => {
                return Err(unauthorized("no PostgreSQL user name specified in startup packet"));
            }
        };
        let database = startup.parameter("database").filter(|name| !name.is_empty());
        if self.bypasses(user) {
            let database = owned(database.unwrap_or(user));
            return Ok(Login { user: User::Bypass(owned(user)), database });
        }
        let tenant = self.tenant(user)?;
        self.check_parameters(startup)?;
        // libpq's default for the database is the user name.
        let database = database.filter(|name| *name != user).unwrap_or(&tenant.role);
        let database = owned(database);
        let names = [&database, &tenant.role];
        if self.seal.is_some() && names.iter().any(|name| name.contains(&SEAL_SEPARATOR)) {
            return Err(unauthorized("the tenant context cannot be sealed")
                .detail("The name of the role or of the database holds the byte 0x01."));
        }
        Ok(Login { user: User::Tenant(tenant), database })
    }

    /// The StartupMessage that goes upstream for a login, still without what [`Policy::bind`] adds.
    ///
    /// # Errors
    /// A [`Refusal`] when it would be too long for PostgreSQL with that.
    pub fn upstream_startup(
        &self,
        mut startup: StartupMessage,
        login: &Login,
    ) -> Result<StartupMessage, Refusal> {
        let User::Tenant(tenant) = &login.user else { return Ok(startup) };
        for (name, value) in &mut startup.parameters {
            if name == "user" {
                *value = tenant.role.clone();
            } else if name == "database" {
                *value = login.database.clone();
            }
        }
        if startup.encoded_len() + self.bound_bytes(tenant) > STARTUP_BYTES_MAX {
            return Err(Refusal::new(
                Fault::Client,
                sqlstate::PROTOCOL_VIOLATION,
                "startup packet too long to add the tenant context",
            ));
        }
        Ok(startup)
    }

    /// Whether a login's context depends on the address of Multigres' end of the upstream leg.
    pub fn binds_address(&self, login: &Login) -> bool {
        let binds = self.seal.as_ref().is_some_and(|seal| seal.bind == SealBind::Address);
        binds && matches!(login.user, User::Tenant(_))
    }

    /// What is to be bound to the session of a login. `local_address` is that of Multigres' end of
    /// the upstream leg, if it has one.
    ///
    /// # Errors
    /// A [`Refusal`] when seals are bound to the address and there is none.
    pub fn context(
        &self,
        login: &Login,
        local_address: Option<SocketAddr>,
    ) -> Result<Context, Refusal> {
        let User::Tenant(tenant) = &login.user else { return Ok(Context::none()) };
        let local_address = if self.binds_address(login) {
            Some(local_address.ok_or_else(no_address)?)
        } else {
            None
        };
        let (database, role) = (&login.database, &tenant.role);
        let mut parameters = Vec::new();
        for (variable, value) in self.context_variables.iter().zip(&tenant.values) {
            parameters.push((Bytes::from(variable.clone()), value.clone()));
            if let Some(seal) = &self.seal {
                let claim = Claim { variable, value, database, role, local_address };
                let sealed = previous(Mutant::SealOfPrevious, seal.key.seal(&claim));
                parameters.push((Bytes::from(seal_name(variable)), sealed));
            }
        }
        Ok(Context(parameters))
    }

    /// Adds the context and the role to a StartupMessage for upstream.
    ///
    /// The client's parameters keep their order; these come last, so that they win over `options`
    /// and become the session's defaults, to which RESET and DISCARD ALL return
    /// (`process_startup_options` in `postinit.c`).
    pub fn bind(&self, startup: &mut StartupMessage, login: &Login, context: &Context) {
        let User::Tenant(tenant) = &login.user else { return };
        if self.upstream_pooler == Pooler::None {
            let whole = startup.encoded_len() + self.bound_bytes(tenant);
            startup.parameters.extend_from_slice(context.parameters());
            startup.parameters.push((Bytes::from_static(b"role"), tenant.role.clone()));
            put_context_first(startup, context);
            assert_eq!(startup.encoded_len(), whole, "the length was judged by another context");
        }
    }

    /// What [`Policy::bind`] adds to a StartupMessage, before the seals are known: all have one
    /// length.
    fn bound_bytes(&self, tenant: &Tenant) -> usize {
        if self.upstream_pooler == Pooler::Session {
            return 0;
        }
        let values = self.context_variables.iter().zip(&tenant.values);
        let context: usize = values
            .map(|(variable, value)| {
                let seal = self.seal.as_ref().map(|_| seal_name(variable).len() + SEAL_DIGITS);
                parameter_bytes(variable.len() + value.len()) + seal.map_or(0, parameter_bytes)
            })
            .sum();
        context + parameter_bytes("role".len() + tenant.role.len())
    }

    fn bypasses(&self, user: &[u8]) -> bool {
        self.superuser_bypass.iter().any(|name| name.as_bytes() == user)
    }

    /// `role<tenant_separator>value[<value_separator>value]…`, split at the first separator.
    fn tenant(&self, user: &Bytes) -> Result<Tenant, Refusal> {
        let private = || format!("user {}", user.escape_ascii());
        let Some((role, values)) = split_once(user, self.tenant_separator.as_bytes()) else {
            return Err(unauthorized("no tenant specified in user name")
                .hint(self.grammar_hint(user))
                .private(private()));
        };
        if role.is_empty() || role.len() > ROLE_BYTES_MAX {
            return Err(unauthorized("invalid role in user name")
                .detail(format!("A role name has 1 to {ROLE_BYTES_MAX} bytes."))
                .private(private()));
        }
        let is_bypass = planted!(self.bypasses(&role), BypassTenant => false);
        if is_bypass {
            return Err(unauthorized("this role cannot log in as a tenant")
                .detail("The role is configured to bypass tenant isolation.")
                .private(private()));
        }
        let values = split_all(values, self.value_separator.as_bytes());
        if values.len() != self.context_variables.len() {
            let separator = &self.value_separator;
            let refusal = unauthorized("wrong number of context values in user name");
            let refusal = match self.context_variables.len() {
                1 => refusal.detail(format!(
                    "A tenant cannot contain \"{separator}\", which separates values \
                     (\"value_separator\")."
                )),
                count => refusal
                    .detail(format!("{count} values are expected, separated by \"{separator}\".")),
            };
            return Err(refusal.hint(self.grammar_hint(&role)).private(private()));
        }
        if !values.iter().all(|value| is_context_value(value)) {
            return Err(unauthorized("invalid context value in user name")
                .detail(format!(
                    "A context value has 1 to {VALUE_BYTES_MAX} characters of printable ASCII."
                ))
                .private(private()));
        }
        Ok(Tenant { role: owned(&role), values: values.iter().map(owned).collect() })
    }

    fn check_parameters(&self, startup: &StartupMessage) -> Result<(), Refusal> {
        for (name, value) in &startup.parameters {
            if name == "replication" && !is_false(value) {
                return Err(unauthorized("replication is not possible for a tenant"));
            }
            let reserved = planted!(self.reserved_name(name), ReservedAllowed => None);
            if let Some(reserved) = reserved {
                return Err(Refusal::new(
                    Fault::Client,
                    sqlstate::INVALID_PARAMETER_VALUE,
                    format!("parameter \"{reserved}\" cannot be set at login"),
                )
                .detail("Multigres derives it from the user name."));
            }
            // Behind a pooler nothing of ours follows in StartupMessage that would win over it.
            if name.eq_ignore_ascii_case(b"options") && self.upstream_pooler == Pooler::Session {
                return Err(Refusal::new(
                    Fault::Client,
                    sqlstate::INVALID_PARAMETER_VALUE,
                    "parameter \"options\" cannot be set at login behind a pooler",
                )
                .hint("Use SET after the login."));
            }
        }
        Ok(())
    }

    /// The reserved name that `name` is, in the spelling of the settings. PostgreSQL compares
    /// parameter names without regard to case (`guc_name_compare`).
    fn reserved_name(&self, name: &[u8]) -> Option<String> {
        let contexts = self.context_variables.iter().cloned();
        let seals = self.context_variables.iter().map(|variable| seal_name(variable));
        let fixed = ["role", "session_authorization"].map(String::from);
        contexts
            .chain(seals)
            .chain(fixed)
            .find(|reserved| reserved.as_bytes().eq_ignore_ascii_case(name))
    }

    /// How this role logs in. Only a name that every encoding spells alike is said again.
    fn grammar_hint(&self, role: &[u8]) -> String {
        let is_plain = (1..=ROLE_BYTES_MAX).contains(&role.len())
            && role.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(byte));
        let role = if is_plain { str::from_utf8(role).unwrap_or("ROLE") } else { "ROLE" };
        let values = match self.context_variables.as_slice() {
            [_] => String::from("TENANT"),
            variables => {
                let values: Vec<_> = variables.iter().map(|name| format!("<{name}>")).collect();
                values.join(&self.value_separator)
            }
        };
        format!("Log in as {role}{}{values}", self.tenant_separator)
    }
}

/// The parameter that holds the seal of a variable.
pub fn seal_name(variable: &str) -> String {
    format!("{variable}_seal")
}

/// A planted bug.
fn put_context_first(startup: &mut StartupMessage, context: &Context) {
    if mutant!(ContextFirst) {
        startup.parameters.rotate_right(1 + context.parameters().len());
    }
}

fn no_address() -> Refusal {
    let message = "the tenant context cannot be sealed";
    Refusal::new(Fault::Multigres, sqlstate::REJECTED_CONNECTION, message)
        .detail("The connection to PostgreSQL has no address to bind the seal to.")
        .hint(SEAL_BIND_HINT)
}

fn unauthorized(message: &'static str) -> Refusal {
    Refusal::new(Fault::Client, sqlstate::INVALID_AUTHORIZATION, message)
}

/// A copy that does not keep the whole packet in memory for as long as the session lasts.
fn owned(part: &Bytes) -> Bytes {
    Bytes::copy_from_slice(part)
}

/// Whether PostgreSQL takes it for `false` (`parse_bool_with_len` in `bool.c`).
fn is_false(value: &[u8]) -> bool {
    let value = value.to_ascii_lowercase();
    let begins = |word: &[u8], least: usize| value.len() >= least && word.starts_with(&value);
    value == b"0" || begins(b"false", 1) || begins(b"no", 1) || begins(b"off", 2)
}

/// Printable ASCII is the same in every client encoding and every log.
fn is_context_value(value: &[u8]) -> bool {
    (1..=VALUE_BYTES_MAX).contains(&value.len())
        && value.iter().all(|byte| (b' '..=b'~').contains(byte))
}

fn split_once(text: &Bytes, separator: &[u8]) -> Option<(Bytes, Bytes)> {
    let at = text.windows(separator.len()).position(|window| window == separator)?;
    Some((text.slice(..at), text.slice(at + separator.len()..)))
}

fn split_all(mut text: Bytes, separator: &[u8]) -> Vec<Bytes> {
    let mut parts = Vec::new();
    while let Some((part, rest)) = split_once(&text, separator) {
        parts.push(part);
        text = rest;
    }
    parts.push(text);
    parts
}

/// `NAMEDATALEN - 1`: PostgreSQL cuts a longer user name, and would log in another role.
const ROLE_BYTES_MAX: usize = 63;
const VALUE_BYTES_MAX: usize = 128;

/// How to do without the address of Multigres' end of the upstream leg.
pub const SEAL_BIND_HINT: &str = "Where a unix socket, NAT or a pooler stands between Multigres \
    and PostgreSQL, set \"seal_bind = none\" and seal with multigres_seal(bind => 'none').";
