//! Channel templates: `user:{data.assignee_id}` and an event make `user:42`.
//!
//! In braces stands an attribute of the event (`{id}`, `{type}`, `{source}`, `{subject}` or one of its own,
//! `{tenant}`) or a path into its JSON data (`{data.task.owner}`). A list gives one channel for each element;
//! a path goes through lists of objects, too. A template never guesses: what is missing, empty or would change
//! the shape of the name is an error that says so. A `:` separates the parts of a name, so only a value at the very
//! end of a template may have one: by `room:{tenant}:{id}` no two tenants share a channel, whatever their ids are.

mod text;

use std::{borrow::Cow, cell::OnceCell, fmt};

use serde_json::Value;
use tidings_core::{Channel, Event, channel};

pub use self::text::Text;

/// The most channels that one event may reach.
pub const MAX_CHANNELS: usize = 10_000;

/// A compiled template.
#[derive(Debug, Clone)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Literal(String),
    Field(Field),
}

/// What stands in braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// `{id}`
    Id,
    /// `{type}`
    Type,
    /// `{source}`
    Source,
    /// `{subject}`
    Subject,
    /// `{tenant}`: an attribute that the backend set.
    Attribute(String),
    /// `{data.a.b}`: the names after `data`.
    Data(Vec<String>),
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It would give an empty name.
    #[error("the template is empty")]
    Empty,
    /// `{` without `}`, or the other way round, or one inside the other.
    #[error("the braces do not match at byte {at}")]
    Braces {
        /// Where, in bytes.
        at: usize,
    },
    /// What stands in the braces names nothing.
    #[error(
        "{{{field}}} names nothing: write an attribute ({{tenant}}) or a path into the data ({{data.a.b}})"
    )]
    Field {
        /// What stands in the braces.
        field: String,
    },
    /// Text around the braces that no channel name can have.
    #[error(transparent)]
    Literal(#[from] channel::Error),
}

/// Why an event has no channel by this template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It lacks what the template names.
    #[error("the event has no {field}")]
    Missing {
        /// What is missing.
        field: Field,
    },
    /// Only texts, whole numbers, booleans and lists of them can be part of a name.
    #[error("{field} is {kind}; it has to be a text, a number, a boolean or a list of them")]
    Kind {
        /// Which value.
        field: Field,
        /// What it is.
        kind: &'static str,
    },
    /// The value would break the name, or move it to another namespace.
    #[error("{field} is {value:?}, which cannot stand there: {why}")]
    Value {
        /// Which value.
        field: Field,
        /// Its beginning.
        value: String,
        /// What is wrong with it.
        why: Cow<'static, str>,
    },
    /// The template names a path into data that has none.
    #[error("{field} is needed, but the data is not JSON (data_content_type is {content_type:?})")]
    NotJson {
        /// What is needed.
        field: Field,
        /// What the backend says the data is.
        content_type: String,
    },
    /// The data is JSON that cannot be read: a number too large for any type.
    #[error("{field} is needed, but the data cannot be read: {why}")]
    Unreadable {
        /// What is needed.
        field: Field,
        /// Where and why.
        why: String,
    },
    /// The parts fit, the whole does not.
    #[error("{name:?}: {source}")]
    Name {
        /// Its beginning.
        name: String,
        /// What is wrong with it.
        source: channel::Error,
    },
    /// A list where one value is needed.
    #[error("{field} has {count} values, and exactly one is needed")]
    Several {
        /// Which values.
        field: Field,
        /// How many.
        count: usize,
    },
    /// A text that is longer than one may be.
    #[error("it gives more than 1024 bytes")]
    TooLong,
    /// Lists that are too long, or multiply.
    #[error("it gives more than {MAX_CHANNELS} channels")]
    TooMany,
}

/// An event as templates see it: its data is parsed when the first of them asks.
pub struct Facts<'e> {
    event: &'e Event,
    data: OnceCell<Result<Value, String>>,
}

impl<'e> Facts<'e> {
    /// The facts of one event.
    #[must_use]
    pub fn of(event: &'e Event) -> Self {
        Self {
            event,
            data: OnceCell::new(),
        }
    }

    /// The data, which is JSON by its content type.
    fn data(&self) -> Result<&Value, &String> {
        let parse = || serde_json::from_slice(&self.event.data).map_err(|error| error.to_string());
        self.data.get_or_init(parse).as_ref()
    }
}

impl Template {
    /// Compiles a template.
    ///
    /// # Errors
    /// When the braces do not match, name nothing, or the text around them fits into no channel name.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let literal = |literal: &str| Channel::parse(literal).map(drop).map_err(ParseError::from);
        let parts = parts(text, literal)?;
        Ok(Self {
            text: text.to_owned(),
            parts,
        })
    }

    /// The namespace of all channels that it gives, where that can be told: what stands before the first `:`, if that is
    /// not made of values. Values in a namespace have no `:`.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        let separator = |part: &Part| matches!(part, Part::Literal(literal) if literal.contains(':'));
        match (self.parts.first(), self.parts.iter().position(separator)) {
            (Some(Part::Literal(first)), Some(0)) => {
                let (namespace, _) = first.split_once(':')?;
                Some(namespace.strip_prefix('$').unwrap_or(namespace))
            }
            (_, Some(_)) => None,
            (_, None) => Some(""),
        }
    }

    /// The channels that it makes of an event: one, unless a value is a list. None when a list is empty.
    ///
    /// # Errors
    /// When a value is missing or cannot be part of a channel name, or there are more than [`MAX_CHANNELS`].
    pub fn expand(&self, facts: &Facts<'_>) -> Result<Vec<Channel>, Error> {
        let mut names = vec![String::new()];
        // A channel's namespace says who may do what in it. The template fixes it, not a value.
        let mut in_namespace = true;
        for (index, part) in self.parts.iter().enumerate() {
            match part {
                Part::Literal(literal) => {
                    names.iter_mut().for_each(|name| name.push_str(literal));
                    in_namespace &= !literal.contains(':');
                }
                Part::Field(field) => {
                    let values = field.values(facts)?;
                    let place = Place {
                        in_namespace,
                        at_end: index + 1 == self.parts.len(),
                    };
                    for value in &values {
                        check(field, value, place)?;
                    }
                    if names.len().saturating_mul(values.len()) > MAX_CHANNELS {
                        return Err(Error::TooMany);
                    }
                    names = names
                        .iter()
                        .flat_map(|name| values.iter().map(move |value| format!("{name}{value}")))
                        .collect();
                }
            }
        }
        names
            .into_iter()
            .map(|name| {
                Channel::parse(&name).map_err(|source| Error::Name {
                    name: beginning(&name),
                    source,
                })
            })
            .collect()
    }
}

/// The parts of a template; `check` says whether a text around the braces can stand there.
fn parts(text: &str, check: impl Fn(&str) -> Result<(), ParseError>) -> Result<Vec<Part>, ParseError> {
    if text.is_empty() {
        return Err(ParseError::Empty);
    }
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let at = text.len() - rest.len();
        match rest.find(['{', '}']) {
            Some(0) => {
                let end = rest[1..].find(['{', '}']).map(|end| end + 1);
                let end = end.filter(|&end| rest.starts_with('{') && rest[end..].starts_with('}'));
                let end = end.ok_or(ParseError::Braces { at })?;
                parts.push(Part::Field(Field::parse(&rest[1..end])?));
                rest = &rest[end + 1..];
            }
            next => {
                let (literal, tail) = rest.split_at(next.unwrap_or(rest.len()));
                check(literal)?;
                parts.push(Part::Literal(literal.to_owned()));
                rest = tail;
            }
        }
    }
    Ok(parts)
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Field {
    fn parse(text: &str) -> Result<Self, ParseError> {
        let names_nothing = || ParseError::Field {
            field: text.to_owned(),
        };
        match text {
            "id" => Ok(Self::Id),
            "type" => Ok(Self::Type),
            "source" => Ok(Self::Source),
            "subject" => Ok(Self::Subject),
            "data" | "time" => Err(names_nothing()),
            _ => match text.strip_prefix("data.") {
                Some(path) if path.split('.').all(|name| !name.is_empty()) => {
                    Ok(Self::Data(path.split('.').map(str::to_owned).collect()))
                }
                None if is_attribute_name(text) => Ok(Self::Attribute(text.to_owned())),
                _ => Err(names_nothing()),
            },
        }
    }

    fn values<'f>(&self, facts: &'f Facts<'_>) -> Result<Vec<Cow<'f, str>>, Error> {
        let event = facts.event;
        let text = match self {
            Self::Id => Some(&event.id),
            Self::Type => Some(&event.kind),
            Self::Source => Some(&event.source).filter(|source| !source.is_empty()),
            Self::Subject => event.subject.as_ref(),
            Self::Attribute(name) => event.attributes.get(name),
            Self::Data(path) => return self.values_in_data(path, facts),
        };
        match text {
            Some(text) => Ok(vec![Cow::Borrowed(text)]),
            None => Err(Error::Missing { field: self.clone() }),
        }
    }

    fn values_in_data<'f>(&self, path: &[String], facts: &'f Facts<'_>) -> Result<Vec<Cow<'f, str>>, Error> {
        if !facts.event.has_json_data() {
            let content_type = facts.event.data_content_type.clone();
            return Err(Error::NotJson {
                field: self.clone(),
                content_type,
            });
        }
        if facts.event.data.is_empty() {
            return Err(Error::Missing { field: self.clone() });
        }
        let data = facts.data().map_err(|why| Error::Unreadable {
            field: self.clone(),
            why: why.clone(),
        })?;
        let mut values = Vec::new();
        self.collect(path, data, &mut values)?;
        Ok(values)
    }

    /// Follows `path` from `value` and adds what it finds. No deeper than JSON that was parsed is nested.
    fn collect<'v>(
        &self,
        path: &[String],
        value: &'v Value,
        found: &mut Vec<Cow<'v, str>>,
    ) -> Result<(), Error> {
        if found.len() >= MAX_CHANNELS {
            return Err(Error::TooMany);
        }
        let kind = |kind| {
            Err(Error::Kind {
                field: self.clone(),
                kind,
            })
        };
        match (value, path) {
            (Value::Array(list), _) => {
                return list
                    .iter()
                    .try_for_each(|element| self.collect(path, element, found));
            }
            (Value::Object(fields), [name, rest @ ..]) => {
                let value = fields
                    .get(name)
                    .ok_or_else(|| Error::Missing { field: self.clone() })?;
                return self.collect(rest, value, found);
            }
            (_, [_, ..]) => return Err(Error::Missing { field: self.clone() }),
            (Value::Object(_), []) => return kind("an object"),
            (Value::Null, []) => return kind("null"),
            (Value::String(text), []) => found.push(Cow::Borrowed(text)),
            (Value::Bool(truth), []) => found.push(Cow::Borrowed(if *truth { "true" } else { "false" })),
            (Value::Number(number), []) => match number.as_f64() {
                // Beyond 2^53 a number that did not fit an integer was rounded when it was parsed. Two ids must
                // not become one channel.
                Some(float) if number.is_f64() && float.abs() >= 9_007_199_254_740_992.0 => {
                    return kind("a number too large to be exact");
                }
                _ => found.push(Cow::Owned(number.to_string())),
            },
        }
        Ok(())
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id => f.write_str("id"),
            Self::Type => f.write_str("type"),
            Self::Source => f.write_str("source"),
            Self::Subject => f.write_str("subject"),
            Self::Attribute(name) => write!(f, "attributes.{name}"),
            Self::Data(path) => write!(f, "data.{}", path.join(".")),
        }
    }
}

/// Whether an event can have an attribute of this name. CloudEvents asks for at most 20 lower-case letters and
/// digits; backends that write `tenant_id` are understood, too.
#[must_use]
pub fn is_attribute_name(name: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=64).contains(&name.len()) && name.bytes().all(word)
}

/// Where a value stands in a template.
#[derive(Clone, Copy)]
struct Place {
    /// No `:` is before it.
    in_namespace: bool,
    /// Nothing is after it.
    at_end: bool,
}

fn check(field: &Field, value: &str, place: Place) -> Result<(), Error> {
    let why = match Channel::parse(value) {
        Err(why) => Cow::Owned(why.to_string()),
        Ok(_) if place.in_namespace && value.contains([':', '$']) => {
            Cow::Borrowed("':' and '$' could choose the namespace, which the template has to fix")
        }
        Ok(_) if !place.at_end && value.contains(':') => {
            Cow::Borrowed("with ':' it could end elsewhere, and two different events would share a channel")
        }
        Ok(_) => return Ok(()),
    };
    Err(Error::Value {
        field: field.clone(),
        value: beginning(value),
        why,
    })
}

/// Enough of a text to know it by in an error, which has to fit into a header.
fn beginning(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests;
