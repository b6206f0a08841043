//! Bare data for named channels, without an event around it: what `/api/publish` and `/api/broadcast` ask for. Each channel
//! has a result of its own.

use std::{collections::BTreeMap, time::SystemTime};

use bytes::Bytes;
use futures_util::future;
use tidings_auth::Key;
use tidings_broker::{self as broker, Once, Published, Version};
use tidings_core::{Channel, Format, Publication};
use tidings_telemetry::trace;
use tokio::time::Instant;
use tracing::Span;

use super::{
    Error, Publish,
    send::{self, Sending},
};
use crate::metrics::EventResult;

/// What is published.
pub(crate) struct Bare {
    pub(crate) data: Bytes,
    pub(crate) format: Format,
    pub(crate) tags: BTreeMap<String, String>,
    /// By what a repeat is known, channel by channel.
    pub(crate) once: Option<Once>,
    /// How new it is: what is no newer than what a stream has is not published.
    pub(crate) version: Option<Version>,
    /// Only who listens now hears of it, whatever the namespace says.
    pub(crate) skip_history: bool,
    /// The caller's trace.
    pub(crate) trace: Option<trace::Context>,
}

/// One channel's.
pub(crate) type Outcome = Result<Published, Error>;

impl Publish {
    /// Publishes to each channel that the key may publish to and whose namespace is configured. One result per channel,
    /// in order. What is published so has no type: a key with a scope of event types must have `**` among them.
    pub(crate) async fn bare(
        &self,
        bare: Bare,
        channels: &[Channel],
        key: Option<&Key>,
        span: &Span,
    ) -> Result<Vec<Outcome>, Error> {
        let begun = Instant::now();
        if let Some(key) = key {
            self.admit(key)?;
        }
        let asked: Vec<_> = channels
            .iter()
            .map(|channel| self.admitted(&bare, channel, key))
            .collect();
        let targets: Vec<_> = asked
            .iter()
            .filter_map(|target| target.as_ref().ok().cloned())
            .collect();
        let size = bare.data.len() + targets.len() * super::ROOM_PER_CHANNEL;
        let size = u32::try_from(size).unwrap_or(super::ROOM).clamp(1, super::ROOM);
        let _room = self
            .room
            .acquire_many(size)
            .await
            .expect("the semaphore is never closed");
        let publication = Publication {
            tags: bare.tags,
            ..Publication::new(bare.data, bare.format, SystemTime::now())
        };
        let sending = Sending {
            publication,
            trace: bare.trace,
            deadline: None,
            order: None,
            span,
        };
        let sent = future::join_all(self.send(targets, &sending)).await;
        let mut sent = sent.into_iter().flatten();
        let outcomes: Vec<Outcome> = asked
            .into_iter()
            .zip(channels)
            .map(|(asked, channel)| {
                asked?;
                let result = sent.next().expect("the bus answers for each target");
                self.metrics.publication(channel, &result);
                if let Err(error) = &result
                    && send::is_refusal(error)
                {
                    self.refusals.by_bus(None, channel, error);
                }
                result.map_err(Error::Bus)
            })
            .collect();
        self.note(&outcomes, key);
        if outcomes.iter().any(Result::is_ok) {
            self.metrics
                .publish_duration
                .observe(begun.elapsed().as_secs_f64(), span);
        }
        Ok(outcomes)
    }

    fn admitted(&self, bare: &Bare, channel: &Channel, key: Option<&Key>) -> Result<broker::Target, Error> {
        if let Some(key) = key {
            let name = || key.name().to_owned();
            if !key.may_publish_event("") {
                let kind = String::new();
                return Err(Error::Event { key: name(), kind });
            }
            if !key.may_publish_to(channel) {
                let channel = channel.clone();
                return Err(Error::Channel { key: name(), channel });
            }
        }
        let Some(namespace) = self.namespaces.of(channel) else {
            return Err(Error::Namespace {
                channel: channel.clone(),
                route: None,
            });
        };
        Ok(broker::Target {
            channel: channel.clone(),
            retention: namespace.retention().filter(|_| !bare.skip_history),
            once: bare.once.clone(),
            version: bare.version.clone(),
        })
    }

    /// Counts it as the one event that it is, and says who was refused.
    fn note(&self, outcomes: &[Outcome], key: Option<&Key>) {
        let failure = outcomes.iter().find_map(|outcome| outcome.as_ref().err());
        if let (Some(key), Some(error)) = (key, failure)
            && let Some(reason) = error.refusal()
        {
            self.refused(key, reason, &error.to_string());
        }
        self.metrics.event(match failure {
            None if outcomes.iter().flatten().all(|published| published.duplicate) => EventResult::Duplicate,
            None => EventResult::Published,
            Some(_) if outcomes.iter().any(Result::is_ok) => EventResult::Partly,
            Some(Error::Event { .. } | Error::Channel { .. }) => EventResult::Denied,
            Some(Error::Bus(_)) => EventResult::Failed,
            Some(_) => EventResult::Invalid,
        });
    }
}
