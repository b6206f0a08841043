//! What one publisher publishes to one channel is there, and delivered, in its order, and once.

use std::collections::{BTreeMap, BTreeSet};

use tidings_tests::checker::{Moment, publisher};

use super::{Channel, Findings, heard, is_notice};
use crate::{clients::Kind, plan::Process, publishers::Way};

pub(super) fn check(channel: &Channel<'_>, findings: &mut Findings) {
    let name = channel.name;
    if let Some(kept) = channel.kept {
        let mut order = Order::default();
        for (offset, number) in &kept.numbers {
            if let Some(before) = order.next(channel, *number) {
                let (who, n) = publisher(*number);
                findings.fault(
                    "order of a publisher",
                    format!(
                        "{name}: number {n} of publisher {who} ({}) is at {offset}, behind {before}",
                        way(who)
                    ),
                );
            }
        }
    }
    let loses = channel.facts.losses() > 0;
    for seen in channel.clients() {
        // Without positions nobody is told of a loss, after which what had no answer is published again; and the newest that a
        // cache has after it may be older than what it had before.
        if matches!(seen.kind, Kind::Plain | Kind::Cache) && loses {
            continue;
        }
        let (mut order, mut got) = (Order::default(), BTreeSet::new());
        for moment in &seen.history.moments {
            if is_notice(moment) && loses {
                (order, got) = (Order::default(), BTreeSet::new());
            }
            let Some((at, number)) = heard(moment) else {
                continue;
            };
            let (who, n) = publisher(number);
            let client = &seen.history.client;
            if !got.insert(number) {
                // A cache gives its newest again to whoever comes back.
                if seen.kind != Kind::Cache {
                    findings.fault(
                        "duplicates",
                        format!("{client}: number {n} of publisher {who} again at {at:?}"),
                    );
                }
            } else if let Some(before) = order.next(channel, number) {
                findings.fault(
                    "order of delivery",
                    format!(
                        "{client}: number {n} of publisher {who} ({}) at {at:?} after {before}",
                        way(who)
                    ),
                );
            }
        }
    }
    for seen in channel.clients() {
        let first = seen
            .history
            .moments
            .iter()
            .find(|moment| !matches!(moment, Moment::Left));
        if first.is_none() {
            findings.fault("deaf", format!("{} never got anything", seen.history.client));
        }
    }
}

/// The highest number of each publisher so far.
#[derive(Default)]
struct Order(BTreeMap<u32, u32>);

impl Order {
    /// The higher one that was there before, if there is one and the publisher's order is promised.
    fn next(&mut self, channel: &Channel<'_>, number: u64) -> Option<u32> {
        let (who, n) = publisher(number);
        let highest = self.0.entry(who).or_default();
        let before = *highest;
        *highest = before.max(n);
        (before > n && is_promised(channel, who)).then_some(before)
    }
}

/// What a source's dead reader had in hand comes later: that is documented.
fn is_promised(channel: &Channel<'_>, who: u32) -> bool {
    way(who) != "Source" || !channel.facts.plan.kills(Process::Fanout(0))
}

/// How a publisher publishes; publishers take turns.
fn way(who: u32) -> String {
    let ways = Way::ALL.len();
    let index = usize::try_from(who).expect("a small number") % ways;
    format!("{:?}", Way::ALL[index])
}
