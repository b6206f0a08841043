//! `tidings config check` and `tidings config print`: what a node would run with.

use std::path::Path;

use super::Global;
use crate::{config, failure::Failure, roles::Roles};

/// What to do with it.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Config {
    /// Say whether the file and the environment are valid, and what they suffice for
    Check,
    /// Print what is in force as TOML, secrets masked: defaults, file and environment together
    Print,
}

impl Config {
    pub(super) fn run(self, global: &Global) -> Result<(), Failure> {
        let config = config::Config::load(&global.source()?)?;
        match self {
            Self::Check => print!(
                "configuration is valid\n{}{}",
                file(global.config.as_deref()),
                uses(&config)
            ),
            Self::Print => print!("{}", toml::to_string(&config).map_err(anyhow::Error::new)?),
        }
        Ok(())
    }
}

fn file(named: Option<&Path>) -> String {
    let default = Path::new("tidings.toml");
    match named {
        Some(path) => format!("file: {}\n", path.display()),
        None if default.exists() => format!("file: {}\n", default.display()),
        None => "file: none (there is no tidings.toml here, and --config names no other)\n".to_owned(),
    }
}

/// Which commands the configuration suffices for, and what the others need.
fn uses(config: &config::Config) -> String {
    let line = |roles: Roles| match config.require(roles) {
        Ok(()) => format!("`tidings {}` can run\n", roles.name()),
        Err(Failure::Usage(why)) => format!("{why}\n"),
        Err(Failure::Runtime(error)) => format!("{error}\n"),
    };
    [Roles::ALL, Roles::GATEWAY, Roles::FANOUT, Roles::PRESENCE]
        .map(line)
        .concat()
}
