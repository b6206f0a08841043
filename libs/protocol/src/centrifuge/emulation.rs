//! What a client sends apart from its connection, where that goes in one direction alone (SSE, HTTP streaming): a
//! frame of commands, and whose it is. Any node takes it and hands it to the one that holds the connection.

use bytes::Bytes;
use prost::Message as _;
use serde::Deserialize;

use super::protobuf::wire;

/// The body of a POST to `/emulation`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emulation {
    /// The node that holds the connection, as its client was told in [`Connected`](crate::reply::Connected).
    pub node: String,
    /// Which connection; a secret.
    pub session: String,
    /// A frame of commands in the encoding of the connection.
    pub data: Bytes,
}

/// A body that is no such request.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// Not in JSON.
    #[error("body is not an emulation request: {0}")]
    Json(#[source] serde_json::Error),
    /// Not in Protobuf.
    #[error("body is not an emulation request: {0}")]
    Protobuf(#[source] prost::DecodeError),
}

/// Reads a body in JSON, where `data` is a string: the lines of the frame.
///
/// # Errors
/// When it is anything else.
pub fn json(body: &[u8]) -> Result<Emulation, Malformed> {
    #[derive(Deserialize)]
    struct Wire {
        node: Option<String>,
        session: Option<String>,
        data: Option<String>,
    }
    let wire: Wire = serde_json::from_slice(body).map_err(Malformed::Json)?;
    Ok(Emulation {
        node: wire.node.unwrap_or_default(),
        session: wire.session.unwrap_or_default(),
        data: wire.data.unwrap_or_default().into(),
    })
}

/// Reads a body in Protobuf.
///
/// # Errors
/// When it is anything else.
pub fn protobuf(body: Bytes) -> Result<Emulation, Malformed> {
    let wire = wire::EmulationRequest::decode(body).map_err(Malformed::Protobuf)?;
    Ok(Emulation {
        node: wire.node,
        session: wire.session,
        data: wire.data,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expected() -> Emulation {
        Emulation {
            node: "n".into(),
            session: "s".into(),
            data: "{\"id\":1}\n{}".into(),
        }
    }

    #[test]
    fn json_carries_the_frame_as_a_string() {
        let body = r#"{"session":"s","node":"n","data":"{\"id\":1}\n{}","more":1}"#;
        assert_eq!(json(body.as_bytes()).unwrap(), expected());
        assert_eq!(json(b"{}").unwrap().data, "");
        let error = json(br#"{"session":"s","node":"n","data":{"id":1}}"#).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("body is not an emulation request: invalid type: map")
        );
    }

    #[test]
    fn protobuf_carries_it_as_it_is() {
        let Emulation { node, session, data } = expected();
        let body = wire::EmulationRequest { node, session, data }.encode_to_vec();
        assert_eq!(protobuf(body.into()).unwrap(), expected());
        assert!(protobuf(Bytes::from_static(b"{}")).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = json(&body);
            let _ = protobuf(body.into());
        }

        #[test]
        fn almost_requests_never_panic(body in "\\{\"(node|session|data)\":(\"[^\"]{0,9}\"|null|1|\\{\\})(,\"data\":\"(\\\\[nu\"0-9]{1,5}|.){0,5}\")?\\}?") {
            let _ = json(body.as_bytes());
        }
    }
}
