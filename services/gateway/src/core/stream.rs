//! A stream as this core's members hear it: what becomes of the next publication, and what waits. The rules alone; how
//! streams are read is in `streams`.

use std::{collections::HashMap, sync::Arc, time::Instant};

use bytes::Bytes;
use tidings_broker::History;
use tidings_core::{Channel, Position, Retention};
use tidings_session::Read;

use crate::{delivery::Delivery, inbox::Address};

/// Bytes of live publications that may wait for a read, per stream. What is beyond is read as well.
const HELD: usize = 4 * 1024 * 1024;

/// All streams of a core that somebody wants.
#[derive(Default)]
pub(super) struct Streams {
    pub(super) by_channel: HashMap<Channel, Stream>,
    pub(super) lives: u64,
    /// The positions of some are being asked for; of which more will be afterwards.
    pub(super) checking: bool,
    pub(super) check_again: bool,
}

/// One stream.
pub(super) struct Stream {
    /// Which of the channel's lives here this is: what was asked for in an earlier one is not for this.
    pub(super) life: u64,
    pub(super) retention: Retention,
    /// The members have heard everything up to here. `None`: where the stream is, is not known.
    pub(super) heard: Option<Position>,
    /// Differences are made from the last publication, which is kept for that.
    pub(super) differs: bool,
    pub(super) base: Option<Bytes>,
    /// Set while the stream is read.
    pub(super) reading: Option<Held>,
    /// Something may have been lost after the read began.
    pub(super) again: bool,
    /// How often in a row it could not be read.
    pub(super) failed: u32,
    /// Clients that wait to be told where the stream is.
    pub(super) waiting: Vec<Waiting>,
    /// When it was last known to be in step.
    pub(super) checked: Instant,
}

/// Live publications that wait until those before them have been read.
#[derive(Default)]
pub(super) struct Held {
    pub(super) deliveries: Vec<Arc<Delivery>>,
    pub(super) bytes: usize,
    /// More came than is held. It is in the stream, and has to be read there.
    pub(super) spilled: bool,
}

/// A client that subscribes.
pub(super) struct Waiting {
    pub(super) from: Address,
    pub(super) id: u32,
    pub(super) read: Read,
}

/// A stream that nobody has spoken of for a while.
pub(crate) struct Quiet {
    pub(crate) channel: Channel,
    pub(crate) life: u64,
    pub(crate) heard: Option<Position>,
}

/// What becomes of a live publication.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is the next one, or nobody knows.
    HandOut,
    /// It was heard before, or waits.
    Nothing,
    /// Some before it are missing.
    Gap,
    /// It belongs to another stream than what was heard.
    Lost,
}

impl Stream {
    pub(super) fn next(&mut self, delivery: &Arc<Delivery>, position: &Position) -> Next {
        if let Some(held) = &mut self.reading {
            held.hold(delivery);
            return Next::Nothing;
        }
        let next = match &self.heard {
            None => Next::HandOut,
            Some(heard) if heard.epoch != position.epoch => Next::Lost,
            Some(heard) if position.offset <= heard.offset => return Next::Nothing,
            Some(heard) if delivery.publication.follows() == Some(heard.offset) => Next::HandOut,
            Some(_) => Next::Gap,
        };
        match next {
            Next::Gap => {
                let mut held = Held::default();
                held.hold(delivery);
                self.reading = Some(held);
            }
            Next::Lost => self.heard = Some(position.clone()),
            Next::HandOut | Next::Nothing => match &mut self.heard {
                Some(heard) => heard.offset = position.offset,
                None => self.heard = Some(position.clone()),
            },
        }
        next
    }
}

impl Held {
    fn hold(&mut self, delivery: &Arc<Delivery>) {
        self.bytes += delivery.size();
        self.spilled |= self.bytes > HELD;
        if !self.spilled {
            self.deliveries.push(delivery.clone());
        }
    }

    /// The place before everything that is held, in the stream that is at `top` now.
    pub(super) fn before(&self, top: &Position) -> Position {
        let publication = self.deliveries.first().map(|first| &first.publication);
        let place = publication.and_then(|first| Some((first.position.as_ref()?, first.follows()?)));
        match place {
            Some((first, before)) if first.epoch == top.epoch && first.offset <= top.offset => Position {
                offset: before,
                epoch: top.epoch.clone(),
            },
            _ => top.clone(),
        }
    }
}

impl Streams {
    pub(super) fn remove(&mut self, channel: &Channel) {
        self.by_channel.remove(channel);
    }

    /// Forgets a client that waits. The id of its command, if it did.
    pub(super) fn cancel(&mut self, channel: &Channel, from: Address) -> Option<u32> {
        let waiting = &mut self.by_channel.get_mut(channel)?.waiting;
        let at = waiting.iter().position(|waiting| waiting.from == from)?;
        Some(waiting.swap_remove(at).id)
    }

    /// Where the members of a channel are.
    pub(super) fn heard(&self, channel: &Channel) -> Option<&Position> {
        self.by_channel.get(channel)?.heard.as_ref()
    }

    /// What the next publication of a channel may be a difference from.
    pub(super) fn base(&self, channel: &Channel) -> Option<Bytes> {
        self.by_channel.get(channel)?.base.clone()
    }

    /// A publication was handed out.
    pub(super) fn handed_out(&mut self, delivery: &Delivery, now: Instant) {
        if let Some(stream) = self.by_channel.get_mut(&delivery.channel) {
            stream.checked = now;
            // What has no place in the stream is no base: clients that enter later have not got it.
            let base = stream.differs && delivery.publication.position.is_some();
            stream.base = base.then(|| delivery.publication.data.clone());
        }
    }

    /// Streams that nobody has spoken of since `before`; they count as checked now. Those that are being read will be read
    /// once more.
    pub(super) fn quiet(&mut self, before: Instant, now: Instant) -> Vec<Quiet> {
        let mut quiet = Vec::new();
        for (channel, stream) in &mut self.by_channel {
            if stream.checked > before {
                continue;
            }
            stream.checked = now;
            match &stream.reading {
                Some(_) => stream.again = true,
                None => quiet.push(Quiet {
                    channel: channel.clone(),
                    life: stream.life,
                    heard: stream.heard.clone(),
                }),
            }
        }
        quiet
    }

    pub(super) fn of(&mut self, channel: &Channel, life: u64) -> Option<&mut Stream> {
        self.by_channel
            .get_mut(channel)
            .filter(|stream| stream.life == life)
    }
}

impl Waiting {
    /// The client has heard more than the members.
    pub(super) fn is_ahead_of(&self, heard: &Position) -> bool {
        matches!(&self.read, Read::Since(at) if at.epoch == heard.epoch && at.offset > heard.offset)
    }
}

/// Whether what was read takes those who are at `heard` to where the stream is, leaving nothing out.
pub(super) fn connects(heard: &Position, history: &History) -> bool {
    if heard.epoch != history.top.epoch || heard.offset > history.top.offset {
        return false;
    }
    match history.publications.first() {
        Some(first) => first.follows() == Some(heard.offset),
        None => heard.offset == history.top.offset,
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, time::Duration, time::SystemTime};

    use prometheus_client::registry::Registry;
    use tidings_core::{Format, Publication};
    use tracing::Span;

    use super::*;
    use crate::{core::clock, metrics::Metrics};

    fn at(offset: u64, epoch: &str) -> Position {
        Position {
            offset,
            epoch: epoch.to_owned(),
        }
    }

    fn publication(offset: u64) -> Publication {
        Publication {
            position: Some(at(offset, "e")),
            ..Publication::new(Bytes::from_static(b"1"), Format::Json, SystemTime::UNIX_EPOCH)
        }
    }

    /// What becomes of a live publication of this size.
    fn next(stream: &mut Stream, position: &Position, size: usize) -> Next {
        let metrics = Arc::new(Metrics::register(&mut Registry::default()));
        let publication = Publication {
            data: vec![b'1'; size].into(),
            position: Some(position.clone()),
            ..publication(position.offset)
        };
        let channel = Channel::parse("news").unwrap();
        stream.next(
            &Arc::new(Delivery::new(channel, publication, metrics, Span::none())),
            position,
        )
    }

    fn stream(heard: Option<Position>) -> Stream {
        Stream {
            life: 1,
            retention: Retention {
                size: NonZeroU32::new(10).unwrap(),
                ttl: Duration::from_secs(60),
            },
            heard,
            differs: false,
            base: None,
            reading: None,
            again: false,
            failed: 0,
            waiting: Vec::new(),
            checked: clock::now(),
        }
    }

    #[test]
    fn what_comes_next_is_handed_out_and_what_was_heard_is_not() {
        let mut stream = stream(Some(at(4, "e")));
        assert_eq!(next(&mut stream, &at(5, "e"), 1), Next::HandOut);
        assert_eq!(next(&mut stream, &at(5, "e"), 1), Next::Nothing);
        assert_eq!(next(&mut stream, &at(2, "e"), 1), Next::Nothing);
        assert_eq!(stream.heard, Some(at(5, "e")));
    }

    #[test]
    fn what_jumps_ahead_waits_with_all_that_follow() {
        let mut stream = stream(Some(at(4, "e")));
        assert_eq!(next(&mut stream, &at(6, "e"), 1), Next::Gap);
        assert_eq!(next(&mut stream, &at(7, "e"), 1), Next::Nothing);
        assert_eq!(stream.heard, Some(at(4, "e")), "they have not been heard");
        assert_eq!(stream.reading.map(|held| held.deliveries.len()), Some(2));
    }

    #[test]
    fn a_seam_is_no_gap_for_who_heard_what_is_before_it_and_for_all_others_it_is() {
        let metrics = Arc::new(Metrics::register(&mut Registry::default()));
        let over = |seam| {
            let publication = Publication {
                seam: Some(seam),
                ..publication(900)
            };
            let channel = Channel::parse("news").unwrap();
            Arc::new(Delivery::new(channel, publication, metrics.clone(), Span::none()))
        };
        for (seam, expected) in [(4, Next::HandOut), (3, Next::Gap), (5, Next::Gap)] {
            let mut stream = stream(Some(at(4, "e")));
            assert_eq!(stream.next(&over(seam), &at(900, "e")), expected);
        }
        let mut held = Held::default();
        held.hold(&over(4));
        assert_eq!(held.before(&at(900, "e")), at(4, "e"));
        let read = |seam| History {
            publications: vec![over(seam).publication.clone()],
            top: at(900, "e"),
        };
        assert!(connects(&at(4, "e"), &read(4)));
        assert!(!connects(&at(5, "e"), &read(4)), "5 is lost");
    }

    #[test]
    fn more_than_can_wait_is_remembered_as_such() {
        let mut stream = stream(Some(at(4, "e")));
        assert_eq!(next(&mut stream, &at(6, "e"), HELD), Next::Gap);
        assert_eq!(next(&mut stream, &at(7, "e"), 1), Next::Nothing);
        let held = stream.reading.unwrap();
        assert!(
            held.spilled && held.deliveries.is_empty(),
            "what does not fit is read"
        );
    }

    #[test]
    fn another_epoch_is_another_stream() {
        let mut stream = stream(Some(at(4, "e")));
        assert_eq!(next(&mut stream, &at(5, "f"), 1), Next::Lost);
        assert_eq!(stream.heard, Some(at(5, "f")));
    }

    #[test]
    fn where_nobody_knows_where_the_stream_is_its_next_publication_says_it() {
        let mut stream = stream(None);
        assert_eq!(next(&mut stream, &at(9, "e"), 1), Next::HandOut);
        assert_eq!(stream.heard, Some(at(9, "e")));
    }

    #[test]
    fn what_is_held_was_not_heard_though_the_stream_is_further() {
        let mut stream = stream(None);
        stream.reading = Some(Held::default());
        next(&mut stream, &at(5, "e"), 1);
        let held = stream.reading.unwrap();
        assert_eq!(held.before(&at(9, "e")), at(4, "e"));
        assert_eq!(held.before(&at(3, "e")), at(3, "e"), "it came after the read");
        assert_eq!(Held::default().before(&at(9, "e")), at(9, "e"));
    }

    #[test]
    fn only_what_leaves_nothing_out_connects() {
        let read = |first: u64, top: Position| History {
            publications: (first..=top.offset).map(publication).collect(),
            top,
        };
        assert!(connects(&at(4, "e"), &read(5, at(7, "e"))));
        assert!(connects(&at(7, "e"), &read(8, at(7, "e"))), "nothing was missed");
        assert!(!connects(&at(4, "e"), &read(6, at(7, "e"))), "trimmed");
        assert!(!connects(&at(4, "e"), &read(8, at(7, "e"))), "nothing is kept");
        assert!(!connects(&at(4, "f"), &read(5, at(7, "e"))), "another epoch");
        assert!(!connects(&at(9, "e"), &read(8, at(7, "e"))), "it went back");
    }
}
