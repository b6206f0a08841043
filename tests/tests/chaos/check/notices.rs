//! Nobody is told of a loss without one, nor more than once for each; nor do offsets jump without a cause.

use std::collections::BTreeMap;

use tidings_tests::checker::{Moment, Place};

use super::{Channel, Findings, Seen};
use crate::clients::Kind;

/// A client that has missed more than this may be told so: the documented bound is 300.
const FAR: u64 = 250;

/// More than this is not left out by chance.
const JUMP: u64 = 1 << 30;

pub(super) fn check(channel: &Channel<'_>, findings: &mut Findings) {
    let name = channel.name;
    let causeless = channel.lost.is_empty() && channel.facts.plan.former_primaries() == 0;
    if causeless && channel.epochs.len() > 1 {
        let what = format!("{name}: {:?}, jumps {:?}", reach(channel), jumps(channel));
        findings.fault("a new epoch without a loss", what);
    }
    let jumps = jumps(channel).len();
    let generations = channel.facts.plan.generations();
    if jumps > generations {
        findings.fault(
            "offset jumps without a cause",
            format!("{name}: {jumps}, {generations} at most"),
        );
    }
    let losses = channel.facts.losses();
    for seen in channel.clients() {
        let notices = notices(channel, seen);
        findings.notices += notices.len();
        let client = &seen.history.client;
        if let (Some(first), true) = (notices.first(), causeless) {
            findings.fault(
                "a notice without a loss",
                format!("{client}: {} notices, the first after {first}", notices.len()),
            );
        } else if notices.len() > losses {
            findings.fault(
                "more notices than losses",
                format!(
                    "{client}: {losses} losses at most, but notices after {}",
                    notices.join("; ")
                ),
            );
        }
    }
}

/// What is kept right before and right after each offset jump.
fn jumps(channel: &Channel<'_>) -> Vec<(u64, u64)> {
    let offsets = channel.kept.iter().flat_map(|kept| kept.numbers.keys().copied());
    let pairs = offsets.clone().zip(offsets.skip(1));
    pairs.filter(|(before, after)| after - before > JUMP).collect()
}

/// The first and the last offset of each epoch, as far as publishers were told.
fn reach<'a>(channel: &'a Channel<'_>) -> BTreeMap<&'a str, (u64, u64)> {
    let mut reach = BTreeMap::new();
    let told = channel.accepted().filter_map(|it| it.at.as_ref());
    for Place { epoch, offset } in told {
        let (first, last) = reach.entry(epoch.as_str()).or_insert((*offset, *offset));
        (*first, *last) = ((*first).min(*offset), (*last).max(*offset));
    }
    reach
}

/// The notices of a client that have no documented reason: what came before each.
fn notices(channel: &Channel<'_>, seen: &Seen) -> Vec<String> {
    let mut found = Vec::new();
    let mut reached: Option<&Place> = None;
    // A notice, and the answer to the subscribe that follows from it, are one.
    let mut is_told = false;
    for moment in &seen.history.moments {
        match moment {
            Moment::Told => {
                found.push(format!("{reached:?}"));
                is_told = true;
            }
            Moment::Subscribed { at, recovered } => {
                // A cache in which nothing is cannot be recovered, whether there was anything or not.
                let is_empty = seen.kind == Kind::Cache && at.offset == 0;
                let is_notice = *recovered == Some(false) && !is_told;
                if is_notice && !is_empty && !is_far(channel, reached, at) {
                    found.push(format!("{reached:?}, subscribed at {at:?}"));
                }
                is_told = false;
                reached = Some(at);
            }
            Moment::Heard { at, .. } => reached = Some(at),
            Moment::Left => {}
        }
    }
    found
}

/// Whether a client was so far behind that it need not recover.
fn is_far(channel: &Channel<'_>, reached: Option<&Place>, at: &Place) -> bool {
    let (Some(reached), Some(kept)) = (reached, channel.kept) else {
        return false;
    };
    // Of a client that received nothing since before the first publication, nobody knows in which epoch it was.
    let is_same = reached.epoch == at.epoch || reached.is_provisional();
    if !is_same || at.offset <= reached.offset {
        return false;
    }
    let between = at.offset - reached.offset;
    // Without a jump, offsets say it, even where nobody was told of what a source published in an epoch that is gone.
    let gone = channel
        .lost
        .keys()
        .filter(|place| place.epoch == at.epoch && (reached.offset..at.offset).contains(&place.offset));
    let known = kept.numbers.range(reached.offset..at.offset).count() + gone.count();
    (between < JUMP && between > FAR) || known as u64 > FAR
}
