//! Configuration from a file and the environment, with errors for people.
//!
//! Defaults, then the file, then `TIDINGS_A__B=value`: each overrides the one before, key by key. A variable
//! replaces all of what its key had, also an array or a table. What may be configured is whatever the type `T` of [`load`] deserializes. Its
//! structs carry `#[serde(default, deny_unknown_fields)]`: the first makes every key optional, the second makes
//! a misspelt key an error that names the nearest valid one.
//!
//! `environment` reads the process's variables, `value` merges what was found and remembers where each
//! value came from, `read` turns it into a `T`, `error` says what is wrong with it. `service_link` knows which
//! variables with our prefix are Kubernetes' own.

pub mod environment;
pub mod error;
mod read;
mod service_link;
#[cfg(test)]
mod tests;
mod value;

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

pub use environment::Environment;
pub use error::Error;

/// The exit code of a process whose configuration or command line is wrong (`EX_USAGE` of BSD's `sysexits.h`).
pub const EX_USAGE: u8 = 64;

/// What the names of our own environment variables begin with.
const PREFIX: &str = "TIDINGS_";

/// The file that is read, if it is there, when none is named.
const DEFAULT_FILE: &str = "tidings.toml";

/// Where a configuration comes from.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// A file that must exist. `None`: `tidings.toml` in the current directory, which need not.
    pub file: Option<PathBuf>,
    /// The environment; see [`Environment::read`].
    pub environment: Environment,
    /// Variables that begin with `TIDINGS_` and are no configuration.
    pub reserved: &'static [&'static str],
}

/// Reads the configuration `T` from `source`.
///
/// A variable's value is read as the type of its key: `12345` is a number for a number and a text for a text.
/// Arrays and tables are written as in TOML: `["a", "b"]`, `{ name = "tasks" }`. Names of variables are
/// case-insensitive.
///
/// # Errors
///
/// When the file cannot be read or is no TOML, a key is unknown, or a value is not what its key takes. The
/// error names the key in full, where its value came from, and what was expected.
pub fn load<T: DeserializeOwned>(source: &Source) -> Result<T, Error> {
    let mut root = value::Table::default();
    if let Some((path, text)) = file(source.file.as_deref())? {
        root = value::parse(&path, &text)?;
    }
    for (name, variable) in source.environment.iter() {
        let Some(key) = key(name, source.reserved) else {
            continue;
        };
        root.set(&key, name, variable);
    }
    read::table(root)
}

/// The file's path and text; `None` when there is none and none is needed.
fn file(named: Option<&Path>) -> Result<Option<(PathBuf, String)>, Error> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some((path.to_owned(), text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => Ok(None),
        Err(source) => Err(Error::Unreadable {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The key that a variable sets: `TIDINGS_CLIENTS__LISTEN` is `clients.listen`. `None` when it is not ours, or
/// Kubernetes set it.
fn key(name: &str, reserved: &[&str]) -> Option<Vec<String>> {
    let ours = name
        .get(..PREFIX.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
    if !ours
        || reserved
            .iter()
            .any(|reserved| reserved.eq_ignore_ascii_case(name))
        || service_link::is(name)
    {
        return None;
    }
    Some(
        name[PREFIX.len()..]
            .to_ascii_lowercase()
            .split("__")
            .map(str::to_owned)
            .collect(),
    )
}
