//! `publish` and `broadcast`: bare data for channels that are named.

use std::collections::HashMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidings_auth::Key;
use tidings_broker::{Published, Version};
use tidings_core::{Channel, Format, json};
use tonic_types::FieldViolation;

use super::{
    Answer, Call, Error,
    answer::{self, result},
    channel,
};
use crate::{
    grpc::{event, status},
    once,
    publish::{self, bare::Bare},
    template::MAX_CHANNELS,
};

/// The most bytes of a version's epoch, which streams remember.
const VERSION_EPOCH: usize = 256;

/// What both ask for; `delta` is not among it, as subscribers decide that.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Request {
    channel: Option<String>,
    channels: Option<Vec<String>>,
    data: Option<Box<RawValue>>,
    b64data: Option<String>,
    skip_history: Option<bool>,
    tags: Option<HashMap<String, String>>,
    idempotency_key: Option<String>,
    version: Option<u64>,
    version_epoch: Option<String>,
}

/// Where it stands in the channel's stream, if that is kept.
#[derive(Serialize)]
struct Place {
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
}

/// One of a broadcast's.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Response {
    Result(Place),
    Error(Error),
}

impl Call<'_> {
    pub(super) async fn publish(&self, request: Request) -> Answer {
        let channel = channel(request.channel.as_deref())?;
        let bare = self.bare(request)?;
        let mut outcomes = self.send(bare, &[channel]).await?;
        match outcomes.pop() {
            Some(outcome) => result(&place(outcome)?),
            None => Err(Error::internal("the bus did not answer")),
        }
    }

    pub(super) async fn broadcast(&self, mut request: Request) -> Answer {
        let names = request.channels.take().unwrap_or_default();
        if names.is_empty() || names.len() > MAX_CHANNELS {
            let why = format!(
                "channels are {}; a broadcast has 1 to {MAX_CHANNELS}",
                names.len()
            );
            return Err(Error::bad_request(why));
        }
        let bare = self.bare(request)?;
        let named: Vec<Result<Channel, Error>> = names.iter().map(|name| channel(Some(name))).collect();
        let channels: Vec<Channel> = named.iter().flatten().cloned().collect();
        let mut outcomes = self.send(bare, &channels).await?.into_iter();
        let responses = named.into_iter().map(|named| {
            let outcome = named.and_then(|_| place(outcomes.next().expect("each channel has an outcome")));
            outcome.map_or_else(Response::Error, Response::Result)
        });
        let responses: Vec<Response> = responses.collect();
        result(&serde_json::json!({ "responses": responses }))
    }

    async fn send(&self, bare: Bare, channels: &[Channel]) -> Result<Vec<publish::bare::Outcome>, Error> {
        let publish = &self.backends.fanout.publish;
        let outcomes = publish.bare(bare, channels, self.key(), self.span).await;
        outcomes.map_err(|error| status::of(&error).into())
    }

    fn bare(&self, what: Request) -> Result<Bare, Error> {
        let version = match what.version.filter(|number| *number > 0) {
            Some(number) => Some(version(number, what.version_epoch.unwrap_or_default())?),
            None => None,
        };
        let (data, format) = data(what.data, what.b64data)?;
        let tags = event::tags(what.tags.unwrap_or_default()).map_err(invalid)?;
        let idempotency_key = what.idempotency_key.filter(|key| !key.is_empty());
        Ok(Bare {
            data,
            format,
            tags,
            once: idempotency_key.map(|text| once::by_caller(&text, self.key().map(Key::name))),
            version,
            skip_history: what.skip_history.unwrap_or_default(),
            trace: self.trace.clone(),
        })
    }
}

/// A version that a stream can remember.
fn version(number: u64, epoch: String) -> Result<Version, Error> {
    if epoch.len() > VERSION_EPOCH {
        return Err(Error::bad_request(format!(
            "version_epoch is {} bytes long, at most {VERSION_EPOCH} are allowed",
            epoch.len()
        )));
    }
    Ok(Version {
        number,
        epoch: epoch.into(),
    })
}

fn invalid(violations: Vec<FieldViolation>) -> Error {
    status::invalid(violations).into()
}

/// Data that must be there; `b64data` comes first.
fn data(data: Option<Box<RawValue>>, b64data: Option<String>) -> Result<(Bytes, Format), Error> {
    let (data, format) = optional(data, b64data, "b64data")?;
    if data.is_empty() {
        return Err(Error::bad_request("data is required"));
    }
    Ok((data, format))
}

/// Data, or none. What comes in Base64 may be JSON all the same, which clients that speak only JSON can have.
pub(super) fn optional(
    data: Option<Box<RawValue>>,
    encoded: Option<String>,
    field: &str,
) -> Result<(Bytes, Format), Error> {
    let encoded = encoded.filter(|text| !text.is_empty());
    if let Some(text) = encoded {
        let bytes = BASE64_STANDARD.decode(text);
        let bytes: Bytes = bytes
            .map_err(|_| Error::bad_request(format!("{field} is no Base64")))?
            .into();
        let is_json = serde_json::from_slice::<&RawValue>(&bytes).is_ok()
            && json::depth_within(&bytes, json::MAX_DEPTH);
        return Ok(if is_json {
            (json::one_line(bytes), Format::Json)
        } else {
            (bytes, Format::Binary)
        });
    }
    let text: Bytes = data
        .map(|data| String::from(Box::<str>::from(data)))
        .unwrap_or_default()
        .into();
    if !json::depth_within(&text, json::MAX_DEPTH) {
        let why = format!(
            "data is nested more than {} arrays and objects deep",
            json::MAX_DEPTH
        );
        return Err(Error::bad_request(why));
    }
    Ok((json::one_line(text), Format::Json))
}

fn place(outcome: publish::bare::Outcome) -> Result<Place, Error> {
    let Published { position, .. } = outcome.map_err(|error| answer::Error::from(status::of(&error)))?;
    let (offset, epoch) = position.map(|position| (position.offset, position.epoch)).unzip();
    Ok(Place { offset, epoch })
}
