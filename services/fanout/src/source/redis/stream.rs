//! What is asked of Redis about a stream, its group and this node's part in it.

use std::{collections::HashMap, time::Duration};

use redis::{Pipeline, RedisError, Value, aio::MultiplexedConnection, cmd, from_redis_value};

use super::{
    Begin,
    entry::{ASIDE, Entry, EntryId, FIRST},
};

/// Entries beyond about this many in the dead letter stream push out the oldest.
const MAX_ASIDE: usize = 100_000;

/// The stream as one consumer of one group sees it.
pub(super) struct Stream {
    pub(super) key: String,
    pub(super) group: String,
    pub(super) consumer: String,
    pub(super) dead_letter: String,
}

/// Entries taken over from who does not finish them.
pub(super) struct Claimed {
    /// Each with how often it was delivered.
    pub(super) entries: Vec<(Entry, u32)>,
    /// Where to go on; `None`: all were looked at.
    pub(super) next: Option<String>,
}

/// An entry that is to be dead-lettered.
#[derive(Debug)]
pub(super) struct Dead {
    pub(super) entry: Entry,
    pub(super) why: String,
    pub(super) tried: u32,
    /// It was asked for before, and the answer did not come.
    pub(super) repeated: bool,
}

/// What the group has in the hands of its consumers.
pub(super) struct Pending {
    /// The oldest and the newest entry; `None`: there is none.
    pub(super) range: Option<(EntryId, EntryId)>,
    /// Whether some are in the hands of others.
    pub(super) of_others: bool,
}

/// The most entries that are looked at, or named, at once.
const PAGE: usize = 1000;

type Answer<T> = Result<T, RedisError>;

impl Stream {
    /// Makes the group, and the stream, where there is none.
    pub(super) async fn join(&self, connection: &mut MultiplexedConnection, begin: Begin) -> Answer<()> {
        let from = match begin {
            Begin::Oldest => "0",
            Begin::Newest => "$",
        };
        let mut create = cmd("XGROUP");
        create
            .arg("CREATE")
            .arg(&self.key)
            .arg(&self.group)
            .arg(from)
            .arg("MKSTREAM");
        match create.exec_async(connection).await {
            Err(why) if why.code() == Some("BUSYGROUP") => Ok(()),
            answer => answer,
        }
    }

    /// Entries that no consumer has had yet, at most `count`, waiting so long for the first.
    pub(super) async fn read(
        &self,
        connection: &mut MultiplexedConnection,
        count: usize,
        wait: Option<Duration>,
    ) -> Answer<Vec<Entry>> {
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP")
            .arg(&self.group)
            .arg(&self.consumer)
            .arg("COUNT")
            .arg(count);
        if let Some(wait) = wait {
            // 0 would be for ever.
            read.arg("BLOCK").arg(wait.as_millis().max(1) as u64);
        }
        read.arg("STREAMS").arg(&self.key).arg(">");
        // One stream: `[[key, entries]]`, or `{key: entries}` in RESP3.
        Ok(match read.query_async(connection).await? {
            Value::Map(streams) => streams
                .into_iter()
                .flat_map(|(_, entries)| Entry::list(entries))
                .collect(),
            Value::Array(streams) => {
                let each = streams.into_iter().filter_map(|stream| match stream {
                    Value::Array(mut parts) => parts.pop(),
                    _ => None,
                });
                each.flat_map(Entry::list).collect()
            }
            _ => Vec::new(),
        })
    }

    /// Takes over at most `count` entries that nobody has touched for `idle`.
    pub(super) async fn claim(
        &self,
        connection: &mut MultiplexedConnection,
        idle: Duration,
        from: &str,
        count: usize,
    ) -> Answer<Claimed> {
        let mut claim = cmd("XAUTOCLAIM");
        claim.arg(&self.key).arg(&self.group).arg(&self.consumer);
        claim
            .arg(idle.as_millis() as u64)
            .arg(from)
            .arg("COUNT")
            .arg(count);
        let Value::Array(parts) = claim.query_async(connection).await? else {
            return Ok(Claimed {
                entries: Vec::new(),
                next: None,
            });
        };
        let mut parts = parts.into_iter();
        let next: String = from_redis_value(parts.next().unwrap_or(Value::Nil)).unwrap_or_default();
        let entries = parts.next().map(Entry::list).unwrap_or_default();
        let counts = self.deliveries(connection, &entries).await?;
        let counted = entries.into_iter().map(|entry| {
            let count = counts.get(&entry.id).copied().unwrap_or(1);
            (entry, count)
        });
        Ok(Claimed {
            entries: counted.collect(),
            next: Some(next).filter(|next| !next.is_empty() && next != "0-0"),
        })
    }

    /// How often each of these entries, which are this consumer's, was delivered.
    async fn deliveries(
        &self,
        connection: &mut MultiplexedConnection,
        entries: &[Entry],
    ) -> Answer<HashMap<String, u32>> {
        if entries.is_empty() {
            return Ok(HashMap::new());
        }
        let mut each = redis::pipe();
        for Entry { id, .. } in entries {
            let ask = each.cmd("XPENDING").arg(&self.key).arg(&self.group);
            ask.arg(id).arg(id).arg(1);
        }
        let rows: Vec<Vec<(String, String, u64, u32)>> = each.query_async(connection).await?;
        let rows = rows.into_iter().flatten();
        Ok(rows.map(|(id, _, _, count)| (id, count)).collect())
    }

    /// What is in the hands of the group's consumers.
    pub(super) async fn pending(&self, connection: &mut MultiplexedConnection) -> Answer<Pending> {
        let mut ask = cmd("XPENDING");
        ask.arg(&self.key).arg(&self.group);
        type Summary = (u64, Option<String>, Option<String>, Option<Vec<(String, String)>>);
        let (_, oldest, newest, consumers): Summary = ask.query_async(connection).await?;
        let id = |text: Option<String>| text.and_then(|text| EntryId::parse(&text));
        let mut consumers = consumers.iter().flatten();
        Ok(Pending {
            range: id(oldest).zip(id(newest)),
            of_others: consumers.any(|(name, _)| *name != self.consumer),
        })
    }

    /// The ids of the entries that are this consumer's: those of answers that were lost, too.
    pub(super) async fn own(&self, connection: &mut MultiplexedConnection) -> Answer<Vec<String>> {
        let (mut ids, mut from) = (Vec::new(), "-".to_owned());
        loop {
            let mut ask = cmd("XPENDING");
            ask.arg(&self.key).arg(&self.group);
            ask.arg(&from).arg("+").arg(PAGE).arg(&self.consumer);
            let rows: Vec<(String, String, u64, u32)> = ask.query_async(connection).await?;
            let full = rows.len() == PAGE;
            ids.extend(rows.into_iter().map(|(id, ..)| id));
            match ids.last() {
                Some(last) if full => from = format!("({last}"),
                _ => return Ok(ids),
            }
        }
    }

    /// Entries that are this consumer's, once more. What was deleted meanwhile is left out.
    pub(super) async fn again(
        &self,
        connection: &mut MultiplexedConnection,
        ids: &[String],
    ) -> Answer<Vec<Entry>> {
        let mut claim = cmd("XCLAIM");
        claim.arg(&self.key).arg(&self.group).arg(&self.consumer);
        claim.arg(0).arg(ids);
        Ok(Entry::list(claim.query_async(connection).await?))
    }

    /// Keeps entries that are still in flight, so that nobody takes them over.
    pub(super) async fn keep(&self, connection: &mut MultiplexedConnection, ids: &[&str]) -> Answer<()> {
        self.touch(connection, ids, Duration::ZERO).await
    }

    /// Has entries count as untouched for `idle`.
    async fn touch(
        &self,
        connection: &mut MultiplexedConnection,
        ids: &[&str],
        idle: Duration,
    ) -> Answer<()> {
        for ids in ids.chunks(PAGE) {
            let mut claim = cmd("XCLAIM");
            claim.arg(&self.key).arg(&self.group).arg(&self.consumer);
            claim.arg(0).arg(ids);
            claim.arg("IDLE").arg(idle.as_millis() as u64).arg("JUSTID");
            claim.exec_async(connection).await?;
        }
        Ok(())
    }

    /// Whether an entry is still in anybody's hands.
    async fn is_pending(&self, connection: &mut MultiplexedConnection, id: &str) -> Answer<bool> {
        let mut ask = cmd("XPENDING");
        ask.arg(&self.key).arg(&self.group).arg(id).arg(id).arg(1);
        let rows: Vec<Value> = ask.query_async(connection).await?;
        Ok(!rows.is_empty())
    }

    /// Lets go of entries that are done with.
    pub(super) async fn acknowledge(
        &self,
        connection: &mut MultiplexedConnection,
        ids: &[String],
    ) -> Answer<()> {
        let mut acknowledge = cmd("XACK");
        acknowledge.arg(&self.key).arg(&self.group).arg(ids);
        acknowledge.exec_async(connection).await
    }

    /// Moves an entry to the dead letter stream, in one transaction, with why.
    pub(super) async fn set_aside(
        &self,
        connection: &mut MultiplexedConnection,
        dead: &mut Dead,
    ) -> Answer<()> {
        let Dead {
            entry,
            why,
            tried,
            repeated,
        } = dead;
        if *repeated && !self.is_pending(connection, &entry.id).await? {
            // Only the answer was lost.
            return Ok(());
        }
        *repeated = true;
        let mut aside = Pipeline::new();
        let add = aside.atomic().cmd("XADD").arg(&self.dead_letter);
        add.arg("MAXLEN").arg("~").arg(MAX_ASIDE).arg("*");
        for (name, value) in entry.fields.iter().flatten() {
            // Of an entry that was put back, only the last reason counts.
            if !name.starts_with(ASIDE.as_bytes()) {
                add.arg(&name[..]).arg(&value[..]);
            }
        }
        add.arg(format!("{ASIDE}stream")).arg(&self.key);
        add.arg(FIRST).arg(entry.first_id());
        add.arg(format!("{ASIDE}tried")).arg(*tried);
        add.arg(format!("{ASIDE}reason")).arg(&*why);
        aside.cmd("XACK").arg(&self.key).arg(&self.group).arg(&entry.id);
        aside.exec_async(connection).await
    }

    /// Leaves the group. Entries that are still this consumer's would be lost with it: they are left to others, who need not
    /// wait for them until `idle` has passed, and so is the consumer.
    pub(super) async fn leave(&self, connection: &mut MultiplexedConnection, idle: Duration) -> Answer<()> {
        let own = self.own(connection).await?;
        if own.is_empty() {
            let mut leave = cmd("XGROUP");
            leave
                .arg("DELCONSUMER")
                .arg(&self.key)
                .arg(&self.group)
                .arg(&self.consumer);
            return leave.exec_async(connection).await;
        }
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        self.touch(connection, &own, idle).await
    }
}
