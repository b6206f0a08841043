//! A stream as the members of one core get it: what becomes of the next publication, and what waits. The rules alone, as
//! plain data; how streams are read is in `streams`.
//!
//! Members are at one position, `delivered`. What follows it is handed out. Anything else waits, with all that comes
//! later, until the stream was read from that position: then what was missed is handed out, followed by what waited. Only
//! an answer that does not connect is proof of a loss. An answer that cannot be had is proof of nothing: it is asked for
//! again.

use std::{collections::VecDeque, mem, sync::Arc, time::Instant};

use bytes::Bytes;
use tidings_broker::{History, Query, Watermark};
use tidings_core::{Channel, Position, Retention};
use tidings_session::Read;

use crate::{
    delivery::Delivery,
    inbox::Address,
    position::{connects, follows},
    reads::{Reading, budget},
};

/// Bytes of live publications that may wait for a read, per stream. What is beyond is read as well.
pub(super) const BUFFER: usize = 4 * 1024 * 1024;

/// One stream.
pub(super) struct Stream {
    /// Which of the channel's lives here this is: what was asked for in an earlier one is not for this.
    pub(super) life: u64,
    pub(super) retention: Retention,
    /// The members have got everything up to here. `None`: where the stream is, is not known. Once known it stays known.
    pub(super) delivered: Option<Position>,
    /// Deltas are made from the last publication, which is kept for that.
    pub(super) deltas: bool,
    pub(super) base: Option<Bytes>,
    /// Set while the stream is read, and while it waits to be read again.
    pub(super) reading: Option<Buffered>,
    /// What was read, and then what waited for that, to be handed out now.
    backlog: VecDeque<Arc<Delivery>>,
    /// Something may have been lost after the read began, or not all was read.
    again: bool,
    /// Its reads have failed, so many in a row.
    pub(super) failed: u32,
    /// So many of these since the bus was last known to be back: the next retry waits accordingly.
    pub(super) attempts: u32,
    /// Clients that wait to be told where the stream is.
    pub(super) waiting: Vec<Waiting>,
    /// Clients that have read further than the members are, and wait for these.
    pub(super) early: Vec<Early>,
    /// When it was last known to be in step.
    pub(super) checked: Instant,
    pub(super) comparison: Comparison,
}

/// Whether the stream has to be compared with what its members got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    /// Nothing is known to be wrong.
    Idle,
    /// The bus may have lost something.
    Due,
    /// Its position was asked for. What is lost from now on makes it due again.
    Asked,
}

/// Live publications that wait until those before them have been read.
#[derive(Default)]
pub(super) struct Buffered {
    deliveries: Vec<Arc<Delivery>>,
    bytes: usize,
    /// More came than is buffered. It is in the stream, and has to be read there.
    overflowed: bool,
    /// So many of them came before the read began: what was read is newer.
    before_read: usize,
}

/// A client that subscribes.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(super) from: Address,
    pub(super) id: u32,
    pub(super) read: Read,
}

/// A client whose recovery has read further than the members are.
pub(super) struct Early {
    pub(super) waiting: Waiting,
    pub(super) reading: Arc<Reading>,
}

/// What becomes of a live publication.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is the next one, or nobody knows.
    HandOut,
    /// It was delivered before, or waits.
    Nothing,
    /// It waits, and the stream has to be read.
    Read,
}

/// What an answer means for the members.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It is known now where the stream is.
    Located,
    /// The members go on from where they are.
    Connected,
    /// They missed what cannot be had any more.
    Lost,
    /// The stream lacks what was received of it before it was read: the answer is not about now.
    Outdated,
}

impl Stream {
    pub(super) fn new(life: u64, retention: Retention, deltas: bool, now: Instant) -> Self {
        Self {
            life,
            retention,
            delivered: None,
            deltas,
            base: None,
            reading: None,
            backlog: VecDeque::new(),
            again: false,
            failed: 0,
            attempts: 0,
            waiting: Vec::new(),
            early: Vec::new(),
            checked: now,
            comparison: Comparison::Idle,
        }
    }

    /// Takes a live publication.
    pub(super) fn receive(&mut self, delivery: &Arc<Delivery>, position: &Position) -> Next {
        if let Some(buffered) = &mut self.reading {
            buffered.push(delivery);
            return Next::Nothing;
        }
        match &mut self.delivered {
            None => self.delivered = Some(position.clone()),
            Some(at) if at.epoch == position.epoch && position.offset <= at.offset => return Next::Nothing,
            Some(at) if follows(at, &delivery.publication) => {
                at.offset = position.offset;
                if at.epoch != position.epoch {
                    at.epoch.clone_from(&position.epoch);
                }
            }
            // Also what belongs to another epoch: whether the stream has changed is for the stream to say.
            Some(_) => {
                let mut buffered = Buffered::default();
                buffered.push(delivery);
                self.reading = Some(buffered);
                return Next::Read;
            }
        }
        Next::HandOut
    }

    /// The stream has to be read from where its members are. False when that is under way: then it is read once more.
    pub(super) fn want_read(&mut self) -> bool {
        if self.reading.is_some() {
            self.again = true;
            return false;
        }
        self.reading = Some(Buffered::default());
        true
    }

    /// What to read, now, of at most so many publications and bytes. Whatever is buffered came before.
    pub(super) fn question(&mut self, limit: u32, bytes: usize) -> Query {
        if let Some(buffered) = &mut self.reading {
            buffered.before_read = buffered.deliveries.len();
        }
        self.again = false;
        match &self.delivered {
            None => Query::default(),
            Some(at) => Query {
                since: Some(at.offset),
                limit,
                bytes: budget(bytes),
                reverse: false,
            },
        }
    }

    /// Takes what was read; `read` is its publications. The members get what [`next`](Self::next) brings.
    pub(super) fn answered(
        &mut self,
        history: &History,
        read: impl IntoIterator<Item = Arc<Delivery>>,
    ) -> Found {
        let top = &history.top;
        if self
            .lacking(top)
            .is_some_and(|received| received.offset > top.offset)
        {
            return Found::Outdated;
        }
        let buffered = self.reading.take().unwrap_or_default();
        let found = match &mut self.delivered {
            None => {
                self.delivered = Some(buffered.before(top));
                Found::Located
            }
            Some(at) if connects(at, history) => {
                at.epoch.clone_from(&top.epoch);
                self.backlog.extend(read);
                let last = history
                    .publications
                    .last()
                    .and_then(|last| last.position.as_ref());
                self.again |= last.is_some_and(|last| last.offset < top.offset);
                Found::Connected
            }
            Some(at) => {
                at.clone_from(top);
                self.base = None;
                Found::Lost
            }
        };
        (self.failed, self.attempts) = (0, 0);
        self.again |= buffered.overflowed;
        self.backlog.extend(buffered.not_of_other_epochs(top));
        found
    }

    /// The highest position that was received before the stream was read, in the epoch that it has.
    pub(super) fn lacking(&self, top: &Position) -> Option<&Position> {
        let received = self.reading.as_ref()?.received_before_read();
        received
            .filter(|at| at.epoch == top.epoch)
            .max_by_key(|at| at.offset)
    }

    /// The next of the backlog that the members get. When there is none left, [`reads_again`](Self::reads_again).
    pub(super) fn next(&mut self) -> Option<Arc<Delivery>> {
        while let Some(delivery) = self.backlog.pop_front() {
            let Some(position) = delivery.publication.position.clone() else {
                continue;
            };
            match self.receive(&delivery, &position) {
                Next::HandOut => return Some(delivery),
                Next::Nothing => {}
                // The rest waits with it.
                Next::Read => {
                    let rest = mem::take(&mut self.backlog);
                    if let Some(buffered) = &mut self.reading {
                        rest.iter().for_each(|delivery| buffered.push(delivery));
                    }
                }
            }
        }
        None
    }

    /// After an answer and its backlog: whether the stream has to be read again, which begins with that.
    pub(super) fn reads_again(&mut self) -> bool {
        if self.reading.is_none() && self.again {
            self.reading = Some(Buffered::default());
        }
        self.reading.is_some()
    }

    /// Its members wait, and it cannot be read.
    pub(super) fn is_unreadable(&self) -> bool {
        self.failed > 0 && self.delivered.is_some()
    }

    /// Where the stream is cannot be found out, and nobody who is here was told: what waited is handed out as it came.
    pub(super) fn give_up(&mut self) {
        let buffered = self.reading.take().unwrap_or_default();
        (self.failed, self.attempts, self.again) = (0, 0, false);
        self.backlog.extend(buffered.deliveries);
    }

    /// A publication was handed out.
    pub(super) fn handed_out(&mut self, delivery: &Delivery, now: Instant) {
        self.checked = now;
        // What has no position in the stream is no base: clients that enter later have not got it.
        let base = self.deltas && delivery.publication.position.is_some();
        self.base = base.then(|| delivery.publication.data.clone());
    }

    /// Those of the early clients that the members have caught up with, or that have read another stream.
    pub(super) fn caught_up(&mut self) -> Vec<Early> {
        let Some(at) = self.delivered.as_ref().filter(|_| !self.early.is_empty()) else {
            return Vec::new();
        };
        let reached = |early: &mut Early| {
            let top = &early.reading.history.top;
            top.epoch != at.epoch || top.offset <= at.offset
        };
        self.early.extract_if(.., reached).collect()
    }
}

impl Buffered {
    fn push(&mut self, delivery: &Arc<Delivery>) {
        self.bytes += delivery.size();
        self.overflowed |= self.bytes > BUFFER;
        if !self.overflowed {
            self.deliveries.push(delivery.clone());
        }
    }

    /// The positions of what came before the read began.
    fn received_before_read(&self) -> impl Iterator<Item = &Position> {
        let before = self.deliveries.iter().take(self.before_read);
        before.filter_map(|delivery| delivery.publication.position.as_ref())
    }

    /// What waited, without what came before the read of a stream that has another epoch: that is of a stream that is no
    /// more, or never was the one.
    fn not_of_other_epochs(self, top: &Position) -> impl Iterator<Item = Arc<Delivery>> {
        let before_read = self.before_read;
        let (epoch, numbered) = (top.epoch.clone(), self.deliveries.into_iter().enumerate());
        let counts = move |(index, delivery): &(usize, Arc<Delivery>)| {
            let position = delivery.publication.position.as_ref();
            *index >= before_read || position.is_some_and(|at| at.epoch == epoch)
        };
        numbered.filter(counts).map(|(_, delivery)| delivery)
    }

    /// The position before everything that is buffered, in the stream that is at `top` now.
    fn before(&self, top: &Position) -> Position {
        let publication = self.deliveries.first().map(|first| &first.publication);
        let position = publication.and_then(|first| Some((first.position.as_ref()?, first.follows()?)));
        match position {
            Some((first, before)) if first.epoch == top.epoch && first.offset <= top.offset => Position {
                offset: before,
                epoch: top.epoch.clone(),
            },
            _ => top.clone(),
        }
    }
}

impl Waiting {
    /// The client names a position that the members have not reached, in the stream that is at `top` and has reached it.
    pub(super) fn is_ahead_of(&self, delivered: &Position, top: &Position) -> bool {
        matches!(&self.read, Read::Since(at)
            if at.epoch == delivered.epoch && delivered.offset < at.offset && at.offset <= top.offset)
    }
}

/// A stream of which nothing has been received for a while, or of which something may have been lost.
pub(crate) struct Compared {
    pub(crate) channel: Channel,
    /// 0: no core keeps it, only what is known of it.
    pub(crate) life: u64,
    /// Where its members were when it was asked for.
    pub(crate) delivered: Option<Position>,
    /// The evidence that the question carries.
    pub(crate) known: Option<Watermark>,
}

#[cfg(test)]
mod model;
#[cfg(test)]
pub(in crate::core) mod tests;
