//! The invariants, checked on what publishers and clients wrote down and on what the streams hold in the end. Pure.

mod loss;
mod notices;
mod order;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use tidings_tests::checker::{Checker, History, Moment, Place};
use tokio::time::Duration;

use crate::{clients::Kind, ledger::Accepted, plan::Plan};

/// A client that passed over a loss is told within this: when those who know of it are asked, and not before.
pub(crate) const NOTICE: Duration = Duration::from_secs(10);

/// What one run left behind.
pub(crate) struct Facts<'a> {
    pub(crate) plan: &'a Plan,
    /// How often primaries were replaced, planned or not.
    pub(crate) failovers: usize,
    pub(crate) channels: &'a [String],
    /// What publishers had accepted.
    pub(crate) accepted: Vec<Accepted>,
    /// What a source had accepted: it does not say where.
    pub(crate) from_source: Vec<Accepted>,
    /// What each channel holds in the end; `None` where nothing is kept.
    pub(crate) kept: Vec<Option<Kept>>,
    pub(crate) clients: Vec<Seen>,
}

impl Facts<'_> {
    /// How many losses there may have been, each of which is one notice at most to each client of a channel.
    fn losses(&self) -> usize {
        // What a former primary acknowledges after the epoch has changed is one more.
        self.plan.losses().max(self.failovers) + self.plan.former_primaries()
    }
}

/// A stream as it is in the end.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) top: Place,
    pub(crate) numbers: BTreeMap<u64, u64>,
}

/// What a client wrote down.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) channel: usize,
    pub(crate) kind: Kind,
    pub(crate) history: History,
}

/// What was counted, and what is wrong.
#[derive(Debug, Default, Clone)]
pub(crate) struct Findings {
    pub(crate) publications: usize,
    pub(crate) deliveries: usize,
    pub(crate) notices: usize,
    pub(crate) epochs: usize,
    pub(crate) lost: usize,
    /// By invariant.
    pub(crate) faults: BTreeMap<&'static str, Vec<String>>,
}

impl Findings {
    pub(crate) fn fault(&mut self, invariant: &'static str, what: String) {
        self.faults.entry(invariant).or_default().push(what);
    }

    /// Some of each kind, a line each.
    pub(crate) fn report(&self) -> String {
        const SOME: usize = 4;
        let mut report = String::new();
        for (invariant, faults) in &self.faults {
            report.push_str(&format!("{invariant}: {} times\n", faults.len()));
            for fault in faults.iter().take(SOME) {
                report.push_str(&format!("    {fault}\n"));
            }
        }
        report
    }
}

/// One channel, as all the checks look at it.
struct Channel<'a> {
    facts: &'a Facts<'a>,
    index: usize,
    name: &'a str,
    kept: Option<&'a Kept>,
    /// Places that were acknowledged or delivered and hold something else, or nothing, in the end.
    lost: BTreeMap<Place, u64>,
    epochs: BTreeSet<&'a str>,
}

impl<'a> Channel<'a> {
    fn of(facts: &'a Facts<'a>, index: usize) -> Self {
        let mut channel = Self {
            facts,
            index,
            name: &facts.channels[index],
            kept: facts.kept[index].as_ref(),
            lost: BTreeMap::new(),
            epochs: BTreeSet::new(),
        };
        let Some(kept) = channel.kept else {
            return channel;
        };
        channel.epochs.insert(&kept.top.epoch);
        let acknowledged = channel
            .accepted()
            .filter_map(|it| Some((it.at.as_ref()?, it.number)));
        let delivered = channel
            .clients()
            .flat_map(|seen| &seen.history.moments)
            .filter_map(heard);
        for (at, number) in acknowledged.chain(delivered).collect::<Vec<_>>() {
            channel.epochs.insert(&at.epoch);
            if kept.numbers.get(&at.offset) != Some(&number) {
                channel.lost.insert(at.clone(), number);
            }
        }
        channel
    }

    fn accepted(&self) -> impl Iterator<Item = &'a Accepted> + use<'a> {
        let index = self.index;
        self.facts.accepted.iter().filter(move |it| it.channel == index)
    }

    fn clients(&self) -> impl Iterator<Item = &'a Seen> + use<'a> {
        let index = self.index;
        self.facts.clients.iter().filter(move |it| it.channel == index)
    }
}

/// A publication that a client got.
pub(crate) fn heard(moment: &Moment) -> Option<(&Place, u64)> {
    match moment {
        Moment::Heard { at, number } => Some((at, *number)),
        _ => None,
    }
}

/// Whether a client was told that it may have missed something.
fn is_notice(moment: &Moment) -> bool {
    match moment {
        Moment::Told => true,
        Moment::Subscribed { recovered, .. } => *recovered == Some(false),
        Moment::Heard { .. } | Moment::Left => false,
    }
}

/// Checks everything.
pub(crate) fn check(facts: &Facts<'_>) -> Findings {
    let mut findings = Findings {
        publications: facts.accepted.len() + facts.from_source.len(),
        ..Findings::default()
    };
    for index in 0..facts.channels.len() {
        let channel = Channel::of(facts, index);
        findings.lost += channel.lost.len();
        findings.epochs = findings.epochs.max(channel.epochs.len());
        for seen in channel.clients() {
            findings.deliveries += seen.history.moments.iter().filter_map(heard).count();
        }
        order::check(&channel, &mut findings);
        if let Some(kept) = channel.kept {
            positions(&channel, kept, &mut findings);
            loss::check(&channel, kept, &mut findings);
            notices::check(&channel, &mut findings);
        }
    }
    findings
}

/// No hole, no duplicate, nothing out of order by its position; what was acknowledged is where it was said to be; each client
/// is where the stream is.
fn positions(channel: &Channel<'_>, kept: &Kept, findings: &mut Findings) {
    let mut checker = Checker::default();
    for it in channel.accepted() {
        // What was lost is looked at by `loss`: its clients have some time to be told.
        if let Some(at) = it.at.as_ref().filter(|at| !channel.lost.contains_key(at)) {
            checker.acknowledged(at, it.number);
        }
    }
    checker.kept(&kept.top.epoch, &kept.numbers);
    for seen in channel.clients().filter(|seen| seen.kind != Kind::Cache) {
        checker.look(&seen.history, &kept.top);
    }
    if let Err(faults) = checker.verdict() {
        for fault in faults.lines() {
            findings.fault("positions", fault.to_owned());
        }
    }
    for seen in channel.clients().filter(|seen| seen.kind == Kind::Cache) {
        let newest = seen.history.moments.iter().rev().find_map(heard);
        let newest = newest.map(|(at, _)| at);
        if newest != Some(&kept.top) {
            let client = &seen.history.client;
            findings.fault(
                "cache",
                format!("{client} has {newest:?}, the newest is {:?}", kept.top),
            );
        }
    }
}
