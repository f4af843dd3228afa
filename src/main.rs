//! The `multigres` daemon: command line and environment in, exit code out.
//!
//! Exit codes: 0 stopped by a signal, or nothing wrong with `--check`; 1 the daemon cannot run;
//! 2 a mistake in the settings or on the command line.

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use log::{error, info};
use multigres::config::{Config, SETTINGS, Sources};
use multigres::logging;
use multigres::server::Server;

fn main() -> ExitCode {
    let matches = command().get_matches();
    let sources = match sources(&matches) {
        Ok(sources) => sources,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let config = match Config::load(&sources) {
        Ok(config) => config,
        Err(mistakes) => {
            for mistake in mistakes {
                eprintln!("{mistake}");
            }
            return ExitCode::from(2);
        }
    };
    if matches.get_flag("check") {
        return ExitCode::SUCCESS;
    }
    logging::start(config.log_level);
    info!("multigres {} starts", env!("CARGO_PKG_VERSION"));
    let run = Server::new(&config.listen_hosts, config.port, config.proxy)
        .and_then(|mut server| server.run());
    match run {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn command() -> Command {
    let settings = SETTINGS.iter().map(|setting| {
        Arg::new(setting.name)
            .long(setting.flag())
            .value_name(setting.value)
            .allow_hyphen_values(true)
            .help(format!("{} [{}] [{}]", setting.help, setting.default, setting.environment))
    });
    Command::new("multigres")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Binds a tenant to every PostgreSQL session: log in as ROLE.TENANT")
        .arg(Arg::new("config").long("config").value_name("FILE").help("settings, key = value"))
        .arg(
            Arg::new("check")
                .long("check")
                .action(ArgAction::SetTrue)
                .help("report all mistakes in the settings, and exit"),
        )
        .args(settings)
}

/// A setting comes from the flag, else from the environment, else from the file.
fn sources(matches: &ArgMatches) -> Result<Sources, String> {
    let file = match matches.get_one::<String>("config") {
        None => None,
        Some(name) => {
            let text = std::fs::read_to_string(name).map_err(|error| format!("{name}: {error}"))?;
            Some((name.clone(), text))
        }
    };
    let mut environment = Vec::new();
    let mut flags = Vec::new();
    for setting in &SETTINGS {
        if let Some(value) = std::env::var_os(setting.environment) {
            let value = value
                .into_string()
                .map_err(|_| format!("environment {}: not UTF-8", setting.environment))?;
            environment.push((setting.environment.to_owned(), value));
        }
        if let Some(value) = matches.get_one::<String>(setting.name) {
            flags.push((setting.name.to_owned(), value.clone()));
        }
    }
    Ok(Sources { file, environment, flags })
}
