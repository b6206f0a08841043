//! Publishing: one try of any number of publications, what Redis answers, and what this process remembers of that.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use redis::Value;
use tokio::time::Instant;

use super::{
    Bus,
    commands::{Ask, Failure},
    metrics::Kind,
    script::Call,
    streams::{self, Item, Outcome},
};
use crate::{Error, Published, REMEMBERED, Target, envelope, error::is_busy, stream::bounded};

impl Bus {
    /// Publishes one envelope to each of `targets`; one result per target, in order.
    pub(crate) async fn publish(&self, targets: &[Target], envelope: &[u8]) -> Vec<Result<Published, Error>> {
        let deadline = Instant::now() + self.timeout;
        let items: Vec<_> = targets.iter().map(|target| Item { target, envelope }).collect();
        let results = self.attempt(&items, each, deadline).await.into_iter();
        results.map(|result| result.map_err(Error::from)).collect()
    }

    /// Publishes items, those of a channel in their order, by the deadline or the command timeout, whichever is first. One
    /// result per item. `together`: whether an item goes into the command of the one before it, which is to the same channel;
    /// the items of a command are published all at once.
    pub(super) async fn attempt(
        &self,
        items: &[Item<'_>],
        together: fn(&Item<'_>, &Item<'_>) -> bool,
        deadline: Instant,
    ) -> Vec<Result<Published, Failure>> {
        if let Err(error) = self.usable() {
            return vec![Err(Failure::undone(error)); items.len()];
        }
        let groups: Vec<&[Item<'_>]> = items.chunk_by(|one, next| together(one, next)).collect();
        // As it is when a command leaves: it says how long ago something was given.
        let evidence = Mutex::new(vec![String::new(); groups.len()]);
        let suspected = self.suspected.count();
        let bytes: usize = items.iter().map(|item| item.envelope.len()).sum();
        let ask = Ask {
            count: groups.len(),
            streams: items.iter().any(|item| item.target.retention.is_some()),
            deadline: Some(deadline),
            ..Ask::one(Kind::Publish, bytes / groups.len().max(1))
        };
        let asking = Mutex::new(BTreeSet::new());
        let publish = |index: usize, call: Call<'_>| {
            if call.asking {
                asking.lock().insert(index);
            }
            let known = self.known(groups[index]);
            let command = self.streams.publish(groups[index], &known, call);
            evidence.lock()[index] = known;
            command
        };
        let answers = self
            .servers
            .ask(ask, |index| groups[index][0].target.channel.as_str(), publish);
        let mut results = Vec::with_capacity(items.len());
        let answers = answers.await;
        for ((answer, group), evidence) in answers.into_iter().zip(&groups).zip(&evidence.into_inner()) {
            results.extend(self.published(answer, group, evidence));
        }
        self.send_to_owners(&groups, &results, &asking.into_inner(), deadline)
            .await;
        self.notice_refusal_of_writes(items, &results);
        if suspected != self.suspected.count() {
            // The comparison of what was acknowledged may have begun before this was.
            let streams = items.iter().filter(|item| item.target.retention.is_some());
            self.suspected.late(streams.map(|item| &item.target.channel));
        }
        results
    }

    fn notice_refusal_of_writes(&self, items: &[Item<'_>], results: &[Result<Published, Failure>]) {
        for (item, result) in items.iter().zip(results) {
            if let Err(Failure { error, why, .. }) = result
                && why.as_ref().is_some_and(is_busy)
            {
                let probe = self.keys.probe(&item.target.channel);
                self.servers.refuses_writes(error, probe);
            }
        }
    }

    /// Sends what was published at a node that a slot is only on its way to, to the one that still has the slot: until the
    /// slot has arrived, the subscribers are there.
    async fn send_to_owners(
        &self,
        groups: &[&[Item<'_>]],
        results: &[Result<Published, Failure>],
        asking: &BTreeSet<usize>,
        deadline: Instant,
    ) {
        if asking.is_empty() {
            return;
        }
        let items = groups.iter().enumerate();
        let items = items.flat_map(|(index, group)| group.iter().map(move |item| (index, item)));
        let sent = items.zip(results).filter_map(|((index, item), result)| {
            let published = result.as_ref().ok()?;
            (asking.contains(&index) && !published.duplicate).then(|| {
                (
                    &item.target.channel,
                    envelope::positioned(item.envelope, published.position.as_ref()),
                )
            })
        });
        let sent: Vec<_> = sent.collect();
        let bytes: usize = sent.iter().map(|(_, envelope)| envelope.len()).sum();
        let ask = Ask {
            count: sent.len(),
            deadline: Some(deadline),
            ..Ask::one(Kind::Publish, bytes / sent.len().max(1))
        };
        let send = |index: usize, _: Call<'_>| {
            let (channel, envelope) = &sent[index];
            self.streams.send(channel, envelope)
        };
        // Who misses it finds out by the next publication, or when the slot has arrived.
        self.servers.ask(ask, |index| sent[index].0.as_str(), send).await;
    }

    /// What the answer to a command says of its items. An answer that cannot be understood is no reason to try again.
    fn published(
        &self,
        answer: Result<Value, Failure>,
        group: &[Item<'_>],
        presented: &str,
    ) -> Vec<Result<Published, Failure>> {
        let outcomes = answer.and_then(|answer| {
            let outcomes = self.understand(answer, streams::published);
            outcomes.map_err(Failure::done)
        });
        let outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            Err(failure) => return vec![Err(failure); group.len()],
        };
        let results = outcomes
            .into_iter()
            .zip(group)
            .map(|(outcome, item)| match outcome {
                Outcome::Published(published) => {
                    self.remember(item.target, &published, presented);
                    Ok(published)
                }
                Outcome::Refused(why) => Err(Failure::done(self.peer.refused(why))),
            });
        let mut results: Vec<_> = results.collect();
        let missing = || Failure::done(self.peer.away("it did not answer for every publication"));
        results.resize_with(group.len(), || Err(missing()));
        results
    }

    /// Evidence of the stream that a group of items is for.
    fn known(&self, group: &[Item<'_>]) -> String {
        if group.iter().all(|item| item.target.retention.is_none()) {
            return String::new();
        }
        self.evidence.of(&group[0].target.channel)
    }

    fn remember(&self, target: &Target, published: &Published, presented: &str) {
        let (Some(position), Some(retention)) = (&published.position, target.retention) else {
            return;
        };
        let lasting = bounded(retention.ttl) + REMEMBERED;
        if published.duplicate {
            self.evidence.add(&target.channel, position, lasting);
        } else {
            self.evidence
                .replace(&target.channel, presented, position, lasting);
        }
    }
}

/// Every item is a command of its own.
pub(super) fn each(_: &Item<'_>, _: &Item<'_>) -> bool {
    false
}
