//! How the messages of `proto/centrifuge/proxy.proto` stand in JSON. It is not Protobuf's own mapping: `bytes` are JSON
//! themselves, embedded as they are, 64-bit numbers are numbers, and `null` is as good as nothing.

use std::collections::HashMap;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned, ser::Error as _};
use serde_json::value::RawValue;

/// The type of a field.
pub(crate) trait Field: Sized + Default + PartialEq {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error>;
}

pub(crate) fn serialize<T: Field, S: Serializer>(field: &T, serializer: S) -> Result<S::Ok, S::Error> {
    field.write(serializer)
}

pub(crate) fn deserialize<'de, T: Field, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(T::read(deserializer)?.unwrap_or_default())
}

/// What is not there is not written.
pub(crate) fn is_absent<T: Field>(field: &T) -> bool {
    *field == T::default()
}

impl Field for Bytes {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = std::str::from_utf8(self).map_err(S::Error::custom)?;
        let json: &RawValue = serde_json::from_str(text).map_err(S::Error::custom)?;
        json.serialize(serializer)
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        let json = Option::<Box<RawValue>>::deserialize(deserializer)?;
        Ok(json.map(|json| String::from(Box::<str>::from(json)).into()))
    }
}

/// Whatever serde itself does right, but for `null`.
macro_rules! fields {
    ($($type:ty),*) => {$(
        impl Field for $type {
            fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.serialize(serializer)
            }

            fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
                Option::deserialize(deserializer)
            }
        }
    )*};
}

fields!(bool, i64, u32, String, Vec<String>);

impl<T: Serialize + DeserializeOwned + Default + PartialEq> Field for HashMap<String, T> {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize(serializer)
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        let entries = Option::<HashMap<String, Option<T>>>::deserialize(deserializer)?;
        let filled = |(key, value): (String, Option<T>)| (key, value.unwrap_or_default());
        Ok(entries.map(|entries| entries.into_iter().map(filled).collect()))
    }
}

impl<T: Serialize + DeserializeOwned + PartialEq> Field for Option<T> {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize(serializer)
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        Self::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use crate::proxy::{ConnectRequest, ConnectResponse, ConnectResult, RpcResponse, SubscribeOptions};

    #[test]
    fn bytes_are_json_where_they_stand_and_what_is_empty_is_left_out() {
        let request = ConnectRequest {
            client: "c".into(),
            data: br#"{"room":[1, 2]}"#.as_slice().into(),
            ..ConnectRequest::default()
        };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(text, r#"{"client":"c","data":{"room":[1, 2]}}"#);
        assert_eq!(serde_json::from_str::<ConnectRequest>(&text).unwrap(), request);
    }

    #[test]
    fn null_is_nothing_wherever_it_stands_and_unknown_fields_are_skipped() {
        let nothing = r#"{"error":null,"disconnect":null,"more":1,"result":{"user":null,"expire_at":null,
            "info":null,"b64info":null,"channels":null,"subs":{"a":null},"caps":[{}]}}"#;
        let response: ConnectResponse = serde_json::from_str(nothing).unwrap();
        let subs = [("a".to_owned(), SubscribeOptions::default())].into();
        let result = ConnectResult {
            subs,
            ..ConnectResult::default()
        };
        assert_eq!(response.result, Some(result));
        assert_eq!((response.error, response.disconnect), (None, None));
    }

    #[test]
    fn data_that_is_no_json_cannot_be_written_as_json() {
        let request = ConnectRequest {
            data: b"\xff".as_slice().into(),
            ..ConnectRequest::default()
        };
        assert!(serde_json::to_string(&request).is_err());
        assert!(serde_json::from_str::<RpcResponse>(r#"{"result":{"data":}}"#).is_err());
    }
}
