//! The commands for channels and their streams, and what Redis answers to them.
//!
//! The publications of one caller to one channel that go out at the same time are one command; where something is kept, that is
//! a script, so that nothing comes between its steps. What is in Redis for a channel NAME, all of it readable with `redis-cli`:
//!
//! | key | type | what | expires |
//! |---|---|---|---|
//! | `{prefix}:ch:{NAME}` | pub/sub channel | `tidings.bus.v1.Envelope`, in a stream followed by its position | |
//! | `{prefix}:stream:{NAME}` | stream | IDs `offset-time` (Unix ms by Redis' clock), field `publication`: the envelope | one to two `ttl` after the last publication |
//! | `{prefix}:top:{NAME}` | hash | `offset` and `epoch`; `epochs`: those that it had before, and those that were lost, `epoch:offset` with how far what was given in each is accounted for; `provisional`: those that were given before the first publication; `generation`: those of Redis, in which the stream was found to be sound; `seams`: the offset jumps, `last:first` of what comes before and after; `until`: how long there are entries that are not too old; `expires`: when the stream expires; `changed`: when the epoch last changed; `mark`, `marked`: for trimming by age; `version` and `row`: the highest version, and the series that it is in. Lists are newest first | [`REMEMBERED`] after the stream |
//! | `{prefix}:once:{NAME}:KEY` | string | the answer to the publish KEY: `offset:epoch`, or `0:`; with `!` behind it while it was kept and not sent | after its window |
//! | `{prefix}:probe:{NAME}` | string | a write to see whether Redis takes some (`writes`) | a millisecond |
//! | `{prefix}:format` | string | the format of all this, and of the bus' messages (`format`) | |
//!
//! An entry after an offset jump has a second field, `seam`: the offset that it follows. A channel to which nothing was ever
//! published has no key, however often it is asked for: its position is provisional, and names half a day of Redis' clock.
//!
//! **Redis that goes back in time.** An older snapshot that is restored, an append-only file that lacks its last second, a
//! failover that lost the newest writes: each would give offsets again that were given before. Two rules prevent that.
//!
//! 1. Every publish states which generation of Redis its connection leads to (`generation`; asked for on each connection, and
//!    again every second). Where a stream has not met that generation, it leaves out more offsets than can have been given, an
//!    *offset jump*, and goes on under its epoch. A client that had received all that is still there notices nothing; one
//!    that had received more is behind the end, or within the jump.
//! 2. Every request carries *evidence*: publishers what they were acknowledged (`evidence`, `audit`), gateways what they have
//!    handed out. A stream that does not have it gets a new epoch, by which all its subscribers are notified. Evidence of an epoch that
//!    the stream does not know proves that this epoch was lost as a whole: that changes the epoch once, and is remembered.
//!
//! What all that knew of a publication take with them cannot be found out: a primary, the only publisher, and all gateways that
//! had handed it out, at once. Not noticed, either, are a machine that is set back as a whole, its memory included; and a primary
//! that was made a replica, synchronized anew and made the primary again, within the second in which a connection that it kept is
//! not asked, or more than `repl-backlog-ttl` (an hour) before anything is published again, and without a replica.
//!
//! The entries are a Redis stream, rather than a list: it finds them by offset without counting, and trims by size and by
//! age. It does so by whole nodes (`~`), which costs a quarter less than exactly; with that, and with what expires late,
//! there is somewhat more than the limits allow: up to a node (100 entries or 4 KB), and up to twice the age. It is never
//! read.

use std::time::Duration;

use redis::{Cmd, ParsingError, Value};
use tidings_core::{Channel, Position, Publication, Retention};

use super::{
    keys::Keys,
    script::{Call, Script},
};
use crate::{
    History, Published, Query, Target, envelope,
    stream::{REMEMBERED, bounded, new_epoch},
};

/// Offsets are numbers in Lua, which are exact up to here.
const MAX_OFFSET: u64 = 1 << 53;

/// How Redis carries a message.
#[derive(Debug, Clone, Copy)]
pub(super) enum Publish {
    /// To all, as a Redis alone does.
    Everywhere,
    /// To those who listen to the slot of the channel, at the node of a Cluster that has it (Redis 7: sharded pub/sub).
    InShard,
}

impl Publish {
    pub(super) fn command(self) -> &'static str {
        match self {
            Self::Everywhere => "PUBLISH",
            Self::InShard => "SPUBLISH",
        }
    }
}

/// The vocabulary of one prefix.
pub(super) struct Streams {
    keys: Keys,
    carry: Publish,
    publish: Script,
    send: Script,
    read: Script,
    remove: Script,
}

impl Streams {
    pub(super) fn new(keys: Keys, carry: Publish) -> Self {
        macro_rules! script {
            ($($file:literal)*) => {
                Script::new(concat!($(include_str!(concat!("scripts/", $file))),*))
            };
        }
        Self {
            keys,
            carry,
            publish: script!("common.lua" "stream.lua" "publish.lua"),
            send: script!("send.lua"),
            read: script!("stream.lua" "read.lua"),
            remove: script!("stream.lua" "remove.lua"),
        }
    }

    /// Sends an envelope to a channel's subscribers, and no more.
    pub(super) fn send(&self, channel: &Channel, envelope: &[u8]) -> Cmd {
        self.tell(&self.keys.channel(channel), envelope)
    }

    /// Sends a message to the subscribers of a Redis channel, and no more. The answer is how many there are.
    pub(super) fn tell(&self, name: &str, message: &[u8]) -> Cmd {
        let mut command = redis::cmd(self.carry.command());
        command.arg(name).arg(message);
        command
    }

    /// Publishes items to their channel, in order and all at once: either all with a stream or all without. `evidence`: what was
    /// given in the stream.
    pub(super) fn publish(&self, items: &[Item<'_>], evidence: &str, call: Call<'_>) -> Cmd {
        match items {
            [Item { target, envelope }] if target.retention.is_none() && target.once.is_none() => {
                self.send(&target.channel, envelope)
            }
            [Item { target, .. }, ..] if target.retention.is_none() => self.send_once(items, call),
            _ => self.keep(items, evidence, call),
        }
    }

    /// Sends items that are kept in no stream, each once.
    fn send_once(&self, items: &[Item<'_>], call: Call<'_>) -> Cmd {
        let channel = &items[0].target.channel;
        // The top names the slot: there may be no other key.
        let keys = self.keys_of(vec![self.keys.top(channel)], items);
        let mut command = self.send.run(call, &keys);
        command.arg(self.carry.command()).arg(self.keys.channel(channel));
        let mut once = keys[1..].iter();
        for item in items {
            command.arg(item.envelope);
            arg_once(&mut command, item, &mut once);
        }
        command
    }

    /// Publishes items into their stream and to its subscribers.
    fn keep(&self, items: &[Item<'_>], evidence: &str, call: Call<'_>) -> Cmd {
        let channel = &items[0].target.channel;
        let keys = self.keys_of(vec![self.keys.top(channel), self.keys.stream(channel)], items);
        let mut command = self.publish.run(call, &keys);
        command
            .arg(self.carry.command())
            .arg(self.keys.channel(channel))
            .arg(&keys[1])
            .arg(ms(REMEMBERED))
            .arg(new_epoch())
            .arg(call.generation)
            .arg(evidence);
        let mut once = keys[2..].iter();
        for item in items {
            let retention = item.target.retention;
            command
                .arg(item.envelope)
                .arg(retention.map_or(0, |retention| retention.size.get()))
                .arg(retention.map_or(0, |retention| ms(retention.ttl)));
            arg_once(&mut command, item, &mut once);
            match &item.target.version {
                Some(version) => command
                    .arg(format!("{:020}", version.number))
                    .arg(&*version.epoch),
                None => command.arg("").arg(""),
            };
        }
        command
    }

    /// These keys, and those of the answers to items that have one, in their order.
    fn keys_of(&self, mut keys: Vec<String>, items: &[Item<'_>]) -> Vec<String> {
        keys.extend(items.iter().filter_map(|item| {
            let once = item.target.once.as_ref()?;
            Some(self.keys.once(&item.target.channel, &once.key))
        }));
        keys
    }

    /// Reads a part of a stream. `evidence`: what was given in it.
    pub(super) fn read(
        &self,
        channel: &Channel,
        retention: Retention,
        query: Query,
        evidence: &str,
        call: Call<'_>,
    ) -> Cmd {
        let since = query.since.map(|since| since.min(MAX_OFFSET).to_string());
        let bytes = query.bytes.map(|bytes| bytes.to_string());
        let mut command = self.question(channel, evidence, query.limit, call);
        command
            .arg(since.unwrap_or_default())
            .arg(u8::from(query.reverse))
            .arg(retention.size.get())
            .arg(ms(retention.ttl))
            .arg(bytes.unwrap_or_default());
        command
    }

    /// Asks where a stream is. `evidence`: what was given in it.
    pub(super) fn position(&self, channel: &Channel, evidence: &str, call: Call<'_>) -> Cmd {
        self.question(channel, evidence, 0, call)
    }

    /// Forgets a stream.
    pub(super) fn remove(&self, channel: &Channel, call: Call<'_>) -> Cmd {
        let keys = [self.keys.top(channel), self.keys.stream(channel)];
        let mut command = self.remove.run(call, &keys);
        command
            .arg(self.keys.stream(channel))
            .arg(new_epoch())
            .arg(ms(REMEMBERED));
        command
    }

    fn question(&self, channel: &Channel, evidence: &str, limit: u32, call: Call<'_>) -> Cmd {
        let keys = [self.keys.top(channel), self.keys.stream(channel)];
        let mut command = self.read.run(call, &keys);
        command
            .arg(self.keys.stream(channel))
            .arg(new_epoch())
            .arg(call.generation)
            .arg(ms(REMEMBERED))
            .arg(evidence)
            .arg(limit);
        command
    }
}

/// Adds the key of an item's answer, which is the next of `keys`, and how long that is kept.
fn arg_once<'a>(command: &mut Cmd, item: &Item<'_>, keys: &mut impl Iterator<Item = &'a String>) {
    let once = item.target.once.as_ref();
    match once.and_then(|once| Some((once, keys.next()?))) {
        // A key without a window is not a valid command.
        Some((once, key)) => command.arg(key).arg(ms(once.window).max(1)),
        None => command.arg("").arg(0),
    };
}

/// One publication to one channel.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    pub(super) target: &'a Target,
    pub(super) envelope: &'a [u8],
}

/// What became of one item.
pub(super) enum Outcome {
    Published(Published),
    /// Redis does not allow the channel, and said this.
    Refused(String),
}

/// What became of the items of one command.
pub(super) fn published(answer: Value) -> Result<Vec<Outcome>, ParsingError> {
    if let Value::Int(_) = answer {
        // Of a plain PUBLISH: how many received it.
        return Ok(vec![Outcome::Published(Published {
            position: None,
            duplicate: false,
        })]);
    }
    let answers: Vec<(u8, String)> = redis::from_redis_value(answer)?;
    answers.into_iter().map(outcome).collect()
}

fn outcome((flag, answer): (u8, String)) -> Result<Outcome, ParsingError> {
    if flag > 1 {
        return Ok(Outcome::Refused(answer));
    }
    let position = answer.split_once(':').and_then(|(offset, epoch)| {
        Some(Position {
            offset: offset.parse().ok()?,
            epoch: epoch.to_owned(),
        })
    });
    match position {
        Some(position) => Ok(Outcome::Published(Published {
            position: Some(position).filter(|position| position.offset > 0),
            duplicate: flag == 1,
        })),
        None => Err(format!("{answer:?} is not a valid answer to a publish").into()),
    }
}

/// What was read.
pub(super) fn history(answer: Value) -> Result<History, ParsingError> {
    type Entry = (String, Vec<(String, Vec<u8>)>);
    let (offset, epoch, provisional, entries): (u64, String, String, Vec<Entry>) =
        redis::from_redis_value(answer)?;
    let publications = entries.into_iter().map(|(id, fields)| entry(&id, fields, &epoch));
    Ok(History {
        publications: publications.collect::<Result<_, ParsingError>>()?,
        top: Position { offset, epoch },
        provisional,
    })
}

/// A publication as the stream keeps it.
fn entry(id: &str, fields: Vec<(String, Vec<u8>)>, epoch: &str) -> Result<Publication, ParsingError> {
    let offset = id.split_once('-').and_then(|(offset, _)| offset.parse().ok());
    let Some(offset) = offset else {
        return Err(format!("the entry {id} has an ID that is not of our making").into());
    };
    let (mut message, mut seam) = (Vec::new(), None);
    for (name, value) in fields {
        match name.as_str() {
            "publication" => message = value,
            "seam" => seam = std::str::from_utf8(&value).ok().and_then(|it| it.parse().ok()),
            _ => {}
        }
    }
    match envelope::decode_publication(message.into()) {
        Ok(publication) => Ok(Publication {
            position: Some(Position {
                offset,
                epoch: epoch.to_owned(),
            }),
            seam,
            ..publication
        }),
        Err(why) => Err(format!("the entry {id} is no publication: {why}").into()),
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(bounded(time).as_millis()).unwrap_or(u64::MAX)
}
