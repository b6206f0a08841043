//! CloudEvents 1.0 in HTTP: a request becomes one event, or a batch of them.
//!
//! The three modes of the HTTP binding (section 3) differ in where attributes and data stand: [`binary`] has them in
//! headers and body, [`json`] in one JSON object or an array of them. Either way [`attributes`] has the rules that they
//! have to keep. What comes out is the event of `fanout.proto`, whose own rules (lengths, names of channels, valid JSON)
//! are checked where those of every event are, in `grpc/event.rs`.
//!
//! The reader is our own: data has to stay as the backend wrote it, byte for byte, and every attribute that is wrong has
//! to be named.

mod attributes;
mod binary;
mod json;
#[cfg(test)]
mod tests;

use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use tidings_proto::fanout as proto;

pub(super) use self::attributes::Wrong;

/// The most events of one batch.
pub(super) const MAX_BATCH: usize = 1000;

const STRUCTURED: &str = "application/cloudevents";
const BATCH: &str = "application/cloudevents-batch";

/// An event, or all that is wrong with it.
pub(super) type Read = Result<proto::Event, Vec<Wrong>>;

/// What a request brought.
#[derive(Debug, PartialEq)]
pub(super) enum Message {
    One(Box<Read>),
    Batch(Vec<Read>),
}

/// Why a request has no events at all.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error(
        "the content type {content_type:?} is none that is read here: {STRUCTURED}+json, {BATCH}+json, or any other with \
        the event's attributes in headers (ce-id, ce-source, ce-specversion, ce-type)"
    )]
    Format { content_type: String },
    #[error("the body is not the JSON that its content type says: {0}")]
    Json(String),
    #[error("the batch has more than {MAX_BATCH} events")]
    TooMany,
}

impl Error {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Format { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Json(_) => StatusCode::BAD_REQUEST,
            Self::TooMany => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }
}

/// Reads one event in the JSON format that came by another way than HTTP.
///
/// # Errors
/// All that is wrong with it, in a line.
pub(crate) fn structured(json: &Bytes) -> Result<proto::Event, String> {
    let read = json::one(json).map_err(|error| error.to_string())?;
    read.map_err(|wrong| in_a_line(&wrong))
}

/// Makes an event of attributes and data that stand apart, as in binary mode, by another way than HTTP. A
/// `specversion` need not be among them.
///
/// # Errors
/// All that is wrong with it, in a line.
pub(crate) fn apart(attributes: Vec<(String, String)>, data: Bytes) -> Result<proto::Event, String> {
    if attributes.len() > attributes::MAX_ATTRIBUTES {
        return Err(format!(
            "it has more than {} attributes",
            attributes::MAX_ATTRIBUTES
        ));
    }
    let mut read = attributes::Attributes::default();
    if attributes.iter().all(|(name, _)| name != "specversion") {
        read.set("specversion", attributes::SPECVERSION.to_owned());
    }
    for (name, value) in attributes {
        read.set(&name, value);
    }
    read.with(data).map_err(|wrong| in_a_line(&wrong))
}

fn in_a_line(wrong: &[Wrong]) -> String {
    let each: Vec<_> = wrong
        .iter()
        .map(|Wrong { attribute, why }| format!("{attribute} {why}"))
        .collect();
    each.join("; ")
}

/// Reads a request. The content type says in which mode it is (HTTP binding, section 3).
pub(super) fn read(headers: &HeaderMap, body: Bytes) -> Result<Message, Error> {
    let content_type = headers.get(header::CONTENT_TYPE);
    let content_type = content_type.map(|value| String::from_utf8_lossy(value.as_bytes()));
    let content_type = content_type.as_deref().unwrap_or_default();
    let (media_type, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    let media_type = media_type.trim().to_ascii_lowercase();
    let is_text = || charset(parameters).is_none_or(|charset| charset.eq_ignore_ascii_case("utf-8"));
    let format = |prefix| media_type.strip_prefix(prefix);
    match (format(BATCH), format(STRUCTURED)) {
        (Some("+json"), _) if is_text() => json::batch(&body).map(Message::Batch),
        (None, Some("+json")) if is_text() => json::one(&body).map(|event| Message::One(Box::new(event))),
        (None, None) => Ok(Message::One(Box::new(binary::read(headers, body)))),
        _ => Err(Error::Format {
            content_type: content_type.chars().take(100).collect(),
        }),
    }
}

/// The `charset` among a media type's parameters.
fn charset(parameters: &str) -> Option<&str> {
    let mut pairs = parameters.split(';').filter_map(|pair| pair.split_once('='));
    let (_, charset) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))?;
    Some(charset.trim().trim_matches('"'))
}
