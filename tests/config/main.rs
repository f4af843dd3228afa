//! The settings: what overrides what, which mistakes are reported and where, and that the documents
//! say of each setting what its entry says.

mod documents;

use std::time::Duration;

use multigres::config::{Config, Form, Sources, settings};
use multigres::net::Address;
use multigres::proxy::Upstream;
use multigres::session::{Auth, ClientTls, UpstreamTls};
use multigres::tenant::Pooler;
use multigres::tls::Tls;

fn file(text: &str) -> Sources {
    Sources { file: Some(("m.conf".into(), Ok(text.into()))), ..Sources::default() }
}

fn mistakes(sources: &Sources) -> Vec<String> {
    let mistakes = Config::load(sources).expect_err("mistakes");
    mistakes.iter().map(ToString::to_string).collect()
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let config = Config::load(&Sources::default()).unwrap();
    assert_eq!((config.listen_hosts, config.port), (vec!["127.0.0.1".to_owned()], 6432));
    let upstream = Address::Tcp("127.0.0.1:5432".parse().unwrap());
    assert_eq!(config.proxy.upstream, Upstream::Address(upstream));
    assert_eq!(config.proxy.login_timeout, Duration::from_secs(60));
    assert_eq!(config.proxy.idle_timeout, None);
    assert_eq!(config.log_level, log::LevelFilter::Info);
    let session = &config.proxy.session;
    assert_eq!(session.auth, Auth::Auto);
    assert!(!session.allow_cleartext_password);
    assert_eq!(session.client_tls, ClientTls::Disabled);
    assert_eq!(session.upstream_tls, UpstreamTls::Disabled);
    assert_eq!(*config.proxy.tls, Tls::default());
    assert_eq!(session.policy.tenant_separator, ".");
    assert_eq!(session.policy.value_separator, ":");
    assert_eq!(session.policy.context_variables, ["app.current_tenant_id"]);
    assert_eq!(session.policy.superuser_bypass, ["postgres"]);
    assert_eq!(session.policy.upstream_pooler, Pooler::None);
    assert_eq!(session.policy.seal, None);
    assert_eq!(Config::load(&Sources::default()).unwrap(), Config::default());
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let mut sources = file("port = 1\nupstream_port = 2\nidle_timeout = 5min\n");
    sources.environment = vec![
        ("MULTIGRES_PORT".into(), Ok("3".into())),
        ("MULTIGRES_UPSTREAM_PORT".into(), Ok("4".into())),
    ];
    sources.flags = vec![("port".into(), "5".into())];
    let config = Config::load(&sources).unwrap();
    assert_eq!(config.port, 5);
    let upstream = Address::Tcp("127.0.0.1:4".parse().unwrap());
    assert_eq!(config.proxy.upstream, Upstream::Address(upstream));
    assert_eq!(config.proxy.idle_timeout, Some(Duration::from_secs(300)));
}

#[test]
fn every_mistake_is_reported_with_its_place_in_order() {
    let mut sources = file(
        "# fine\nport = 70000\nprot = 1\n\nno line\nlog_level = loud\nlog_level = info\n\
         value_separator = .\ncontext_variables = plain\n",
    );
    sources.environment = vec![
        ("MULTIGRES_PORT".into(), Ok("tcp://10.0.0.1:6432".into())),
        ("MULTIGRES_AUTH".into(), Err("the value is not UTF-8".into())),
    ];
    sources.flags = vec![("login_timeout".into(), "0".into())];
    let reported = mistakes(&sources);
    let starts = [
        "m.conf:2: port: ",
        "m.conf:3: unknown key \"prot\"",
        "m.conf:5: not a line of the form key = value",
        "m.conf:6: log_level: ",
        "m.conf:7: log_level is set twice, first in line 6",
        "m.conf:9: context_variables: \"plain\"",
        "environment MULTIGRES_PORT: port: ",
        "environment MULTIGRES_AUTH: auth: the value is not UTF-8",
        "--login-timeout: login_timeout: ",
        "m.conf:8: tenant_separator \".\" and value_separator \".\" overlap",
    ];
    assert_eq!(reported.len(), starts.len(), "{reported:#?}");
    for (reported, start) in reported.iter().zip(starts) {
        assert!(reported.starts_with(start), "{reported} is not {start}…");
    }
    assert!(reported[6].contains("enableServiceLinks"));
}

#[test]
fn a_byte_order_mark_is_skipped() {
    assert_eq!(Config::load(&file("\u{feff}port = 1\n")).unwrap().port, 1);
    assert_eq!(Config::load(&file("\u{feff}# a comment\nport = 1\n")).unwrap().port, 1);
    assert_eq!(mistakes(&file("port = 1\n\u{feff}host = x\n")).len(), 1);
}

#[test]
fn a_comment_behind_a_value_is_a_mistake() {
    for line in [
        "port = 6432 # x",
        "superuser_bypass = postgres # administrators",
        "superuser_bypass = postgres\t#administrators",
        "log_level = debug #",
    ] {
        let reported = mistakes(&file(line));
        assert!(reported[0].contains("a comment has a line of its own"), "{reported:?}");
        assert_eq!(reported.len(), 1, "{reported:?}");
    }
    let config = Config::load(&file("tenant_separator = #\nvalue_separator = ##x")).unwrap_err();
    assert!(config[0].to_string().contains("overlap"));
    assert_eq!(
        Config::load(&file("tenant_separator = #")).unwrap().proxy.session.policy.tenant_separator,
        "#"
    );
}

#[test]
fn the_right_name_is_suggested_for_a_misspelt_key_or_variable() {
    let reported = mistakes(&file("upsteam_host = x\nzebra = 1"));
    assert!(reported[0].ends_with("; did you mean \"upstream_host\"?"), "{reported:?}");
    assert!(reported[1].ends_with("unknown key \"zebra\""), "{reported:?}");
    let warnings = |name: &str| {
        let environment = vec![(name.to_owned(), Ok("x".to_owned()))];
        let config = Config::load(&Sources { environment, ..Sources::default() }).unwrap();
        config.warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        warnings("MULTIGRES_UPSTREAM_HOTS"),
        ["environment MULTIGRES_UPSTREAM_HOTS: no setting has this name; MULTIGRES_UPSTREAM_HOST \
          is one"]
    );
    let reported = warnings("MULTIGRES_ZEBRA");
    assert_eq!(reported, ["environment MULTIGRES_ZEBRA: no setting has this name"]);
    // Kubernetes sets these for a service of this name.
    for name in ["MULTIGRES_SERVICE_HOST", "MULTIGRES_PORT_6432_TCP_ADDR"] {
        assert!(warnings(name).is_empty(), "{name}");
    }
}

#[test]
fn a_file_that_cannot_be_read_hides_no_other_mistake() {
    let sources = Sources {
        file: Some(("m.conf".into(), Err("No such file or directory".into()))),
        flags: vec![("port".into(), "x".into())],
        ..Sources::default()
    };
    assert_eq!(mistakes(&sources).len(), 2);
}

#[test]
fn bad_values_are_refused() {
    let bad = [
        ("context_variables", "plain a.b,A.B 1a.b a..b a.b-c _pq_.x a.b,"),
        ("tenant_separator", "\u{e9}"),
        ("login_timeout", "1y -1 99999999999999999999 366d ms"),
        ("max_connections", "0 -1 many"),
        ("upstream_host", "a/b a,b a@b"),
        ("listen_host", "a/b ,"),
        ("superuser_bypass", "a,,b a,a"),
        ("auth", "Auto trust"),
        ("allow_cleartext_password", "yes ON"),
        ("upstream_pooler", "transaction"),
        ("upstream_port", "0 65536"),
        ("seal_bind", "port Address"),
        ("seal", "on off allow"),
        ("seal_key_file", "/nowhere/key / /dev/null"),
        ("tls", "on prefer Allow"),
        ("tls_client_cert", "on disable"),
        ("upstream_tls", "allow verify_full Require"),
        ("upstream_tls_negotiation", "requiredirect Direct"),
    ];
    for (key, values) in bad {
        for value in values.split(' ') {
            let sources = file(&format!("{key} = {value}"));
            assert_eq!(mistakes(&sources).len(), 1, "{key} = {value}");
        }
    }
    let may_be_empty = |name: &str| {
        let is_default = settings().any(|it| it.name == name && it.default.is_empty());
        is_default || name == "superuser_bypass"
    };
    for setting in settings().filter(|setting| !may_be_empty(setting.name)) {
        assert_eq!(mistakes(&file(&format!("{} =", setting.name))).len(), 1, "{}", setting.name);
    }
    let config = Config::load(&file("superuser_bypass =")).unwrap();
    assert!(config.proxy.session.policy.superuser_bypass.is_empty());
}

#[test]
fn a_value_is_read_in_the_form_that_its_entry_names() {
    let read = |name: &str, value: String| {
        let flags = vec![(name.to_owned(), value)];
        Config::load(&Sources { flags, ..Sources::default() })
            .map_err(|mistakes| mistakes[0].to_string())
    };
    for setting in settings() {
        let name = setting.name;
        let (least, most) = match setting.form {
            Form::Port(least) => (usize::from(least), 65535),
            Form::Count(least, most) => (least, most),
            Form::Word(words) => {
                let reported = read(name, "another".into()).unwrap_err();
                let end = format!("\"another\" is not one of {}", words.join(", "));
                assert!(reported.ends_with(&end), "{reported}");
                assert!(setting.default.is_empty() || words.contains(&setting.default), "{name}");
                continue;
            }
            Form::Time | Form::TimeAboveZero => {
                assert_eq!(read(name, "0".into()).is_ok(), setting.form == Form::Time, "{name}");
                for value in ["90", "500ms", "1s", "1min", "2h", "3 d"] {
                    assert!(read(name, value.into()).is_ok(), "{name} = {value}");
                }
                continue;
            }
            Form::Text | Form::File | Form::Host | Form::Hosts | Form::Parameters | Form::Users => {
                continue;
            }
        };
        assert!(read(name, least.to_string()).is_ok(), "{name} = {least}");
        assert!(read(name, most.to_string()).is_ok(), "{name} = {most}");
        assert!(read(name, (most + 1).to_string()).is_err(), "{name} above {most}");
        let below = least.checked_sub(1).map_or("-1".into(), |below| below.to_string());
        assert!(read(name, below).is_err(), "{name} below {least}");
    }
}

#[test]
fn separators_that_contain_each_other_overlap() {
    for (tenant, value) in [(":", ":"), ("::", ":"), (":", "::")] {
        let text = format!("tenant_separator = {tenant}\nvalue_separator = {value}\n");
        assert_eq!(mistakes(&file(&text)).len(), 1);
    }
    let config = Config::load(&file("tenant_separator = @\nvalue_separator = ,\n")).unwrap();
    assert_eq!(config.proxy.session.policy.value_separator, ",");
}

#[test]
fn multigres_is_not_its_own_upstream() {
    for text in [
        "upstream_port = 6432",
        "port = 5432",
        "listen_host = *\nupstream_port = 6432",
        "listen_host = /run/x\nupstream_host = /run/x\nport = 5432",
        "listen_host = localhost\nupstream_host = localhost\nport = 5432",
    ] {
        assert_eq!(mistakes(&file(text)).len(), 1, "{text}");
    }
    Config::load(&file("listen_host = /run/x\nport = 5432")).unwrap();
}

#[test]
fn addresses_are_read_in_every_form() {
    let upstream = |host: &str| {
        let text = format!("upstream_host = {host}\nupstream_port = 5433\n");
        Config::load(&file(&text)).unwrap().proxy.upstream
    };
    assert_eq!(upstream("::1"), upstream("[::1]"));
    assert_eq!(upstream("::1"), Upstream::Address(Address::Tcp("[::1]:5433".parse().unwrap())));
    let socket = Address::Unix("/run/postgresql/.s.PGSQL.5433".into());
    assert_eq!(upstream("/run/postgresql"), Upstream::Address(socket));
    let name = Upstream::Name { host: "db.internal".into(), port: 5433 };
    assert_eq!(upstream("db.internal"), name);
}
