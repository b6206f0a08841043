//! What is wrong with a configuration, said so that the reader can put it right.
//!
//! Text that was found is never repeated, for it may be a secret at the wrong key.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::de::{self, Expected, Unexpected};

use super::PREFIX;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not there or cannot be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no TOML.
    #[error("{}, line {}, column {}: {message}", path.display(), place.line, place.column)]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where in it.
        place: Place,
        /// What the parser says.
        message: String,
    },
    /// The `.env` file is there and cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Dotenv {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The `.env` file has something else than variables in it. What, is not kept.
    #[error(
        "{}{}: expected NAME=value, with quotes around a value that has spaces in it",
        path.display(),
        line.map(|line| format!(", line {line}")).unwrap_or_default()
    )]
    DotenvLine {
        /// The file.
        path: PathBuf,
        /// The line, from 1; `None` when it could be one of several.
        line: Option<usize>,
    },
    /// A key is unknown, missing, or has the wrong value.
    #[error(transparent)]
    Key(#[from] Box<KeyError>),
}

/// A place in a text, both counted from 1; columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Place {
    /// Where the byte at `offset` of `text` is.
    pub(super) fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A line of the configuration file.
    File {
        /// The file.
        path: Arc<Path>,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Variable {
        /// Its name.
        name: String,
        /// The `.env` file that it is in; `None`: the process's environment.
        file: Option<Arc<Path>>,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Variable { name, file: None } => write!(f, "environment variable {name}"),
            Self::Variable {
                name,
                file: Some(path),
            } => write!(f, "{name} in {}", path.display()),
        }
    }
}

/// What is wrong with one key.
#[derive(Debug)]
pub struct KeyError {
    /// The key in full: `clients.limits.channels`, `namespace[0].name`.
    pub key: String,
    /// Where it came from; `None` for a key that is not there.
    pub origin: Option<Origin>,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    Unknown {
        valid: &'static [&'static str],
    },
    Missing {
        name: &'static str,
    },
    Value {
        expected: String,
        found: String,
    },
    Refused {
        message: String,
        expected: Option<String>,
    },
}

impl std::error::Error for KeyError {}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.problem {
            Problem::Unknown { .. } => write!(f, "unknown key `{key}`")?,
            Problem::Missing { name } => write!(f, "`{}` is missing", join(key, name))?,
            Problem::Value { expected, found } => write!(f, "`{key}`: expected {expected}, found {found}")?,
            Problem::Refused { message, expected } => {
                write!(f, "`{key}`: {message}")?;
                if let Some(expected) = expected {
                    write!(f, "; expected {expected}")?;
                }
            }
        }
        if let Some(origin) = &self.origin {
            write!(f, " ({origin})")?;
        }
        match &self.problem {
            Problem::Unknown { valid } => self.suggest(f, valid),
            _ => Ok(()),
        }
    }
}

impl KeyError {
    fn new(problem: Problem) -> Self {
        Self {
            key: String::new(),
            origin: None,
            problem,
        }
    }

    /// The same error, of a value that is at `step` (a key, or `[index]`) of something that came from `origin`.
    pub(super) fn inside(mut self, step: &str, origin: &Origin) -> Self {
        self.key = join(step, &self.key);
        self.origin.get_or_insert_with(|| origin.clone());
        self
    }

    /// The same error, where it is not yet said what was expected instead.
    pub(super) fn expecting(mut self, what: &str) -> Self {
        if let Problem::Refused {
            expected: expected @ None,
            ..
        } = &mut self.problem
            // Not of a value inside this one, which has its key already.
            && self.key.is_empty()
            && what != "a string"
        {
            *expected = Some(plain(what));
        }
        self
    }

    fn suggest(&self, f: &mut fmt::Formatter<'_>, valid: &[&str]) -> fmt::Result {
        let (parent, name) = self.key.rsplit_once('.').unwrap_or(("", &self.key));
        let nearest = valid
            .iter()
            .min_by_key(|valid| strsim::damerau_levenshtein(name, valid));
        match nearest {
            None => Ok(()),
            Some(nearest) if strsim::damerau_levenshtein(name, nearest) <= 1 + name.len() / 3 => {
                let nearest = join(parent, nearest);
                match &self.origin {
                    // No variable names an item of an array.
                    Some(Origin::Variable { .. }) if !nearest.contains('[') => {
                        write!(f, ": did you mean {}?", variable(&nearest))
                    }
                    _ => write!(f, ": did you mean `{nearest}`?"),
                }
            }
            Some(_) => write!(f, ": expected {}", one_of(valid)),
        }
    }
}

impl de::Error for KeyError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Problem::Refused {
            message: message.to_string(),
            expected: None,
        })
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(Problem::Value {
            expected: plain(&expected.to_string()),
            found: kind(found).to_owned(),
        })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Signed(number) => number.to_string(),
            Unexpected::Unsigned(number) => number.to_string(),
            Unexpected::Float(number) => number.to_string(),
            Unexpected::Str(_) => "some other text".to_owned(),
            other => kind(other).to_owned(),
        };
        Self::new(Problem::Value {
            expected: plain(&expected.to_string()),
            found,
        })
    }

    fn unknown_variant(_found: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Problem::Value {
            expected: one_of(expected),
            found: "something else".to_owned(),
        })
    }

    fn unknown_field(_field: &str, valid: &'static [&'static str]) -> Self {
        Self::new(Problem::Unknown { valid })
    }

    fn missing_field(name: &'static str) -> Self {
        Self::new(Problem::Missing { name })
    }
}

fn join(parent: &str, child: &str) -> String {
    match (parent, child) {
        ("", _) => child.to_owned(),
        (_, "") => parent.to_owned(),
        (_, child) if child.starts_with('[') => format!("{parent}{child}"),
        (parent, child) => format!("{parent}.{child}"),
    }
}

/// The variable that sets `key`.
fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_ascii_uppercase())
}

fn one_of(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.as_slice() {
        [] => "nothing".to_owned(),
        [only] => only.clone(),
        [all @ .., last] => format!("{} or {last}", all.join(", ")),
    }
}

/// What was found, by its kind alone.
fn kind(found: Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "a whole number",
        Unexpected::Float(_) => "a fraction",
        Unexpected::Seq => "an array",
        Unexpected::Map => "a table",
        Unexpected::Char(_) | Unexpected::Str(_) => "text",
        _ => "something else",
    }
}

/// What serde calls a type, in words that someone who writes TOML knows.
fn plain(expected: &str) -> String {
    let words = match expected {
        "a string" | "string" => "text",
        "a boolean" => "true or false",
        "a sequence" => r#"an array such as ["a", "b"]"#,
        "a map" => "a table",
        "f32" | "f64" => "a number",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number from 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "a nonzero u8" | "a nonzero u16" | "a nonzero u32" | "a nonzero u64" | "a nonzero usize" => {
            "a whole number from 1"
        }
        "socket address" => "an address with a port such as 127.0.0.1:8000",
        "IP address" => "an address such as 127.0.0.1",
        "a duration" => r#"a duration such as "25s""#,
        table if table.starts_with("struct ") => "a table",
        other => other,
    };
    words.to_owned()
}
