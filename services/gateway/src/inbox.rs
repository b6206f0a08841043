//! What the rest of the process says to a core.
//!
//! Anyone may put a letter in, from any thread, without waiting. The core takes all of them at once: the more
//! have come, the more publications share a write.

use std::{collections::HashSet, mem, sync::Arc};

use parking_lot::Mutex;
use tidings_core::{Channel, ClientId};
use tidings_protocol::Error;
use tidings_session::Answer;
use tokio::sync::{Notify, oneshot};

use crate::{adopt::Adoption, delivery::Delivery};

/// Bytes of publications that may wait for a core. A core that falls this far behind loses publications, and
/// knows it: the letter [`Letter::Lost`] takes their place.
const LIMIT: usize = 32 * 1024 * 1024;

/// One message to a core.
pub(crate) enum Letter {
    /// A client has connected; it is yours.
    Adopt(Box<Adoption>),
    /// Write this to whoever wants it.
    Deliver(Arc<Delivery>),
    /// Publications were dropped here because too many waited.
    Lost,
    /// The bus confirmed the channel, or will not have it.
    Interest(Channel, Result<(), Error>),
    /// Slow work is done.
    Completed(Address, Answer),
    /// Say who is there.
    Census(oneshot::Sender<Census>),
    /// Close everyone, a few at a time, over this long; then end.
    Drain(std::time::Duration),
}

/// A connection of a core. The client's id makes sure that an answer does not reach whoever came after it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Address {
    pub(crate) key: usize,
    pub(crate) client: ClientId,
}

/// Who is on a core.
#[derive(Debug, Default)]
pub(crate) struct Census {
    pub(crate) connections: usize,
    pub(crate) users: HashSet<Arc<str>>,
}

/// A core's letters. Only deliveries are counted against the limit: every other letter belongs to a connection
/// or a request, of which there are boundedly many.
#[derive(Default)]
pub(crate) struct Inbox {
    letters: Mutex<Letters>,
    arrived: Notify,
}

#[derive(Default)]
struct Letters {
    queue: Vec<Letter>,
    bytes: usize,
    lost: bool,
}

impl Inbox {
    /// Puts a letter in. Never waits.
    pub(crate) fn put(&self, letter: Letter) {
        let mut letters = self.letters.lock();
        if let Letter::Deliver(delivery) = &letter {
            let bytes = letters.bytes + delivery.size();
            if bytes > LIMIT {
                if !mem::replace(&mut letters.lost, true) {
                    letters.queue.push(Letter::Lost);
                }
                return;
            }
            letters.bytes = bytes;
        }
        letters.queue.push(letter);
        let first = letters.queue.len() == 1;
        drop(letters);
        if first {
            self.arrived.notify_one();
        }
    }

    /// Takes all letters, in order, into `into`, which must be empty.
    pub(crate) fn take(&self, into: &mut Vec<Letter>) {
        let mut letters = self.letters.lock();
        mem::swap(&mut letters.queue, into);
        letters.bytes = 0;
        letters.lost = false;
    }

    /// Completes when there may be letters, or someone nudged.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Makes [`arrived`](Self::arrived) complete although there is no letter.
    pub(crate) fn nudge(&self) {
        self.arrived.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use bytes::Bytes;
    use prometheus_client::registry::Registry;
    use tidings_core::{Format, Publication};
    use tracing::Span;

    use super::*;
    use crate::metrics::Metrics;

    fn delivery(size: usize) -> Letter {
        let metrics = Arc::new(Metrics::register(&mut Registry::default()));
        let publication = Publication::new(
            Bytes::from(vec![b'1'; size]),
            Format::Json,
            SystemTime::UNIX_EPOCH,
        );
        let channel = Channel::parse("news").unwrap();
        Letter::Deliver(Arc::new(Delivery::new(
            channel,
            publication,
            metrics,
            Span::none(),
        )))
    }

    #[test]
    fn a_core_that_falls_far_behind_is_told_once_that_it_lost_something_and_then_starts_afresh() {
        let inbox = Inbox::default();
        for _ in 0..5 {
            inbox.put(delivery(LIMIT / 3));
        }
        let mut letters = Vec::new();
        inbox.take(&mut letters);
        let kinds: Vec<_> = letters
            .drain(..)
            .map(|letter| matches!(letter, Letter::Lost))
            .collect();
        assert_eq!(
            kinds,
            [false, false, true],
            "two fit, and one letter says that the others did not"
        );
        inbox.put(delivery(LIMIT / 3));
        inbox.take(&mut letters);
        assert!(matches!(letters[..], [Letter::Deliver(_)]));
    }

    #[tokio::test]
    async fn a_letter_that_comes_before_anyone_waits_is_not_missed() {
        let inbox = Inbox::default();
        inbox.put(Letter::Lost);
        inbox.arrived().await;
    }
}
