//! Reads the bus for one subscriber: keeps a connection subscribed to what is wanted, whatever happens to it.

use std::{
    collections::{HashMap, HashSet},
    mem,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use backon::ExponentialBackoff;
use bytes::Bytes;
use redis::RedisError;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tracing::warn;

use super::{
    health::{Health, Part},
    keys::Keys,
    link::{Connector, Link, backoff, is_elsewhere},
};
use crate::{Error, Incoming, Sink, envelope, topic::Topic};

/// The most topics in one SUBSCRIBE, so that Redis is not held up for others.
const BATCH: usize = 500;

/// After how long topics that another node has are tried again.
const ELSEWHERE: Duration = Duration::from_millis(500);

/// After how long topics are tried again that Redis did not allow when they were taken up anew: each costs an entry in its log
/// of denied commands.
const DENIED: Duration = Duration::from_secs(5);

/// That a topic is wanted, or no longer.
pub(super) struct Request {
    pub(super) topic: Topic,
    pub(super) wanted: bool,
    /// It is wanted already, and another node had it: nobody would ask again if this one denied it.
    pub(super) is_moved: bool,
    pub(super) reply: oneshot::Sender<Result<(), Error>>,
}

/// One subscriber's connection, and what is wanted on it.
pub(super) struct Reader {
    connector: Connector,
    keys: Keys,
    sink: Arc<dyn Sink>,
    part: Part,
    requests: mpsc::Receiver<Request>,
    wanted: HashSet<Topic>,
    /// Of these, those that another node of a Cluster has, by what this one said last. Unless the owner of their slots changes,
    /// they are tried again: the slot may have come back between two looks at the topology.
    elsewhere: HashSet<Topic>,
    /// Of these, those that Redis allowed once and denied when they were taken up anew. Nobody asks for them again, because they
    /// are wanted all the time.
    denied: HashSet<Topic>,
    /// Requests that came before the first attempt to connect has ended.
    early: Vec<Request>,
    delays: ExponentialBackoff,
    /// Why there is no connection; `None` before the first attempt and while there is one.
    away: Option<String>,
}

impl Reader {
    pub(super) fn new(
        connector: Connector,
        keys: Keys,
        sink: Arc<dyn Sink>,
        part: Part,
        requests: mpsc::Receiver<Request>,
    ) -> Self {
        Self {
            connector,
            keys,
            sink,
            part,
            requests,
            wanted: HashSet::new(),
            elsewhere: HashSet::new(),
            denied: HashSet::new(),
            early: Vec::new(),
            delays: backoff(),
            away: None,
        }
    }

    /// Runs until the subscriber is dropped.
    pub(super) async fn run(mut self) {
        let connector = self.connector.clone();
        loop {
            let health = self.part.health().clone();
            let connecting = connector.connect(deliver(self.keys.clone(), self.sink.clone(), health));
            let why = match self.meanwhile(connecting).await {
                Some(Ok(mut link)) => {
                    let why = self.serve(&mut link).await;
                    if why.is_some() && link.has_moved() {
                        continue;
                    }
                    why
                }
                Some(Err(why)) => Some(why),
                None => None,
            };
            let Some(why) = why else { return };
            let reason = self.connector.away(&why);
            self.part.away(reason.clone());
            self.away = Some(reason);
            for request in mem::take(&mut self.early) {
                self.answer_away(request);
            }
            let delay = self.delays.next().unwrap_or_default();
            if self.meanwhile(tokio::time::sleep(delay)).await.is_none() {
                return;
            }
        }
    }

    /// Waits for `work`. Requests are recorded meanwhile, so that nobody waits to hand one over. They are answered at once
    /// while the bus is known to be unavailable, and when the first attempt has ended before that is known. `None` when the
    /// subscriber was dropped.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            let request = tokio::select! {
                done = &mut work => return Some(done),
                request = self.requests.recv() => request?,
            };
            self.record(request.topic.clone(), request.wanted);
            if self.away.is_some() {
                self.answer_away(request);
            } else {
                self.early.push(request);
            }
        }
    }

    /// Answers a request while there is no connection.
    fn answer_away(&self, Request { wanted, reply, .. }: Request) {
        let answer = match &self.away {
            Some(reason) if wanted => Err(Error::Away {
                reason: reason.clone(),
            }),
            _ => Ok(()),
        };
        // The caller may have stopped waiting.
        let _ = reply.send(answer);
    }

    /// Takes up everything wanted on a new connection, then serves requests until it is lost; returns why, or `None`
    /// when the subscriber was dropped.
    async fn serve(&mut self, link: &mut Link) -> Option<RedisError> {
        let mut allowed = self.part.health().allowed();
        // What was asked for before the first connection is answered below.
        let mut batch = mem::take(&mut self.early);
        let early: HashSet<&Topic> = batch.iter().map(|request| &request.topic).collect();
        let wanted = self.wanted.iter().filter(|topic| !early.contains(topic));
        let wanted: Vec<Topic> = wanted.cloned().collect();
        for topics in wanted.chunks(BATCH) {
            if let Err(why) = self.resume(link, topics).await {
                self.early = batch;
                return Some(why);
            }
        }
        // What is not received yet has its gap later.
        if wanted.iter().any(|topic| self.is_received(topic)) {
            self.sink.incoming(Incoming::Gap);
        }
        self.away = None;
        self.delays = backoff();
        self.part.up();

        let mut again = Instant::now() + ELSEWHERE;
        let mut once_more = Instant::now() + DENIED;
        loop {
            while !batch.is_empty() {
                let rest = batch.split_off(batch.len().min(BATCH));
                if let Err(why) = self.fulfil(link, &mut batch).await {
                    self.early = rest;
                    return Some(why);
                }
                batch = rest;
            }
            tokio::select! {
                received = self.requests.recv_many(&mut batch, BATCH) => if received == 0 {
                    return None;
                },
                why = link.lost() => return Some(why),
                _ = allowed.changed() => self.sink.incoming(Incoming::Gap),
                // Not anew with each request: there may be some all the time.
                () = sleep_until(again), if !self.elsewhere.is_empty() => {
                    let topics = self.elsewhere.iter().cloned().collect();
                    if let Err(why) = self.look_again(link, topics).await {
                        return Some(why);
                    }
                    again = Instant::now() + ELSEWHERE;
                }
                () = sleep_until(once_more), if !self.denied.is_empty() => {
                    let topics = self.denied.iter().cloned().collect();
                    if let Err(why) = self.look_again(link, topics).await {
                        return Some(why);
                    }
                    once_more = Instant::now() + DENIED;
                }
            }
        }
    }

    /// Tries to take up what could not be the last time. What is received again may have been missed meanwhile.
    async fn look_again(&mut self, link: &Link, topics: Vec<Topic>) -> Result<(), RedisError> {
        for part in topics.chunks(BATCH) {
            self.resume(link, part).await?;
        }
        if topics.iter().any(|topic| self.is_received(topic)) {
            self.sink.incoming(Incoming::Gap);
        }
        Ok(())
    }

    /// Whether a topic that is wanted could be taken up.
    fn is_received(&self, topic: &Topic) -> bool {
        !self.elsewhere.contains(topic) && !self.denied.contains(topic)
    }

    /// Does what a batch of requests amounts to, in one round trip, and answers all of them. An error is the end of
    /// the connection.
    async fn fulfil(&mut self, link: &Link, batch: &mut Vec<Request>) -> Result<(), RedisError> {
        // Of several requests for one topic the last decides.
        let latest: HashMap<&Topic, bool> = batch
            .iter()
            .map(|request| (&request.topic, request.wanted))
            .collect();
        let names = |wanted| -> Vec<String> {
            let topics = latest.iter().filter(|(_, latest)| **latest == wanted);
            topics.map(|(topic, _)| self.keys.topic(topic)).collect()
        };
        let changed = link.change(&names(true), &names(false)).await;
        for topic in latest.into_keys() {
            self.elsewhere.remove(topic);
            self.denied.remove(topic);
        }

        for Request {
            topic,
            wanted,
            is_moved,
            reply,
        } in batch.drain(..)
        {
            let answer = match &changed {
                Ok(refused) => match refused.get(&self.keys.topic(&topic)) {
                    Some(why) => {
                        if wanted && is_elsewhere(why) {
                            self.elsewhere.insert(topic.clone());
                        }
                        Err(self.connector.error(why))
                    }
                    None => Ok(()),
                },
                Err(why) if wanted => Err(self.connector.error(why)),
                // Nothing comes from a connection that is closed.
                Err(_) => Ok(()),
            };
            match &answer {
                Err(error @ Error::Refused { .. }) if is_moved => {
                    self.record(topic.clone(), true);
                    self.deny(&topic, error);
                }
                Err(Error::Refused { .. }) => self.record(topic, false),
                _ => self.record(topic, wanted),
            }
            let _ = reply.send(answer);
        }
        changed.map(drop)
    }

    /// Takes up topics that are wanted all the time. What Redis no longer allows must not keep everything else off the bus, and
    /// is tried again. An error is the end of the connection.
    async fn resume(&mut self, link: &Link, topics: &[Topic]) -> Result<(), RedisError> {
        let names: Vec<String> = topics.iter().map(|topic| self.keys.topic(topic)).collect();
        let mut refused = link.change(&names, &[]).await?;
        for topic in topics {
            match refused.get(&self.keys.topic(topic)) {
                Some(why) if is_elsewhere(why) => self.elsewhere.insert(topic.clone()),
                _ => self.elsewhere.remove(topic),
            };
        }
        refused.retain(|_, why| !is_elsewhere(why));
        if let Some(why) = refused.values().find(|why| !is_about_channels(why)) {
            return Err(why.clone());
        }
        for topic in topics {
            match refused.get(&self.keys.topic(topic)) {
                Some(why) => self.deny(topic, &self.connector.error(why)),
                None => {
                    self.denied.remove(topic);
                }
            }
        }
        Ok(())
    }

    /// Redis denies a topic that is wanted on.
    fn deny(&mut self, topic: &Topic, error: &Error) {
        if self.denied.insert(topic.clone()) {
            warn!(%topic, %error, "Redis denies the subscription, its subscribers receive nothing; trying again every 5 s");
        }
    }

    fn record(&mut self, topic: Topic, wanted: bool) {
        if wanted {
            self.wanted.insert(topic);
        } else {
            self.wanted.remove(&topic);
            self.elsewhere.remove(&topic);
            self.denied.remove(&topic);
        }
    }
}

/// Whether Redis denies some channels only (`NOPERM`), rather than all commands of this kind or of this connection: those
/// are wanted on, and somebody has to help.
fn is_about_channels(error: &RedisError) -> bool {
    error.code() == Some("NOPERM") && error.detail().is_some_and(|detail| detail.contains("channel"))
}

/// Decodes messages into the sink. What cannot be decoded is skipped, and everything while nodes of another format are there.
fn deliver(
    keys: Keys,
    sink: Arc<dyn Sink>,
    health: Arc<Health>,
) -> impl Fn(&[u8], Bytes) + Send + Sync + 'static {
    let skipped = AtomicU64::new(0);
    move |name, message| {
        if health.is_refused() {
            return;
        }
        let channel = match keys.parse_topic(name) {
            Some(Topic::Channel(channel)) => channel,
            Some(Topic::Node(_) | Topic::All) => return sink.incoming(Incoming::Control(message)),
            None => return, // we subscribe to no such channel
        };
        match envelope::decode(channel, message) {
            Ok(incoming) => sink.incoming(incoming),
            Err(error) => {
                // The 1st, 2nd, 4th, 8th … are logged: the log stays small however many come.
                let skipped = skipped.fetch_add(1, Relaxed) + 1;
                if skipped.is_power_of_two() {
                    let name = String::from_utf8_lossy(name);
                    warn!(redis.channel = %name, skipped, %error, "skipped a message on the bus; does another \
                        program, or another version of this one, publish under the same prefix?");
                }
            }
        }
    }
}
