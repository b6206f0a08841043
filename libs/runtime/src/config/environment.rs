//! The environment as a value: read once, here, and passed on to whoever needs a variable.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use super::{Error, error::Place};

/// The process's environment variables together with those of a `.env` file, by name.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, Variable>);

/// A variable's value and the `.env` file it was found in, if it was.
#[derive(Clone)]
pub(super) struct Variable {
    pub(super) value: String,
    pub(super) file: Option<Arc<Path>>,
}

impl std::fmt::Debug for Variable {
    /// Without the value: passwords and keys are variables too.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Variable")
            .field("value", &"***")
            .field("file", &self.file)
            .finish()
    }
}

impl Environment {
    /// Reads the process's environment and the `.env` beside the configuration file `config` (of the current
    /// directory, when no file is named). The process's own variables win. Nothing is set in the process.
    ///
    /// A variable whose name or value is no UTF-8 is passed over, and so is an empty one: as everywhere in
    /// containers, empty means not set.
    ///
    /// # Errors
    ///
    /// When there is a `.env` that cannot be read or understood.
    pub fn read(config: Option<&Path>) -> Result<Self, Error> {
        let mut environment = Self::default();
        let dotenv = config
            .and_then(Path::parent)
            .unwrap_or(Path::new(""))
            .join(".env");
        if dotenv.is_file() {
            environment.add_file(&dotenv)?;
        }
        environment.extend(
            std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        );
        Ok(environment)
    }

    /// The value of the variable `name`; `None` when it is not set or empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        Some(self.0.get(name)?.value.as_str())
    }

    /// Every variable whose name begins with `prefix`, by name.
    pub fn with_prefix(&self, prefix: &str) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .filter(move |(name, _)| name.starts_with(prefix))
            .map(|(name, variable)| (name.as_str(), variable.value.as_str()))
    }

    /// Whether a variable of ours sets `key`, such as `redis.url`, or all of a table that it is in.
    #[must_use]
    pub fn configures(&self, key: &str) -> bool {
        self.0.keys().filter_map(|name| super::key(name, &[])).any(|set| {
            set.iter()
                .zip(key.split('.'))
                .filter(|(set, part)| set == part)
                .count()
                == set.len()
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Variable)> {
        self.0.iter().map(|(name, variable)| (name.as_str(), variable))
    }

    fn add_file(&mut self, path: &Path) -> Result<(), Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Dotenv {
            path: path.to_owned(),
            source,
        })?;
        let file: Arc<Path> = path.into();
        for variable in dotenvy::from_read_iter(text.as_bytes()) {
            let (name, value) = variable.map_err(|error| Error::DotenvLine {
                path: path.to_owned(),
                line: line(&text, &error),
            })?;
            if !value.is_empty() {
                self.0.insert(
                    name,
                    Variable {
                        value,
                        file: Some(Arc::clone(&file)),
                    },
                );
            }
        }
        Ok(())
    }
}

/// The line of `text` that `error` is about. It has what could not be understood, and no number.
fn line(text: &str, error: &dotenvy::Error) -> Option<usize> {
    let dotenvy::Error::LineParse(part, _) = error else {
        return None;
    };
    let mut places = text.match_indices(part.as_str());
    match (places.next(), places.next()) {
        (Some((offset, _)), None) => Some(Place::of(text, offset).line),
        _ => None,
    }
}

impl Extend<(String, String)> for Environment {
    /// Adds variables over those that are there, as the process's own are added over those of `.env`.
    fn extend<I: IntoIterator<Item = (String, String)>>(&mut self, variables: I) {
        self.0.extend(
            variables
                .into_iter()
                .filter(|(_, value)| !value.is_empty())
                .map(|(name, value)| (name, Variable { value, file: None })),
        );
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let mut environment = Self::default();
        environment.extend(
            variables
                .into_iter()
                .map(|(name, value)| (name.into(), value.into())),
        );
        environment
    }
}
