//! What the rest of the process says to a core.
//!
//! Anyone may put a letter in, from any thread, without waiting. The core takes all of them at once: the more
//! have come, the more publications share a write.

use std::{collections::HashSet, mem, sync::Arc};

use parking_lot::Mutex;
use tidings_core::{Channel, ClientId, Position};
use tidings_protocol::Error;
use tidings_session::Answer;
use tokio::sync::{Notify, oneshot};

use crate::{
    adopt::Adoption,
    control::Errand,
    core::{Compared, Waiting},
    delivery::Delivery,
    emulation::Emulated,
    notice::Notice,
    reads::Outcome,
};

/// Bytes of publications that may wait for a core. A core that falls this far behind loses publications, and
/// knows it: the letter [`Letter::Lost`] takes their place.
const LIMIT: usize = 32 * 1024 * 1024;

/// One message to a core.
pub(crate) enum Letter {
    /// A client has connected; it is yours.
    Adopt(Box<Adoption>),
    /// Write this to whoever wants it.
    Deliver(Arc<Delivery>),
    /// Tell this to whoever wants to hear of members.
    Notice(Arc<Notice>),
    /// The bus may have lost something.
    Gap,
    /// Publications were dropped here because too many waited.
    Lost,
    /// The bus confirmed the channel, or will not have it.
    Interest(Channel, Result<(), Error>),
    /// A stream was read from where its members are, in this life of it.
    Read(Channel, u64, Outcome),
    /// What a client missed was read.
    Recovered(Box<Waiting>, Channel, Outcome),
    /// Where streams are, each in this life of it.
    Positions(Vec<(Compared, Result<Position, tidings_broker::Error>)>),
    /// Slow work is done.
    Completed(Address, Answer),
    /// A client of yours has said something by another way than its connection.
    Emulated(Box<Emulated>),
    /// Do what a backend wants to those of your connections that it is for.
    Order(Errand),
    /// Say how many clients each of these channels has.
    Count(Arc<[Channel]>, oneshot::Sender<Vec<u32>>),
    /// Say who is there.
    Census(oneshot::Sender<Census>),
    /// Close everyone, a few at a time, over this long; then end.
    Drain(std::time::Duration),
}

/// A connection of a core. The client's id makes sure that an answer does not reach whoever came after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// A core's letters. Only deliveries and notices are counted against the limit: every other letter belongs to a connection
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
    closed: bool,
}

/// Held by a core's thread.
pub(crate) struct CloseOnDrop(Arc<Inbox>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        let rest = {
            let mut letters = self.0.letters.lock();
            letters.closed = true;
            mem::take(&mut letters.queue)
        };
        drop(rest); // outside the lock: letters own sockets and spans
    }
}

impl Inbox {
    /// Puts a letter in. Never waits. A core that has ended takes none: whoever waits for an answer is told by the
    /// letter being dropped.
    pub(crate) fn put(&self, letter: Letter) {
        let mut letters = self.letters.lock();
        if letters.closed {
            return;
        }
        let first = letters.queue.is_empty();
        let size = match &letter {
            Letter::Deliver(delivery) => delivery.size(),
            Letter::Notice(notice) => notice.size(),
            _ => 0,
        };
        // An empty inbox takes a publication of any size, as an outbox does a frame.
        if size == 0 || letters.bytes == 0 || letters.bytes + size <= LIMIT {
            letters.bytes += size;
            letters.queue.push(letter);
        } else if !mem::replace(&mut letters.lost, true) {
            letters.queue.push(Letter::Lost);
        }
        drop(letters);
        if first {
            self.arrived.notify_one();
        }
    }

    /// Closes the inbox when the core's thread ends, however it ends.
    pub(crate) fn close_on_drop(self: &Arc<Self>) -> CloseOnDrop {
        CloseOnDrop(self.clone())
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
    async fn an_empty_inbox_takes_a_publication_of_any_size_and_wakes_the_core() {
        let inbox = Inbox::default();
        inbox.put(delivery(LIMIT + 1));
        inbox.arrived().await;
        let mut letters = Vec::new();
        inbox.take(&mut letters);
        assert!(matches!(letters[..], [Letter::Deliver(_)]));
    }

    #[tokio::test]
    async fn whoever_asks_a_core_that_has_ended_hears_at_once_that_nobody_is_there() {
        let inbox = Arc::new(Inbox::default());
        let (before, pending) = oneshot::channel();
        inbox.put(Letter::Census(before));
        drop(inbox.close_on_drop());
        let (after, refused) = oneshot::channel();
        inbox.put(Letter::Census(after));
        assert!(pending.await.is_err() && refused.await.is_err());
    }

    #[tokio::test]
    async fn a_letter_that_comes_before_anyone_waits_is_not_missed() {
        let inbox = Inbox::default();
        inbox.put(Letter::Lost);
        inbox.arrived().await;
    }
}
