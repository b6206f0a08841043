//! What was acknowledged is delivered, or every client that should have had it is told.

use std::collections::BTreeSet;

use tidings_tests::checker::{Moment, Place};

use super::{Channel, Findings, Kept, NOTICE, Seen, heard, is_notice};
use crate::{clients::Kind, ledger::Accepted, plan::Process};

pub(super) fn check(channel: &Channel<'_>, kept: &Kept, findings: &mut Findings) {
    let lost: Vec<&Accepted> = channel
        .accepted()
        .filter(|it| it.at.as_ref().is_some_and(|at| channel.lost.contains_key(at)))
        .filter(|it| somebody_knows(channel, it))
        .collect();
    // Whoever knows of it presents it to the stream, which leaves the epoch.
    for it in &lost {
        if let Some(at) = it.at.as_ref().filter(|at| at.epoch == kept.top.epoch) {
            let name = channel.name;
            findings.fault("a loss without a new epoch", format!("{name}: {at:?} is gone"));
        }
    }
    // A cache has the newest, and leaves out what was before it.
    for seen in channel.clients().filter(|seen| seen.kind != Kind::Cache) {
        let got: BTreeSet<u64> = seen
            .history
            .moments
            .iter()
            .filter_map(heard)
            .map(|(_, number)| number)
            .collect();
        let missed = lost.iter().filter(|it| !got.contains(&it.number));
        for it in missed {
            let Some(at) = &it.at else { continue };
            let Some(index) = passed_over(seen, at).filter(|&index| !is_told(seen, index)) else {
                continue;
            };
            let moments = &seen.history.moments[index.saturating_sub(1)..=index];
            let client = &seen.history.client;
            findings.fault(
                "a loss that nobody was told of",
                format!("{client}: {at:?} is gone and was passed over: {moments:?}"),
            );
        }
    }
    // A source does not say where: it is there, or something was lost.
    let numbers: BTreeSet<u64> = kept.numbers.values().copied().collect();
    let delivered: BTreeSet<u64> = channel
        .clients()
        .flat_map(|seen| &seen.history.moments)
        .filter_map(heard)
        .map(|(_, number)| number)
        .collect();
    let from_source = channel
        .facts
        .from_source
        .iter()
        .filter(|it| it.channel == channel.index);
    for it in from_source {
        if !numbers.contains(&it.number) && !delivered.contains(&it.number) && channel.facts.losses() == 0 {
            let name = channel.name;
            findings.fault("a source's event is gone", format!("{name}: {it:?}"));
        }
    }
}

/// Whether anybody is left who knows that it was there: the fanout that had the answer, or a gateway that delivered it.
/// The first gateway is never killed.
fn somebody_knows(channel: &Channel<'_>, it: &Accepted) -> bool {
    let plan = channel.facts.plan;
    let fanout = it.fanout.is_some_and(|index| !plan.kills(Process::Fanout(index)));
    let delivered = |seen: &Seen| {
        let moments = seen.history.moments.iter().zip(&seen.history.stamps);
        let mut here = moments
            .filter(|(_, stamp)| stamp.via == 0)
            .filter_map(|(moment, _)| heard(moment));
        here.any(|(at, _)| Some(at) == it.at.as_ref())
    };
    fanout || channel.clients().any(delivered)
}

/// The moment that is beyond a place in the same epoch, coming from before it without a notice.
fn passed_over(seen: &Seen, place: &Place) -> Option<usize> {
    let mut reached: Option<&Place> = None;
    for (index, moment) in seen.history.moments.iter().enumerate() {
        match moment {
            // It does not know what it missed, and knows that.
            Moment::Told
            | Moment::Left
            | Moment::Subscribed {
                recovered: Some(false) | None,
                ..
            } => reached = None,
            Moment::Heard { at, .. } => {
                if reached.is_some_and(|reached| reached.epoch == place.epoch && reached < place)
                    && at.epoch == place.epoch
                    && at > place
                {
                    return Some(index);
                }
            }
            Moment::Subscribed { .. } => {}
        }
        if let Moment::Heard { at, .. } | Moment::Subscribed { at, .. } = moment {
            reached = Some(at);
        }
    }
    None
}

/// Whether it was told soon after.
fn is_told(seen: &Seen, index: usize) -> bool {
    let moments = seen.history.moments.iter().zip(&seen.history.stamps);
    let Some(from) = seen.history.stamps.get(index) else {
        return false;
    };
    moments
        .skip(index)
        .take_while(|(_, stamp)| stamp.at <= from.at + NOTICE)
        .any(|(moment, _)| is_notice(moment))
}
