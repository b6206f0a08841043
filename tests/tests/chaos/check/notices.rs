//! Nobody is told of a loss without one, nor more than once for each; nor do offsets jump without a cause.

use tidings_tests::checker::{Moment, Place};

use super::{Channel, Findings, Seen};

/// A client that has missed more than this may be told so: the documented bound is 300.
const FAR: usize = 250;

/// More than this is not left out by chance.
const JUMP: u64 = 1 << 30;

pub(super) fn check(channel: &Channel<'_>, findings: &mut Findings) {
    let name = channel.name;
    if channel.lost.is_empty() && channel.epochs.len() > 1 {
        let epochs = channel.epochs.len();
        findings.fault("a new epoch without a loss", format!("{name}: {epochs} epochs"));
    }
    let offsets: Vec<u64> = channel
        .kept
        .iter()
        .flat_map(|kept| kept.numbers.keys().copied())
        .collect();
    let jumps = offsets.windows(2).filter(|pair| pair[1] - pair[0] > JUMP).count();
    let generations = channel.facts.plan.generations();
    if jumps > generations {
        findings.fault(
            "offset jumps without a cause",
            format!("{name}: {jumps}, {generations} at most"),
        );
    }
    let losses = channel.facts.plan.losses();
    for seen in channel.clients() {
        let notices = notices(channel, seen);
        findings.notices += notices.len();
        let client = &seen.history.client;
        if let (Some(first), true) = (notices.first(), channel.lost.is_empty()) {
            findings.fault(
                "a notice without a loss",
                format!("{client}: {} notices, the first after {first}", notices.len()),
            );
        } else if notices.len() > losses {
            findings.fault(
                "more notices than losses",
                format!("{client}: {} notices, {losses} losses at most", notices.len()),
            );
        }
    }
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
                if *recovered == Some(false) && !is_told && !is_far(channel, reached, at) {
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
    reached.epoch == at.epoch
        && reached.offset < at.offset
        && kept.numbers.range(reached.offset..at.offset).count() > FAR
}
