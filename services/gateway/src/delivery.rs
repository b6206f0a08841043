//! One publication on its way to this node's subscribers.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use tidings_core::{Channel, Publication};
use tidings_protocol::delta;
use tracing::Span;

use crate::{
    metrics::Metrics,
    wire::{LANGUAGES, Language, Written},
};

/// A publication shared by all cores that have subscribers of its channel, with a finished frame per language,
/// each made by the first core that needs it and once only.
///
/// It lives until the last of them has queued it; then its span ends and its counts are final.
pub(crate) struct Delivery {
    pub(crate) channel: Channel,
    pub(crate) publication: Publication,
    frames: [OnceLock<Written>; LANGUAGES],
    /// For those who read differences; most channels have none of them.
    deltas: OnceLock<Box<Deltas>>,
    metrics: Arc<Metrics>,
    span: Span,
    subscribers: AtomicU64,
    bytes: AtomicU64,
    slow: AtomicU64,
}

/// Frames for clients that read differences.
#[derive(Default)]
struct Deltas {
    whole: [OnceLock<Written>; LANGUAGES],
    /// From the publication before. Cores that agree on which one that was share it.
    patch: OnceLock<(Bytes, Option<Vec<u8>>)>,
    patched: [OnceLock<Written>; LANGUAGES],
}

impl Delivery {
    pub(crate) fn new(channel: Channel, publication: Publication, metrics: Arc<Metrics>, span: Span) -> Self {
        Self {
            channel,
            publication,
            frames: Default::default(),
            deltas: OnceLock::new(),
            metrics,
            span,
            subscribers: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            slow: AtomicU64::new(0),
        }
    }

    /// The frame in a language, made now if nobody needed it yet.
    pub(crate) fn frame(&self, language: Language) -> &Written {
        self.frames[language as usize].get_or_init(|| language.write(&self.channel, &self.publication))
    }

    /// The same for a client that reads differences and has got `base` last.
    pub(crate) fn delta(&self, language: Language, base: Option<&Bytes>) -> &Written {
        let deltas = self.deltas.get_or_init(Box::default);
        let write = |patch| language.write_delta(&self.channel, &self.publication, patch);
        let whole = || deltas.whole[language as usize].get_or_init(|| write(None));
        let Some(base) = base else {
            return whole();
        };
        let (from, patch) = deltas.patch.get_or_init(|| {
            let patch = delta::fossil(base, &self.publication.data);
            (base.clone(), patch)
        });
        match patch {
            // Nearly always the same bytes at the same place, so comparing them costs nothing.
            Some(patch) if from == base => {
                deltas.patched[language as usize].get_or_init(|| write(Some(patch)))
            }
            _ => whole(),
        }
    }

    /// About how many bytes it holds while it waits in an inbox.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.publication.data.len()
    }

    /// What one core did with it.
    pub(crate) fn count(&self, subscribers: u64, bytes: u64, slow: u64) {
        self.subscribers.fetch_add(subscribers, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.slow.fetch_add(slow, Ordering::Relaxed);
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let (subscribers, bytes) = (*self.subscribers.get_mut(), *self.bytes.get_mut());
        self.metrics
            .delivered(subscribers, bytes, self.publication.time, &self.span);
        if !self.span.is_disabled() {
            self.span.record("tidings.subscribers", subscribers);
            self.span.record("tidings.delivered_bytes", bytes);
            self.span.record("tidings.slow_clients", *self.slow.get_mut());
        }
    }
}
