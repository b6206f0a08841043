//! What is said to Redis about channels and their streams, command by command, and what its answers mean.
//!
//! One publish to one channel is one command; where something is to be kept, that is a script, so that nothing comes
//! between its steps. What is in Redis for a channel NAME, all of it readable with `redis-cli`:
//!
//! | key | type | what | expires |
//! |---|---|---|---|
//! | `{prefix}:ch:{NAME}` | pub/sub channel | `tidings.bus.v1.Envelope`, in a stream followed by its position | |
//! | `{prefix}:stream:{NAME}` | stream | IDs `offset-time` (Unix ms by Redis' clock), field `publication`: the envelope | one to two `ttl` after the last publication |
//! | `{prefix}:top:{NAME}` | hash | `offset` and `epoch`; `generation`: the server's when the epoch began; `until`: how long there are entries that are not too old; `expires`: when the stream expires; `mark`, `marked`: for trimming by age | [`REMEMBERED`] after the stream |
//! | `{prefix}:once:{NAME}:KEY` | string | the answer to the publish KEY: `offset:epoch`, or `0:` | after its window |
//! | `{prefix}:server` | hash | `run` and `history`: which process with which replication history; `generation`: another one whenever these may have lost something | |
//!
//! **Redis that goes back in time.** An older snapshot that is restored, an append-only file that lacks its last second, a
//! failover that lost the newest writes: each would give offsets again. So an epoch holds within one generation of the
//! server only, and whoever gets a connection for streams first sees to it that `{prefix}:server` says the right one
//! (`scripts/generation.lua`, one INFO per connection and idle second). The price of a kept publication is
//! one `HGET`, 7 % of what it costs Redis. A new generation gives every stream a new epoch when it is next asked for; its
//! entries stay, and are numbered on. Whether a restart or a
//! failover has in fact lost anything nobody can tell any more, so that one which has lost nothing begins an epoch, too.
//! Not noticed are a machine that is set back as a whole, its memory included, and a primary that was made a replica, synchronized
//! anew and made the primary again, all within the second in which a connection that it kept is not looked at.
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
    script::{By, Script},
};
use crate::{
    History, Published, Query, Target, envelope,
    stream::{REMEMBERED, bounded, new_epoch},
};

/// The command by which Redis carries a message to subscribers.
pub const PUBLISH: &str = "PUBLISH";

/// Offsets are numbers in Lua, which are exact up to here.
const MAX_OFFSET: u64 = 1 << 53;

/// The vocabulary of one prefix.
pub(super) struct Streams {
    keys: Keys,
    publish: Script,
    read: Script,
    generation: Script,
}

impl Streams {
    pub(super) fn new(keys: Keys) -> Self {
        Self {
            keys,
            publish: Script::new(include_str!("scripts/publish.lua")),
            read: Script::new(include_str!("scripts/read.lua")),
            generation: Script::new(include_str!("scripts/generation.lua")),
        }
    }

    /// Sends an envelope to who listens, and no more.
    pub(super) fn send(&self, channel: &Channel, envelope: &[u8]) -> Cmd {
        self.tell(&self.keys.channel(channel), envelope)
    }

    /// Sends a message to who listens to a Redis channel, and no more. The answer is how many did.
    pub(super) fn tell(&self, name: &str, message: &[u8]) -> Cmd {
        let mut command = redis::cmd(PUBLISH);
        command.arg(name).arg(message);
        command
    }

    /// Publishes an envelope as `target` asks.
    pub(super) fn publish(&self, target: &Target, envelope: &[u8], by: By) -> Cmd {
        let Target {
            channel,
            retention,
            once,
        } = target;
        if retention.is_none() && once.is_none() {
            return self.send(channel, envelope);
        }
        let keys = [
            self.keys.top(channel),
            self.keys.stream(channel),
            self.keys
                .once(channel, once.as_ref().map_or("", |once| &once.key)),
            self.keys.server(),
        ];
        let mut command = self.publish.run(by, &keys);
        command
            .arg(PUBLISH)
            .arg(self.keys.channel(channel))
            .arg(envelope)
            // At least a millisecond: none at all stands for no key.
            .arg(once.as_ref().map_or(0, |once| ms(once.window).max(1)))
            .arg(retention.map_or(0, |retention| retention.size.get()))
            .arg(retention.map_or(0, |retention| ms(retention.ttl)))
            .arg(ms(REMEMBERED))
            .arg(new_epoch());
        command
    }

    /// Reads a part of a stream.
    pub(super) fn read(&self, channel: &Channel, retention: Retention, query: Query, by: By) -> Cmd {
        let mut command = self.question(channel, query.limit, by);
        command
            .arg(
                query
                    .since
                    .map_or_else(String::new, |since| since.min(MAX_OFFSET).to_string()),
            )
            .arg(u8::from(query.reverse))
            .arg(retention.size.get())
            .arg(ms(retention.ttl));
        command
    }

    /// Asks where a stream is.
    pub(super) fn position(&self, channel: &Channel, by: By) -> Cmd {
        self.question(channel, 0, by)
    }

    /// Sees to it that Redis knows which generation of itself it is. To be asked on a connection before anything of a stream.
    pub(super) fn generation(&self, by: By) -> Cmd {
        let mut command = self.generation.run(by, &[self.keys.server()]);
        command.arg(new_epoch());
        command
    }

    /// Forgets a stream.
    pub(super) fn remove(&self, channel: &Channel) -> Cmd {
        let mut command = redis::cmd("DEL");
        command.arg(self.keys.top(channel)).arg(self.keys.stream(channel));
        command
    }

    fn question(&self, channel: &Channel, limit: u32, by: By) -> Cmd {
        let keys = [
            self.keys.top(channel),
            self.keys.stream(channel),
            self.keys.server(),
        ];
        let mut command = self.read.run(by, &keys);
        command.arg(new_epoch()).arg(ms(REMEMBERED)).arg(limit);
        command
    }
}

/// What became of a publish.
pub(super) fn published(answer: Value) -> Result<Published, ParsingError> {
    let (duplicate, answer) = match answer {
        Value::Int(_) => (false, "0:".to_owned()), // of a plain PUBLISH: how many heard it
        answer => redis::from_redis_value(answer)?,
    };
    let position = answer.split_once(':').and_then(|(offset, epoch)| {
        Some(Position {
            offset: offset.parse().ok()?,
            epoch: epoch.to_owned(),
        })
    });
    match position {
        Some(position) => Ok(Published {
            position: Some(position).filter(|position| position.offset > 0),
            duplicate,
        }),
        None => Err(format!("{answer:?} is no answer to a publish").into()),
    }
}

/// What was read.
pub(super) fn history(answer: Value) -> Result<History, ParsingError> {
    type Entry = (String, (String, Vec<u8>));
    let (offset, epoch, entries): (u64, String, Vec<Entry>) = redis::from_redis_value(answer)?;
    let publications = entries.into_iter().map(|(id, (_, message))| {
        let offset = id.split_once('-').and_then(|(offset, _)| offset.parse().ok());
        let position = offset.map(|offset| Position {
            offset,
            epoch: epoch.clone(),
        });
        match (position, envelope::decode_publication(message.into())) {
            (Some(position), Ok(publication)) => Ok(Publication {
                position: Some(position),
                ..publication
            }),
            (None, _) => Err(format!("the entry {id} has an ID that is not of our making").into()),
            (_, Err(why)) => Err(format!("the entry {id} is no publication: {why}").into()),
        }
    });
    Ok(History {
        publications: publications.collect::<Result<_, ParsingError>>()?,
        top: Position { offset, epoch },
    })
}

fn ms(time: Duration) -> u64 {
    u64::try_from(bounded(time).as_millis()).unwrap_or(u64::MAX)
}
