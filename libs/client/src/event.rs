//! What happened, in the words of CloudEvents 1.0, put together step by step.

use std::time::SystemTime;

use bytes::Bytes;
use serde::Serialize;
use tidings_proto::fanout as proto;
use uuid::Uuid;

use crate::Error;

/// An event to be published. It gets an id of its own, unless it is given one.
#[derive(Debug, Clone, PartialEq)]
pub struct Event(pub(crate) proto::Event);

impl Event {
    /// An event of this type: segments separated by dots (`task.created`).
    #[must_use]
    pub fn new(kind: impl Into<String>) -> Self {
        Self(proto::Event {
            id: Uuid::now_v7().to_string(),
            r#type: kind.into(),
            ..proto::Event::default()
        })
    }

    /// Its id, by which a repeat is known, together with the source.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.0.id = id.into();
        self
    }

    /// Who says so: `task-service`.
    #[must_use]
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.0.source = source.into();
        self
    }

    /// What it is about.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.0.subject = subject.into();
        self
    }

    /// When it happened; otherwise that is when it is accepted.
    #[must_use]
    pub fn time(mut self, time: SystemTime) -> Self {
        self.0.time = Some(time.into());
        self
    }

    /// Its data, as JSON.
    ///
    /// # Errors
    /// When the value has no form in JSON.
    pub fn json<T: Serialize + ?Sized>(mut self, data: &T) -> Result<Self, Error> {
        self.0.data = serde_json::to_vec(data).map_err(Error::Json)?.into();
        self.0.data_content_type.clear();
        Ok(self)
    }

    /// Its data, of another media type.
    #[must_use]
    pub fn data(mut self, content_type: impl Into<String>, data: impl Into<Bytes>) -> Self {
        self.0.data_content_type = content_type.into();
        self.0.data = data.into();
        self
    }

    /// An attribute of its own, which routes may name. (CloudEvents: an extension.)
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.attributes.insert(name.into(), value.into());
        self
    }

    /// A label that subscribers see and may filter by.
    #[must_use]
    pub fn tag(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.tags.insert(name.into(), value.into());
        self
    }

    /// A channel that is to hear of it, whatever the routes say; may be repeated. Without any, the routes decide.
    #[must_use]
    pub fn channel(mut self, channel: impl Into<String>) -> Self {
        self.0.channels.push(channel.into());
        self
    }
}
