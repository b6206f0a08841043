//! `PublishBatch`: some events for each channel in one call; those that were not accepted again, in order.

use std::time::Duration;

use tidings_proto::fanout::{PublishBatchRequest, fanout_client::FanoutClient};
use tokio::time::sleep;

use super::{DEADLINE, Desk, PAUSE};

/// Events for each channel in one call.
const EACH: u32 = 20;

/// Between two batches.
const PACE: Duration = Duration::from_millis(800);

pub(super) async fn run(desk: Desk) {
    let mut fanout = 0;
    let mut first = 1;
    let (each, pace) = desk.rhythm(EACH, PACE);
    while desk.is_open() {
        let numbers = first..first + each;
        let mut open: Vec<_> = numbers
            .flat_map(|n| (0..desk.channels.len()).map(move |channel| (channel, n)))
            .map(|(channel, n)| desk.outgoing(channel, n))
            .collect();
        while !open.is_empty() {
            let backend = &desk.backends[fanout];
            let events = open.iter().map(|&outgoing| desk.event(outgoing)).collect();
            let mut request = backend.request(PublishBatchRequest { events });
            request.set_timeout(DEADLINE);
            let answer = FanoutClient::new(backend.channel()).publish_batch(request).await;
            let answers = answer.map(|answer| answer.into_inner().responses);
            let mut answers = answers.unwrap_or_default().into_iter();
            open.retain(|&outgoing| {
                let answer = answers.next();
                !answer.is_some_and(|answer| desk.note(outgoing, fanout, &answer))
            });
            if !open.is_empty() {
                fanout = (fanout + 1) % desk.backends.len();
                sleep(PAUSE).await;
            }
        }
        first += each;
        sleep(pace).await;
    }
}
