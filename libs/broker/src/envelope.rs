//! What travels on the bus: the only place that knows both `tidings.bus.v1` and the vocabulary, but for presence' store,
//! whose script announces members itself.
//!
//! The sender is another node of ours, but its version may differ and anyone with access to Redis can publish, so
//! decoding checks everything that the vocabulary promises.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use prost::Message;
use tidings_core::{Channel, ClientId, ClientInfo, Format, Position, Publication, TraceContext};
use tidings_proto::bus::{self as wire, envelope::Body};

use crate::Incoming;

/// Why bytes are no envelope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("it is no tidings.bus.v1.Envelope: {0}")]
    Protobuf(#[from] prost::DecodeError),
    #[error("it has no body that this version knows")]
    Body,
    #[error("it announces a member without saying who")]
    Info,
    #[error("its client id {0:?} is no UUID")]
    ClientId(String),
    #[error("its time {0} ms is out of range")]
    Time(i64),
}

/// The bytes of a publication. Its position is not in them: whoever gives it one puts that behind them, as
/// [`decode`] reads it.
pub(crate) fn publication(publication: &Publication) -> Vec<u8> {
    let (traceparent, tracestate) = match &publication.trace {
        Some(trace) => (trace.traceparent.clone(), trace.tracestate.clone()),
        None => Default::default(),
    };
    encode(Body::Publication(wire::Publication {
        id: publication.id.clone(),
        r#type: publication.kind.clone(),
        data: publication.data.clone(),
        tags: publication.tags.clone().into_iter().collect(),
        info: publication.info.as_ref().map(info_to_wire),
        offset: 0,
        epoch: String::new(),
        time_ms: time_to_wire(publication.time),
        traceparent,
        tracestate,
        binary: publication.format == Format::Binary,
        seam: None,
    }))
}

/// The bytes of a publication with its position behind them, as the script that appends it to a stream has them.
pub(crate) fn positioned(publication: &[u8], position: Option<&Position>) -> Vec<u8> {
    let mut bytes = publication.to_vec();
    if let Some(position) = position {
        // The fields of a message that stands twice are merged (protobuf encoding, "Last One Wins").
        bytes.extend(encode(Body::Publication(wire::Publication {
            offset: position.offset,
            epoch: position.epoch.clone(),
            ..wire::Publication::default()
        })));
    }
    bytes
}

/// The bytes of the announcement that a member came.
pub(crate) fn join(info: &ClientInfo) -> Vec<u8> {
    encode(Body::Join(wire::Join {
        info: Some(info_to_wire(info)),
    }))
}

/// The bytes of the announcement that a member left.
pub(crate) fn leave(info: &ClientInfo) -> Vec<u8> {
    encode(Body::Leave(wire::Leave {
        info: Some(info_to_wire(info)),
    }))
}

/// A publication that was kept.
pub(crate) fn decode_publication(message: Bytes) -> Result<Publication, Error> {
    match wire::Envelope::decode(message)?.body {
        Some(Body::Publication(publication)) => publication_from_wire(publication),
        _ => Err(Error::Body),
    }
}

/// What was said in `channel`. Data is shared with `message`, not copied.
pub(crate) fn decode(channel: Channel, message: Bytes) -> Result<Incoming, Error> {
    let envelope = wire::Envelope::decode(message)?;
    Ok(match envelope.body.ok_or(Error::Body)? {
        Body::Publication(publication) => Incoming::Publication(channel, publication_from_wire(publication)?),
        Body::Join(join) => Incoming::Join(channel, info_from_wire(join.info.ok_or(Error::Info)?)?),
        Body::Leave(leave) => Incoming::Leave(channel, info_from_wire(leave.info.ok_or(Error::Info)?)?),
    })
}

fn encode(body: Body) -> Vec<u8> {
    wire::Envelope { body: Some(body) }.encode_to_vec()
}

fn publication_from_wire(publication: wire::Publication) -> Result<Publication, Error> {
    Ok(Publication {
        id: publication.id,
        kind: publication.r#type,
        data: publication.data,
        format: if publication.binary {
            Format::Binary
        } else {
            Format::Json
        },
        tags: publication.tags.into_iter().collect(),
        info: publication.info.map(info_from_wire).transpose()?,
        position: (publication.offset > 0).then_some(Position {
            offset: publication.offset,
            epoch: publication.epoch,
        }),
        seam: publication.seam,
        time: time_from_wire(publication.time_ms)?,
        trace: (!publication.traceparent.is_empty()).then_some(TraceContext {
            traceparent: publication.traceparent,
            tracestate: publication.tracestate,
        }),
    })
}

fn info_to_wire(info: &ClientInfo) -> wire::ClientInfo {
    wire::ClientInfo {
        user: info.user.as_ref().to_owned(),
        client: info.client.to_string(),
        conn_info: info.conn_info.clone(),
        chan_info: info.chan_info.clone(),
    }
}

fn info_from_wire(info: wire::ClientInfo) -> Result<ClientInfo, Error> {
    let Some(client) = ClientId::parse(&info.client) else {
        return Err(Error::ClientId(info.client));
    };
    Ok(ClientInfo {
        user: info.user.into(),
        client,
        conn_info: info.conn_info,
        chan_info: info.chan_info,
    })
}

/// Unix milliseconds, saturating at the ends of the range, which no clock reaches.
fn time_to_wire(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}

fn time_from_wire(ms: i64) -> Result<SystemTime, Error> {
    let distance = Duration::from_millis(ms.unsigned_abs());
    let time = if ms < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    time.ok_or(Error::Time(ms))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn infos() -> impl Strategy<Value = ClientInfo> {
        (any::<String>(), any::<Vec<u8>>(), any::<Vec<u8>>()).prop_map(|(user, conn_info, chan_info)| {
            ClientInfo {
                user: user.into(),
                client: ClientId::random(),
                conn_info: conn_info.into(),
                chan_info: chan_info.into(),
            }
        })
    }

    prop_compose! {
        fn publications()(
            (id, kind, data, binary) in any::<(String, String, Vec<u8>, bool)>(),
            tags in prop::collection::btree_map(any::<String>(), any::<String>(), 0..4),
            info in prop::option::of(infos()),
            position in prop::option::of((1_u64.., any::<String>(), any::<Option<u64>>())),
            time_ms in -8_000_000_000_000..8_000_000_000_000_i64,
            trace in prop::option::of((".+", any::<String>())),
        ) -> Publication {
            Publication {
                id,
                kind,
                data: data.into(),
                format: if binary { Format::Binary } else { Format::Json },
                tags,
                info,
                seam: position.as_ref().and_then(|(_, _, seam)| *seam),
                position: position.map(|(offset, epoch, _)| Position { offset, epoch }),
                time: time_from_wire(time_ms).unwrap(),
                trace: trace.map(|(traceparent, tracestate)| TraceContext { traceparent, tracestate }),
            }
        }
    }

    /// What is put behind the bytes of a publication, here by protobuf, in Redis by a script.
    fn position(sent: &Publication) -> Vec<u8> {
        let Some(position) = &sent.position else {
            return Vec::new();
        };
        encode(Body::Publication(wire::Publication {
            offset: position.offset,
            epoch: position.epoch.clone(),
            seam: sent.seam,
            ..Default::default()
        }))
    }

    fn channel() -> Channel {
        Channel::parse("tasks:1").unwrap()
    }

    proptest! {
        #[test]
        fn a_publication_comes_out_as_it_went_in(sent in publications()) {
            let mut message = publication(&sent);
            message.extend(position(&sent));
            let decoded = decode(channel(), message.into()).unwrap();
            prop_assert_eq!(decoded, Incoming::Publication(channel(), sent));
        }

        #[test]
        fn a_member_comes_out_as_it_went_in(info in infos()) {
            let joined = decode(channel(), join(&info).into()).unwrap();
            prop_assert_eq!(joined, Incoming::Join(channel(), info.clone()));
            let left = decode(channel(), leave(&info).into()).unwrap();
            prop_assert_eq!(left, Incoming::Leave(channel(), info));
        }

        #[test]
        fn arbitrary_bytes_never_panic(message in any::<Vec<u8>>()) {
            let _ = decode(channel(), message.into());
        }

        #[test]
        fn damaged_envelopes_never_panic(sent in publications(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut message = publication(&sent);
            let at = at.index(message.len());
            message[at] = byte;
            let _ = decode(channel(), message.into());
        }

        #[test]
        fn every_time_on_the_wire_is_a_time_or_an_error(ms in any::<i64>()) {
            if let Ok(time) = time_from_wire(ms) {
                prop_assert_eq!(time_to_wire(time), ms);
            }
        }
    }

    #[test]
    fn what_the_vocabulary_forbids_is_refused() {
        let check = |body, expected| {
            assert_eq!(decode(channel(), encode(body).into()), Err(expected));
        };
        check(Body::Join(wire::Join { info: None }), Error::Info);
        let info = wire::ClientInfo {
            client: "7".into(),
            ..Default::default()
        };
        check(
            Body::Leave(wire::Leave { info: Some(info) }),
            Error::ClientId("7".into()),
        );
        assert_eq!(decode(channel(), Bytes::new()), Err(Error::Body));
    }

    #[test]
    fn data_is_shared_with_the_message_it_came_in() {
        let sent = Publication::new(Bytes::from(vec![7; 1000]), Format::Binary, SystemTime::UNIX_EPOCH);
        let message = Bytes::from(publication(&sent));
        let Incoming::Publication(_, received) = decode(channel(), message.clone()).unwrap() else {
            panic!("a publication was sent");
        };
        assert!(message.as_ptr_range().contains(&received.data.as_ptr()));
    }
}
