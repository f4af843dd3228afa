//! The `multigres` daemon: command line and environment in, exit code out.
//!
//! Exit codes: 0 stopped by a signal, nothing wrong with `--check`, or what was
//! asked for is printed; 1 the daemon cannot run, or cannot print it;
//! 2 a mistake in the settings or on the command line.

use std::io::Write;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use log::{error, info, warn};
use multigres::config::{Config, Form, SECTIONS, Sources, fresh_seal_key, settings};
use multigres::logging::Logging;
use multigres::server::Server;
use multigres::sql;

#[cfg(any(feature = "marks", feature = "mutants"))]
compile_error!("\"marks\" and \"mutants\" are for the simulator: a daemon has no planted bugs");

fn main() -> ExitCode {
    let matches = command().get_matches();
    match matches.subcommand() {
        Some((SEAL_KEY, _)) => return print_seal_key(),
        Some((SQL, of)) => return print_sql(of),
        Some(_) | None => {}
    }
    let config = match Config::load(&sources(&matches)) {
        Ok(config) => config,
        Err(mistakes) => {
            for mistake in mistakes {
                eprintln!("{mistake}");
            }
            return ExitCode::from(2);
        }
    };
    if matches.get_flag("check") {
        for warning in &config.warnings {
            eprintln!("warning: {warning}");
        }
        return ExitCode::SUCCESS;
    }
    let _logging = match Logging::start(config.log_level) {
        Ok(logging) => logging,
        Err(error) => {
            eprintln!("cannot start the log: {error}");
            return ExitCode::FAILURE;
        }
    };
    info!("multigres {} starts", env!("CARGO_PKG_VERSION"));
    for warning in &config.warnings {
        warn!("{warning}");
    }
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

fn print_seal_key() -> ExitCode {
    match fresh_seal_key().and_then(|key| {
        writeln!(std::io::stdout(), "{}", key.as_str()).map_err(|error| error.to_string())
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot make a key: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print_sql(of: &ArgMatches) -> ExitCode {
    let text = match of.subcommand_name() {
        Some(TEARDOWN) => sql::TEARDOWN.to_owned(),
        Some(_) | None => sql::setup(),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot print the SQL: {error}");
            ExitCode::FAILURE
        }
    }
}

fn command() -> Command {
    let settings = SECTIONS.iter().flat_map(|section| {
        section.settings.iter().map(|setting| {
            Arg::new(setting.name)
                .long(setting.flag())
                .value_name(setting.form.placeholder())
                .allow_hyphen_values(setting.form == Form::Text)
                .help(setting.help())
                .help_heading(section.title)
        })
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
        .args_conflicts_with_subcommands(true)
        .subcommand(Command::new(SEAL_KEY).about("Prints a fresh key for seal_key_file"))
        .subcommand(
            Command::new(SQL)
                .about("Prints the SQL for a database, for psql or an SQL editor")
                .subcommand_required(true)
                .subcommand(
                    Command::new(SETUP)
                        .about("Prints the SQL that sets a database up for Multigres"),
                )
                .subcommand(
                    Command::new(TEARDOWN)
                        .about("Prints the SQL that removes Multigres from a database"),
                ),
        )
}

fn sources(matches: &ArgMatches) -> Sources {
    let file = matches.get_one::<String>("config").map(|name| {
        (name.clone(), std::fs::read_to_string(name).map_err(|error| error.to_string()))
    });
    let environment = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| name.starts_with("MULTIGRES_"))?;
        let value = value.into_string().map_err(|_| String::from("the value is not UTF-8"));
        Some((name, value))
    });
    let flags = settings().filter_map(|setting| {
        let value = matches.get_one::<String>(setting.name)?;
        Some((setting.name.to_owned(), value.clone()))
    });
    Sources { file, environment: environment.collect(), flags: flags.collect() }
}

const SEAL_KEY: &str = "seal-key";
const SQL: &str = "sql";
const SETUP: &str = "setup";
const TEARDOWN: &str = "teardown";
