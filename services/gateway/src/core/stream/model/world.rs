//! What the model has beside the gateway: a Redis that loses things, and what is on the bus.

use super::*;

/// What Redis keeps of the channel.
#[derive(Debug, Clone)]
pub(super) struct Redis {
    pub(super) day: u64,
    pub(super) epoch: Option<u64>,
    /// Epochs that the stream has had.
    pub(super) had: Vec<u64>,
    pub(super) provisional: String,
    pub(super) offset: u64,
    pub(super) entries: Vec<(u64, Option<u64>)>,
    pub(super) jumps: Vec<(u64, u64)>,
    /// It may have gone back in time.
    pub(super) jump: bool,
}

/// What the world has beside the gateway.
pub(super) struct World {
    pub(super) redis: Redis,
    pub(super) snapshot: Redis,
    pub(super) epochs: u64,
    /// Where the next offset jump leads, at the least: no offset is given twice.
    pub(super) jumped: u64,
    pub(super) bus: VecDeque<Message>,
}

pub(super) enum Message {
    Publication(Arc<Delivery>),
    Gap,
}

impl World {
    pub(super) fn new() -> Self {
        let redis = Redis {
            day: 10,
            epoch: None,
            had: Vec::new(),
            provisional: String::new(),
            offset: 0,
            entries: Vec::new(),
            jumps: Vec::new(),
            jump: false,
        };
        Self {
            snapshot: redis.clone(),
            redis,
            epochs: 0,
            jumped: 0,
            bus: VecDeque::new(),
        }
    }

    pub(super) fn new_epoch(&mut self) {
        self.epochs += 1;
        self.redis.had.extend(self.redis.epoch);
        self.redis.epoch = Some(self.epochs);
    }

    pub(super) fn publish(&mut self) {
        if self.redis.epoch.is_none() {
            let day = self.redis.day;
            self.new_epoch();
            self.redis.provisional = format!("~{day},~{}", day - 1);
            self.redis.jump = false;
        }
        let redis = &mut self.redis;
        let jump = std::mem::take(&mut redis.jump).then_some(redis.offset);
        if jump.is_some() {
            self.jumped += 1000;
            redis.jumps.push((redis.offset, self.jumped));
            redis.offset = self.jumped - 1;
        }
        redis.offset += 1;
        redis.entries.push((redis.offset, jump));
        let first = redis.entries.len().saturating_sub(KEPT);
        redis.entries.drain(..first);
        let publication = self.publication((self.redis.offset, jump));
        self.bus.push_back(Message::Publication(wrap(publication)));
    }

    pub(super) fn publication(&self, (offset, seam): (u64, Option<u64>)) -> Publication {
        Publication {
            seam,
            ..publication(offset, &self.top().epoch)
        }
    }

    pub(super) fn top(&self) -> Position {
        Position {
            offset: self.redis.offset,
            epoch: match self.redis.epoch {
                Some(epoch) => format!("e{epoch}"),
                None => format!("~{}", self.redis.day),
            },
        }
    }

    /// Compares what is known with what is there.
    pub(super) fn compare(&mut self, known: Option<&Watermark>) {
        let Some(known) = known.map(|it| &it.position) else {
            return;
        };
        let epoch = known.epoch[1..].parse().expect("a number");
        let lost = |redis: &Redis| {
            let jumped = redis
                .jumps
                .iter()
                .any(|(last, first)| *last < known.offset && known.offset < *first);
            known.offset > redis.offset || jumped
        };
        if self.redis.had.contains(&epoch) {
            return;
        }
        if self.redis.epoch != Some(epoch) {
            self.redis.had.push(epoch);
            self.new_epoch();
        } else if lost(&self.redis) {
            self.new_epoch();
        }
    }

    pub(super) fn read(&mut self, query: Query, known: Option<&Watermark>) -> History {
        self.compare(known);
        let entries = self.redis.entries.iter().copied();
        let since = query.since.unwrap_or(0);
        let mut publications: Vec<_> = entries
            .filter(|(offset, _)| *offset > since || query.reverse)
            .map(|entry| self.publication(entry))
            .collect();
        if query.reverse {
            publications.reverse();
        }
        publications.truncate(query.limit as usize);
        History {
            publications,
            top: self.top(),
            provisional: self.redis.provisional.clone(),
        }
    }

    /// Whether a client at this position missed nothing that could not be had when Redis answered.
    pub(super) fn connected(&mut self, then: &Redis, at: &Position) -> bool {
        let now = std::mem::replace(&mut self.redis, then.clone());
        let connected = self.connects(at);
        self.redis = now;
        connected
    }

    pub(super) fn connects(&mut self, at: &Position) -> bool {
        let query = Query {
            since: Some(at.offset),
            limit: 1000,
            ..Query::default()
        };
        connects(at, &self.read(query, None))
    }
}
