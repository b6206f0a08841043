//! Templates of texts that are no channel names: tags, and by what repeats are known.

use std::{borrow::Cow, fmt::Write as _};

use super::{Error, Facts, Field, ParseError, Part, beginning, parts};

/// The longest text, in bytes: that of an event's own tags.
const MAX_LEN: usize = 1024;

/// A compiled template: `{data.status}`, `order {id}`. Every field has exactly one value.
#[derive(Debug, Clone)]
pub struct Text(Vec<Part>);

impl Text {
    /// Compiles a template.
    ///
    /// # Errors
    /// When it is empty, or the braces do not match or name nothing.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parts(text, |_| Ok(())).map(Self)
    }

    /// What it makes of an event.
    ///
    /// # Errors
    /// When a value is missing, one of many, or cannot be part of a text.
    pub fn expand(&self, facts: &Facts<'_>) -> Result<String, Error> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Field(field) => text.push_str(&value(field, facts)?),
            }
            if text.len() > MAX_LEN {
                return Err(Error::TooLong);
            }
        }
        Ok(text)
    }

    /// The same with the length before each value, so that no two events share a key which differ in a value: `{a}{b}`
    /// of `1` and `23` is not that of `12` and `3`.
    ///
    /// # Errors
    /// As those of [`expand`](Self::expand).
    pub fn key(&self, facts: &Facts<'_>) -> Result<String, Error> {
        let mut key = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(literal) => key.push_str(literal),
                Part::Field(field) => {
                    let value = value(field, facts)?;
                    let _ = write!(key, "{}:{value}", value.len());
                }
            }
            if key.len() > MAX_LEN {
                return Err(Error::TooLong);
            }
        }
        Ok(key)
    }
}

fn value<'f>(field: &Field, facts: &'f Facts<'_>) -> Result<Cow<'f, str>, Error> {
    let mut values = field.values(facts)?;
    let several = values.len();
    match values.pop() {
        Some(value) if several == 1 => match value.chars().find(|character| character.is_control()) {
            None => Ok(value),
            Some(character) => Err(Error::Value {
                field: field.clone(),
                value: beginning(&value),
                why: format!("it has the control character {character:?}").into(),
            }),
        },
        _ => Err(Error::Several {
            field: field.clone(),
            count: several,
        }),
    }
}
