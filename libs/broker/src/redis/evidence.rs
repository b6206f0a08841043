//! Which positions this process was given in streams: evidence, should Redis lose them.
//!
//! Redis replicates after it has answered, and writes to disk after that. So a failover or a restart may lose what was
//! acknowledged, and the Redis of afterwards cannot know. The publishers that were answered know: every publish carries the
//! last offset that its process was given in the channel, and after a failover every channel is compared (`audit`). A stream
//! that does not have it gets a new epoch, by which its subscribers are notified. Without evidence it goes on as it is.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt::Write as _,
    mem,
    time::Duration,
};

use parking_lot::Mutex;
use tidings_core::{Channel, Position};
use tokio::time::Instant;

use crate::Watermark;

/// The most channels that are remembered; about half of them at the least. Of a channel that was published to longer ago
/// than all of these, this process cannot prove a loss any more.
pub(super) const CHANNELS: usize = 100_000;

/// The most epochs of one channel. More than one is remembered only while answers from before and after a change of the
/// epoch arrive; no answer may replace another's evidence.
const EPOCHS: usize = 4;

/// The last position that was acknowledged, by channel and epoch.
#[derive(Default)]
pub(super) struct Evidence(Mutex<Halves>);

/// Channels that were used lately, and those that were used before them: when the first are half of all, the others are
/// forgotten.
#[derive(Default)]
struct Halves {
    young: HashMap<Channel, Marks>,
    old: HashMap<Channel, Marks>,
}

/// By epoch, in no order.
type Marks = Vec<Mark>;

#[derive(Debug, Clone, PartialEq)]
struct Mark {
    position: Position,
    /// When it was acknowledged; `None` of a repeat, whose first answer may be from long ago.
    at: Option<Instant>,
    /// Redis may have forgotten the stream by then, without any loss.
    until: Instant,
}

impl Evidence {
    /// Adds an acknowledged position. `lasting`: for how long Redis remembers the stream at the least.
    pub(super) fn add(&self, channel: &Channel, position: &Position, lasting: Duration) {
        self.change(channel, |marks| insert(marks, position, None, lasting));
    }

    /// Adds the position of a publication that was appended by a request with the evidence `presented`, of which the stream
    /// has taken account: it is not needed any more.
    pub(super) fn replace(&self, channel: &Channel, presented: &str, position: &Position, lasting: Duration) {
        self.change(channel, |marks| {
            if marks.len() > 1 || marks.iter().any(|mark| mark.position.epoch != position.epoch) {
                marks.retain(|mark| !presented.split(',').any(|it| is_of(it, &mark.position)));
            }
            insert(marks, position, Some(Instant::now()), lasting);
        });
    }

    /// What a request about a channel carries: `offset:epoch:age`, separated by commas; the age is in milliseconds.
    pub(super) fn of(&self, channel: &Channel) -> String {
        let halves = self.0.lock();
        let marks = halves.young.get(channel).or_else(|| halves.old.get(channel));
        marks.map(joined).unwrap_or_default()
    }

    /// Every channel of which something is remembered.
    pub(super) fn channels(&self) -> Vec<Channel> {
        let halves = self.0.lock();
        let old = halves.old.keys();
        let old = old.filter(|channel| !halves.young.contains_key(*channel));
        halves.young.keys().chain(old).cloned().collect()
    }

    fn change(&self, channel: &Channel, change: impl FnOnce(&mut Marks)) {
        let mut halves = self.0.lock();
        if halves.young.len() >= CHANNELS / 2 && !halves.young.contains_key(channel) {
            halves.old = mem::take(&mut halves.young);
        }
        let Halves { young, old } = &mut *halves;
        let marks = match young.entry(channel.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(old.remove(channel).unwrap_or_default()),
        };
        change(marks);
    }
}

fn insert(marks: &mut Marks, position: &Position, at: Option<Instant>, lasting: Duration) {
    let now = Instant::now();
    let until = now + lasting;
    if let Some(mark) = marks
        .iter_mut()
        .find(|mark| mark.position.epoch == position.epoch)
    {
        if position.offset > mark.position.offset {
            (mark.position.offset, mark.at) = (position.offset, at);
        }
        mark.until = mark.until.max(until);
        return;
    }
    marks.retain(|mark| mark.until > now);
    if marks.len() >= EPOCHS {
        marks.remove(0);
    }
    let position = position.clone();
    marks.push(Mark { position, at, until });
}

fn joined(marks: &Marks) -> String {
    let now = Instant::now();
    let mut all = String::new();
    for mark in marks.iter().filter(|mark| mark.until > now) {
        let comma = if all.is_empty() { "" } else { "," };
        let Position { offset, epoch } = &mark.position;
        // Writing to a String does not fail.
        let _ = write!(all, "{comma}{offset}:{epoch}");
        if let Some(at) = mark.at {
            let _ = write!(all, ":{}", (now - at).as_millis());
        }
    }
    all
}

/// Whether a piece of evidence, as it was presented, is of a position.
fn is_of(presented: &str, position: &Position) -> bool {
    let rest = presented.strip_prefix(ageless(position).as_str());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

/// A position as evidence; empty where it proves nothing.
pub(super) fn text(Watermark { position, at }: &Watermark) -> String {
    if position.offset == 0 {
        return String::new();
    }
    format!("{}:{}", ageless(position), at.elapsed().as_millis())
}

fn ageless(position: &Position) -> String {
    format!("{}:{}", position.offset, position.epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn at(offset: u64, epoch: &str) -> Position {
        Position {
            offset,
            epoch: epoch.to_owned(),
        }
    }

    fn channel(name: &str) -> Channel {
        Channel::parse(name).unwrap()
    }

    /// Evidence without the ages of its parts.
    fn without_ages(evidence: &str) -> String {
        let parts = evidence.split(',').map(|part| {
            let mut words = part.split(':');
            [words.next(), words.next()]
                .map(Option::unwrap_or_default)
                .join(":")
        });
        parts.collect::<Vec<_>>().join(",")
    }

    #[tokio::test(start_paused = true)]
    async fn evidence_has_the_age_of_its_last_offset_and_none_where_only_a_repeat_named_it() {
        let evidence = Evidence::default();
        let news = channel("news");
        evidence.add(&news, &at(1, "e"), LONG);
        assert_eq!(evidence.of(&news), "1:e");
        evidence.replace(&news, "1:e", &at(2, "e"), LONG);
        tokio::time::advance(Duration::from_millis(7)).await;
        evidence.replace(&news, "1:e", &at(1, "e"), LONG);
        assert_eq!(evidence.of(&news), "2:e:7");
        evidence.add(&news, &at(3, "e"), LONG);
        assert_eq!(evidence.of(&news), "3:e");
    }

    #[tokio::test]
    async fn evidence_of_an_epoch_is_its_last_offset_in_whatever_order_answers_arrive() {
        let evidence = Evidence::default();
        let news = channel("news");
        evidence.add(&news, &at(2, "e"), LONG);
        evidence.add(&news, &at(1, "e"), LONG);
        assert_eq!(evidence.of(&news), "2:e");
        assert_eq!(evidence.of(&channel("other")), "");
    }

    #[tokio::test]
    async fn a_late_answer_of_an_older_epoch_replaces_no_newer_evidence() {
        let evidence = Evidence::default();
        let news = channel("news");
        evidence.replace(&news, "", &at(1, "new"), LONG);
        evidence.add(&news, &at(5, "old"), LONG);
        assert_eq!(without_ages(&evidence.of(&news)), "1:new,5:old");
        evidence.replace(&news, "1:new:7,5:old", &at(2, "new"), LONG);
        assert_eq!(
            without_ages(&evidence.of(&news)),
            "2:new",
            "the stream has taken account of both"
        );
    }

    #[tokio::test]
    async fn evidence_that_was_not_presented_is_kept_when_the_epoch_changes() {
        let evidence = Evidence::default();
        let news = channel("news");
        evidence.add(&news, &at(4, "old"), LONG);
        let presented = evidence.of(&news);
        evidence.add(&news, &at(5, "old"), LONG);
        evidence.replace(&news, &presented, &at(6, "new"), LONG);
        assert_eq!(without_ages(&evidence.of(&news)), "5:old,6:new");
    }

    #[tokio::test]
    async fn evidence_ends_when_redis_may_forget_the_stream_without_a_loss() {
        let evidence = Evidence::default();
        let news = channel("news");
        evidence.add(&news, &at(1, "e"), Duration::ZERO);
        assert_eq!(evidence.of(&news), "");
    }

    #[tokio::test]
    async fn channels_that_were_not_used_for_long_are_forgotten() {
        let evidence = Evidence::default();
        let used = channel("used");
        for number in 0..2 * CHANNELS {
            evidence.add(&channel(&format!("c:{number}")), &at(1, "e"), LONG);
            evidence.add(&used, &at(number as u64 + 1, "e"), LONG);
        }
        assert_eq!(evidence.of(&used), format!("{}:e", 2 * CHANNELS));
        assert_eq!(evidence.of(&channel("c:0")), "");
        let all = evidence.channels();
        assert!(all.len() <= CHANNELS);
        assert_eq!(all.iter().filter(|channel| **channel == used).count(), 1);
    }
}
