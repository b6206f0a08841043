//! How a command ends badly: by what the user wrote, or by what it met when it ran.

use std::{fmt, process::ExitCode};

use tidings_runtime::config::EX_USAGE;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The configuration or the command line is wrong, and nothing has been done. Exit code 64.
    Usage(String),
    /// Something went wrong on the way. Exit code 1.
    Runtime(anyhow::Error),
}

impl Failure {
    /// What the user wrote is wrong, in these words.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::Usage(message.to_string())
    }

    /// Something went wrong on the way, in these words.
    pub(crate) fn runtime(message: impl fmt::Display) -> Self {
        Self::Runtime(anyhow::Error::msg(message.to_string()))
    }

    /// What it says, on one line.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Usage(message) => message.clone(),
            Self::Runtime(error) => one_line(error),
        }
    }

    /// Says it on stderr, and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            Self::Usage(message) => {
                eprintln!("error: {message}");
                ExitCode::from(EX_USAGE)
            }
            Self::Runtime(error) => {
                eprintln!("error: {}", one_line(error));
                ExitCode::FAILURE
            }
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Runtime(error)
    }
}

impl From<tidings_runtime::config::Error> for Failure {
    fn from(error: tidings_runtime::config::Error) -> Self {
        Self::usage(error)
    }
}

/// Says what is wrong with the command line, and gives the exit code; 0 where it asked for help or the version.
pub(crate) fn command_line(error: &clap::Error) -> ExitCode {
    // Nobody is left to tell when stderr is closed.
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(EX_USAGE)
    } else {
        ExitCode::SUCCESS
    }
}

/// An error with its causes, each said once: many name their cause in their own text.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    let mut line = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !line.contains(&cause) {
            line.push_str(": ");
            line.push_str(&cause);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn every_cause_is_said_once() {
        let error = anyhow!("refused")
            .context("cannot connect: refused")
            .context("cannot publish");
        assert_eq!(one_line(&error), "cannot publish: cannot connect: refused");
    }
}
