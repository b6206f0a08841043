//! The store against a naive model: one list of all that was ever published, looked through from front to back.

use std::{num::NonZeroU32, time::Duration, time::SystemTime};

use proptest::prelude::*;
use tidings_core::Format;

use super::*;
use crate::stream::Once;

#[derive(Debug, Clone)]
enum Step {
    Publish {
        channel: usize,
        retention: Option<Retention>,
        once: Option<(u8, Duration)>,
    },
    Read {
        channel: usize,
        retention: Retention,
        query: Query,
    },
    Position(usize),
    Remove(usize),
    Wait(Duration),
}

const CHANNELS: [&str; 2] = ["tasks:1", "tasks:2"];

/// Around the times that limits are set to here, and sometimes long enough for everything to be forgotten.
fn times() -> impl Strategy<Value = Duration> {
    prop_oneof![
        8 => (0_u64..12).prop_map(Duration::from_millis),
        1 => Just(REMEMBERED - Duration::from_millis(3)),
        1 => Just(REMEMBERED),
    ]
}

fn retentions() -> impl Strategy<Value = Retention> {
    (1_u32..6, 0_u64..12).prop_map(|(size, ttl)| Retention {
        size: NonZeroU32::new(size).unwrap(),
        ttl: Duration::from_millis(ttl),
    })
}

fn queries() -> impl Strategy<Value = Query> {
    let since = prop::option::of(prop_oneof![9 => 0_u64..12, 1 => any::<u64>()]);
    (since, 0_u32..7, any::<bool>()).prop_map(|(since, limit, reverse)| Query {
        since,
        limit,
        bytes: None,
        reverse,
    })
}

fn steps() -> impl Strategy<Value = Step> {
    let channel = 0..CHANNELS.len();
    let once = prop::option::of((0_u8..3, times()));
    prop_oneof![
        4 => (channel.clone(), prop::option::weighted(0.9, retentions()), once)
            .prop_map(|(channel, retention, once)| Step::Publish { channel, retention, once }),
        3 => (channel.clone(), retentions(), queries())
            .prop_map(|(channel, retention, query)| Step::Read { channel, retention, query }),
        1 => channel.clone().prop_map(Step::Position),
        1 => channel.prop_map(Step::Remove),
        4 => times().prop_map(Step::Wait),
    ]
}

/// A channel, with everything looked at one by one whenever anything happens.
#[derive(Default)]
struct Model {
    /// The epoch, unless that is not known yet, when it is forgotten, and the newest offset.
    life: Option<(Option<String>, Instant, u64)>,
    past_epochs: Vec<String>,
    /// Offset, time and data.
    kept: Vec<(u64, Instant, Publication)>,
    kept_until: Option<Instant>,
    /// Key, end and answer.
    answers: Vec<(u8, Instant, Published)>,
}

impl Model {
    /// Forgets what has ended.
    fn settle(&mut self, now: Instant) {
        self.answers.retain(|(_, end, _)| now < *end);
        if self.life.as_ref().is_some_and(|(_, end, _)| now >= *end) {
            self.clear();
        }
        if self.kept_until.is_some_and(|end| now >= end) {
            self.kept.clear();
            self.kept_until = None;
        }
    }

    fn clear(&mut self) {
        self.kept.clear();
        self.kept_until = None;
        self.past_epochs
            .extend(self.life.take().and_then(|(epoch, ..)| epoch));
    }

    /// A stream that is removed goes on under another epoch.
    fn remove(&mut self, now: Instant) {
        self.settle(now);
        let was_there = self.life.is_some();
        self.clear();
        self.life = was_there.then(|| (None, now + REMEMBERED, 0));
    }

    /// Takes the position that the store says, which has to be the only one that it can be.
    fn check(&mut self, found: &Position, published: bool, end: Instant) {
        if found.is_provisional() {
            assert!(!published && self.life.is_none(), "the stream is there");
            return;
        }
        assert!(!self.past_epochs.contains(&found.epoch), "an epoch came back");
        assert!(published || self.life.is_some(), "nothing was ever published");
        let (epoch, remembered, top) = self.life.get_or_insert((None, end, 0));
        let epoch = epoch.get_or_insert_with(|| found.epoch.clone());
        *top += u64::from(published);
        *remembered = (*remembered).max(end);
        assert_eq!((found.offset, &found.epoch), (*top, &*epoch));
    }

    fn publish(
        &mut self,
        published: &Published,
        publication: &Publication,
        retention: Option<Retention>,
        once: Option<(u8, Duration)>,
        now: Instant,
    ) {
        self.settle(now);
        let first = self
            .answers
            .iter()
            .find(|(key, ..)| Some(*key) == once.map(|once| once.0));
        if let Some((.., first)) = first {
            let duplicate = Published {
                duplicate: true,
                ..first.clone()
            };
            assert_eq!(*published, duplicate);
            return;
        }
        assert!(!published.duplicate);
        assert_eq!(published.position.is_some(), retention.is_some());
        if let (Some(position), Some(retention)) = (&published.position, retention) {
            self.check(position, true, now + retention.ttl + REMEMBERED);
            let publication = Publication {
                position: Some(position.clone()),
                ..publication.clone()
            };
            self.kept.push((position.offset, now, publication));
            self.kept
                .retain(|(offset, at, _)| allows(retention, position.offset, *offset, now - *at));
            self.kept_until = self.kept_until.max(Some(now + retention.ttl));
        }
        if let Some((key, window)) = once {
            self.answers.push((key, now + window, published.clone()));
        }
    }

    fn read(&mut self, history: &History, retention: Retention, query: Query, now: Instant) {
        self.settle(now);
        self.check(&history.top, false, now + REMEMBERED);
        self.settle(now);
        let mut expected: Vec<_> = self
            .kept
            .iter()
            .filter(|(offset, at, _)| allows(retention, history.top.offset, *offset, now - *at))
            .filter(|(offset, ..)| match query.since {
                None => true,
                Some(since) if query.reverse => *offset < since,
                Some(since) => *offset > since,
            })
            .map(|(.., publication)| publication.clone())
            .collect();
        if query.reverse {
            expected.reverse();
        }
        expected.truncate(query.limit as usize);
        assert_eq!(history.publications, expected);
    }
}

fn allows(Retention { size, ttl }: Retention, top: u64, offset: u64, age: Duration) -> bool {
    top - offset < u64::from(size.get()) && age < ttl
}

proptest! {
    #[test]
    fn the_store_is_a_naive_model_that_is_fast(steps in prop::collection::vec(steps(), 1..60)) {
        let (mut store, mut now) = (Store::default(), Instant::now());
        let channels = CHANNELS.map(|name| Channel::parse(name).unwrap());
        let mut models = channels.clone().map(|_| Model::default());
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Publish { channel, retention, once } => {
                    let data = number.to_string().into();
                    let publication = Publication::new(data, Format::Json, SystemTime::UNIX_EPOCH);
                    let target = Target {
                        channel: channels[channel].clone(),
                        retention,
                        version: None,
                        once: once.map(|(key, window)| Once { key: key.to_string().into(), window }),
                    };
                    let published = store.publish(&target, &publication, now);
                    models[channel].publish(&published, &publication, retention, once, now);
                }
                Step::Read { channel, retention, query } => {
                    let history = store.read(&channels[channel], retention, query, now);
                    models[channel].read(&history, retention, query, now);
                }
                Step::Position(channel) => {
                    let position = store.position(&channels[channel], now);
                    models[channel].settle(now);
                    models[channel].check(&position, false, now + REMEMBERED);
                }
                Step::Remove(channel) => {
                    store.remove(&channels[channel], now);
                    models[channel].remove(now);
                }
                Step::Wait(time) => now += time,
            }
        }
    }
}

#[test]
fn what_is_no_longer_used_is_freed() {
    let (mut store, start) = (Store::default(), Instant::now());
    let ttl = Duration::from_secs(60);
    for number in 0..1000 {
        let target = Target {
            retention: Some(Retention {
                size: NonZeroU32::new(10).unwrap(),
                ttl,
            }),
            once: Some(Once::new("7")),
            ..Channel::parse(&format!("tasks:{number}")).unwrap().into()
        };
        let publication = Publication::new("1".into(), Format::Json, SystemTime::UNIX_EPOCH);
        store.publish(&target, &publication, start);
    }
    let news = Channel::parse("news:1").unwrap();
    let mut use_another = |now| {
        for _ in 0..1000 {
            store.position(&news, now);
        }
        (store.tops.len(), store.streams.len(), store.answers.len())
    };
    assert_eq!(use_another(start), (1000, 1000, 1000));
    assert_eq!(use_another(start + ttl), (1000, 0, 1000));
    assert_eq!(use_another(start + crate::WINDOW), (1000, 0, 0));
    assert_eq!(use_another(start + ttl + REMEMBERED), (0, 0, 0));
}
