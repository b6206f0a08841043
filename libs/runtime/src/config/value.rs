//! What was found, merged: a tree of values, each of which knows where it came from.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use toml::de::{DeTable, DeValue};

use super::{
    Error,
    environment::Variable,
    error::{Origin, Place},
};

/// A value and where it came from.
#[derive(Debug, Clone)]
pub(super) struct Value {
    pub(super) data: Data,
    pub(super) origin: Origin,
}

#[derive(Debug, Clone)]
pub(super) enum Data {
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    Array(Vec<Value>),
    Table(Table),
    /// A variable's text, which is whatever its key takes.
    Untyped(String),
}

/// Values by key.
#[derive(Debug, Clone, Default)]
pub(super) struct Table(pub(super) BTreeMap<String, Value>);

/// Reads the text of the TOML file at `path`.
pub(super) fn parse(path: &Path, text: &str) -> Result<Table, Error> {
    let table = DeTable::parse(text).map_err(|error| Error::Syntax {
        path: path.to_owned(),
        place: Place::of(text, error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    })?;
    let file: Arc<Path> = path.into();
    let origin = |offset: usize| Origin::File {
        path: Arc::clone(&file),
        line: Place::of(text, offset).line,
    };
    Ok(convert_table(table.into_inner(), &origin))
}

impl Table {
    /// Sets `key` to a variable's value, making the tables on the way to it.
    pub(super) fn set(&mut self, key: &[String], name: &str, variable: &Variable) {
        let origin = Origin::Variable {
            name: name.to_owned(),
            file: variable.file.clone(),
        };
        let Some((last, tables)) = key.split_last() else {
            return;
        };
        let mut table = self;
        for step in tables {
            let value = table.0.entry(step.clone()).or_insert_with(|| Value {
                data: Data::Table(Self::default()),
                origin: origin.clone(),
            });
            if let Data::Untyped(text) = &value.data {
                value.data = typed(text.clone(), &value.origin);
            }
            // What is no table cannot hold the key: the longer variable wins, as it does over the file.
            if !matches!(value.data, Data::Table(_)) {
                *value = Value {
                    data: Data::Table(Self::default()),
                    origin: origin.clone(),
                };
            }
            let Data::Table(next) = &mut value.data else {
                return;
            };
            table = next;
        }
        table.0.insert(
            last.clone(),
            Value {
                data: Data::Untyped(variable.value.clone()),
                origin,
            },
        );
    }
}

/// What a variable's text is when it is read as TOML: the text itself, unless it is some other TOML value.
pub(super) fn typed(text: String, origin: &Origin) -> Data {
    match DeValue::parse(&text) {
        Ok(value) => convert(value.into_inner(), &|_| origin.clone()),
        Err(_) => Data::Text(text),
    }
}

fn convert_table(table: DeTable<'_>, origin: &impl Fn(usize) -> Origin) -> Table {
    let value = |(key, value): (toml::Spanned<_>, toml::Spanned<_>)| {
        let origin_of_key = origin(key.span().start);
        (
            std::borrow::Cow::into_owned(key.into_inner()),
            Value {
                data: convert(value.into_inner(), origin),
                origin: origin_of_key,
            },
        )
    };
    Table(table.into_iter().map(value).collect())
}

fn convert(value: DeValue<'_>, origin: &impl Fn(usize) -> Origin) -> Data {
    match value {
        DeValue::Boolean(boolean) => Data::Boolean(boolean),
        DeValue::String(text) => Data::Text(text.into_owned()),
        // What is too large for an i64 is kept as text, which no number's key takes.
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .map_or_else(|_| Data::Text(integer.as_str().to_owned()), Data::Integer),
        DeValue::Float(float) => float
            .as_str()
            .parse()
            .map_or_else(|_| Data::Text(float.as_str().to_owned()), Data::Float),
        DeValue::Datetime(datetime) => Data::Text(datetime.to_string()),
        DeValue::Array(array) => Data::Array(
            array
                .into_iter()
                .map(|item| {
                    let origin_of_item = origin(item.span().start);
                    Value {
                        data: convert(item.into_inner(), origin),
                        origin: origin_of_item,
                    }
                })
                .collect(),
        ),
        DeValue::Table(table) => Data::Table(convert_table(table, origin)),
    }
}
