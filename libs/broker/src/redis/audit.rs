//! Compares what was acknowledged with what Redis has, whenever it may have lost something: at each new connection of a
//! monitor, when a connection for commands leads to another generation, and when an acknowledgement arrives late.

use std::{collections::HashSet, sync::Weak, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tidings_core::Channel;
use tracing::warn;

use super::{Bus, link::backoff};
use crate::Error;

/// Streams that are compared in one request.
const PART: usize = 512;

/// Requests at a time: a primary that does not answer holds up those that are under way with it, and no others.
const PARTS: usize = 16;

/// Between two comparisons.
const PAUSE: Duration = Duration::from_millis(100);

/// Runs until the bus is dropped.
pub(super) async fn run(bus: Weak<Bus>) {
    let Some(suspected) = bus.upgrade().map(|bus| bus.suspected.clone()) else {
        return;
    };
    let mut open: HashSet<Channel> = HashSet::new();
    let mut raised = 0;
    let mut delays = backoff();
    loop {
        // What could not be compared is tried again, and holds up no new one.
        let retry = async {
            match open.is_empty() {
                true => std::future::pending().await,
                false => tokio::time::sleep(delays.next().unwrap_or_default()).await,
            }
        };
        tokio::select! {
            () = suspected.changed() => {}
            () = retry => {}
        }
        let Some(bus) = bus.upgrade() else { return };
        open.extend(suspected.take_late());
        let count = suspected.count();
        if std::mem::replace(&mut raised, count) != count {
            open.extend(bus.evidence.channels());
        }
        let asked: Vec<Channel> = open.drain().collect();
        open = compare(&bus, &asked).await;
        if open.is_empty() {
            delays = backoff();
        }
        // Under load something may be late all the time.
        tokio::time::sleep(PAUSE).await;
    }
}

/// Compares streams. Returns those that did not answer.
async fn compare(bus: &Bus, channels: &[Channel]) -> HashSet<Channel> {
    let mut parts = FuturesUnordered::new();
    let mut unanswered = HashSet::new();
    for part in channels.chunks(PART) {
        if parts.len() >= PARTS {
            unanswered.extend(parts.next().await.into_iter().flatten());
        }
        parts.push(compare_part(bus, part));
    }
    while let Some(part) = parts.next().await {
        unanswered.extend(part);
    }
    unanswered
}

/// A stream that is not as far as it was gets another epoch by being asked, which is all that is wanted.
async fn compare_part(bus: &Bus, part: &[Channel]) -> Vec<Channel> {
    let asked = part.iter().filter(|channel| !bus.evidence.of(channel).is_empty());
    let asked: Vec<&Channel> = asked.collect();
    let answers = bus.compare(&asked, |index| bus.evidence.of(asked[index])).await;
    let mut unanswered = Vec::new();
    for (channel, answer) in asked.iter().zip(answers) {
        match answer {
            Ok(_) => {}
            Err(Error::Away { .. }) => unanswered.push((*channel).clone()),
            // A wrong type or a missing permission: asking again would not help.
            Err(error) => {
                warn!(channel.name = %channel, %error, "cannot compare what was acknowledged with the stream");
            }
        }
    }
    unanswered
}
