//! What can be typed: `tidings COMMAND`, one file each.

mod config;
mod dev;
mod doctor;
mod listen;
mod probe;
mod publish;
mod route;
mod serve;
mod tls;
mod token;

use std::path::PathBuf;

use clap::ValueEnum;
use tidings_runtime::config::{Environment, Source};
use tidings_telemetry::{LogFormat, Options, Telemetry};
use uuid::Uuid;

use crate::{failure::Failure, roles::Roles};

/// Realtime event delivery: a backend says once that something happened, and every client that should know
/// hears of it
#[derive(Debug, clap::Parser)]
#[command(name = "tidings", version)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// The configuration file [default: tidings.toml, where there is one]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How log lines look
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    log_format: Format,
    /// What is logged: a level, or levels by module [env: RUST_LOG] [default: info]
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
}

/// How log lines look, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run everything in one process, open to everyone on this machine: to try it, and to develop against
    Dev,
    /// Run everything in one process, for production: alone, or with Redis as one node of many
    Standalone,
    /// Hold clients' connections; needs Redis and a presence service
    Gateway,
    /// Take events in from backends; needs Redis
    Fanout,
    /// Know who is there; needs Redis
    Presence,
    Publish(publish::Publish),
    Listen(listen::Listen),
    Token(token::Token),
    Probe(probe::Probe),
    /// Look at the routes
    #[command(subcommand)]
    Route(route::Route),
    Doctor(doctor::Doctor),
    /// Look at the configuration
    #[command(subcommand)]
    Config(config::Config),
}

impl Cli {
    /// Does what was asked.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let Self { global, command } = self;
        match command {
            Command::Dev => dev::run(&global).await,
            Command::Standalone => serve::run(&global, Roles::ALL).await,
            Command::Gateway => serve::run(&global, Roles::GATEWAY).await,
            Command::Fanout => serve::run(&global, Roles::FANOUT).await,
            Command::Presence => serve::run(&global, Roles::PRESENCE).await,
            Command::Publish(publish) => publish.run(&global).await,
            Command::Listen(listen) => listen.run(&global).await,
            Command::Token(token) => token.run(&global),
            Command::Probe(probe) => probe.run(&global).await,
            Command::Route(route) => route.run(&global),
            Command::Doctor(doctor) => doctor.run(&global).await,
            Command::Config(config) => config.run(&global),
        }
    }
}

impl Global {
    /// Where the configuration comes from. The only place that reads the environment.
    fn source(&self) -> Result<Source, Failure> {
        let environment = Environment::read(self.config.as_deref())?;
        Ok(Source {
            file: self.config.clone(),
            environment,
            ..Source::default()
        })
    }

    /// Sets up logs and traces for a process that calls itself `service`.
    fn telemetry(
        &self,
        environment: &Environment,
        service: &str,
        instance: Uuid,
    ) -> Result<Telemetry, Failure> {
        let filter = self
            .log
            .as_deref()
            .or_else(|| environment.get("RUST_LOG"))
            .unwrap_or("info");
        let variables = environment.with_prefix("OTEL_");
        let options = Options {
            service: service.to_owned(),
            instance: instance.to_string(),
            log: match self.log_format {
                Format::Text => LogFormat::Text,
                Format::Json => LogFormat::Json,
            },
            filter: filter.to_owned(),
            environment: variables
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        };
        tidings_telemetry::init(&options).map_err(Failure::usage)
    }
}

#[cfg(test)]
mod tests;
