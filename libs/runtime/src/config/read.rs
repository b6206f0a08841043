//! A tree of values -> a `T`, by serde: each variable's text becomes what its key takes, and each error learns
//! its key and where the value came from on the way out.

use std::{collections::btree_map, vec};

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, Visitor,
    value::{MapAccessDeserializer, StringDeserializer},
};

use super::{
    Error,
    error::KeyError,
    value::{Data, Table, Value, typed},
};

/// Reads the whole configuration.
pub(super) fn table<T: DeserializeOwned>(root: Table) -> Result<T, Error> {
    T::deserialize(MapAccessDeserializer::new(Entries::new(root))).map_err(|error| Box::new(error).into())
}

impl Value {
    /// Shows the value as what it is; a variable's text as what it would be in TOML.
    fn any<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, KeyError> {
        let expected = (&visitor as &dyn Expected).to_string();
        let data = match self.data {
            Data::Untyped(text) => typed(text, &self.origin),
            data => data,
        };
        match data {
            Data::Boolean(boolean) => visitor.visit_bool(boolean),
            Data::Integer(integer) => visitor.visit_i64(integer),
            Data::Float(float) => visitor.visit_f64(float),
            Data::Text(text) | Data::Untyped(text) => visitor.visit_string(text),
            Data::Array(items) => visitor.visit_seq(Items::new(items)),
            Data::Table(table) => visitor.visit_map(Entries::new(table)),
        }
        .map_err(|error| error.expecting(&expected))
    }

    /// Shows the value to something that takes text: a variable's text as it is, unless it is quoted TOML text.
    fn text<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, KeyError> {
        let data = match self.data {
            Data::Untyped(text) if text.starts_with(['"', '\'']) => match typed(text.clone(), &self.origin) {
                unquoted @ Data::Text(_) => unquoted,
                _ => Data::Text(text),
            },
            Data::Untyped(text) => Data::Text(text),
            data => data,
        };
        Self {
            data,
            origin: self.origin,
        }
        .any(visitor)
    }
}

macro_rules! forward {
    ($to:ident: $($name:ident)*) => {
        $(fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, KeyError> {
            self.$to(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Value {
    type Error = KeyError;

    forward! { any:
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64
        deserialize_unit deserialize_seq deserialize_map
    }

    forward! { text:
        deserialize_char deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf
        deserialize_identifier
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, KeyError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, KeyError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, KeyError> {
        self.any(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, KeyError> {
        self.any(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, KeyError> {
        self.any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, KeyError> {
        // serde would fill a struct's fields from an array, one after the other.
        if let Data::Array(_) = self.data {
            return Err(KeyError::invalid_type(Unexpected::Seq, &visitor));
        }
        self.any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, KeyError> {
        let data = match self.data {
            Data::Untyped(text) => typed(text, &self.origin),
            data => data,
        };
        match data {
            Data::Text(text) => visitor.visit_enum(IntoDeserializer::<KeyError>::into_deserializer(text)),
            Data::Table(table) => visitor.visit_enum(MapAccessDeserializer::new(Entries::new(table))),
            _ => Err(KeyError::unknown_variant("", variants)),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, KeyError> {
        visitor.visit_unit()
    }
}

/// The entries of a table, one after the other.
struct Entries {
    rest: btree_map::IntoIter<String, Value>,
    /// The one whose key has been taken and whose value has not.
    current: Option<(String, Value)>,
}

impl Entries {
    fn new(table: Table) -> Self {
        Self {
            rest: table.0.into_iter(),
            current: None,
        }
    }
}

impl<'de> MapAccess<'de> for Entries {
    type Error = KeyError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, KeyError> {
        let Some((key, value)) = self.rest.next() else {
            return Ok(None);
        };
        let name: StringDeserializer<KeyError> = key.clone().into_deserializer();
        // This is where an unknown key is refused.
        let taken = seed
            .deserialize(name)
            .map_err(|error| error.inside(&key, &value.origin))?;
        self.current = Some((key, value));
        Ok(Some(taken))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, KeyError> {
        let Some((key, value)) = self.current.take() else {
            return Err(KeyError::custom("a value was asked for before its key"));
        };
        let origin = value.origin.clone();
        seed.deserialize(value)
            .map_err(|error| error.inside(&key, &origin))
    }
}

/// The items of an array, one after the other.
struct Items {
    rest: std::iter::Enumerate<vec::IntoIter<Value>>,
}

impl Items {
    fn new(items: Vec<Value>) -> Self {
        Self {
            rest: items.into_iter().enumerate(),
        }
    }
}

impl<'de> SeqAccess<'de> for Items {
    type Error = KeyError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, KeyError> {
        let Some((index, value)) = self.rest.next() else {
            return Ok(None);
        };
        let origin = value.origin.clone();
        seed.deserialize(value)
            .map(Some)
            .map_err(|error| error.inside(&format!("[{index}]"), &origin))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}
