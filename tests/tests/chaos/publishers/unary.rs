//! `Publish`: in each channel one event after the other, each until it is accepted; channels do not wait for each other.

use std::time::Duration;

use futures_util::future::join_all;
use tidings_proto::fanout::{PublishRequest, fanout_client::FanoutClient};
use tokio::time::sleep;

use super::{DEADLINE, Desk, PAUSE};

/// Between two events of a channel.
const PACE: Duration = Duration::from_millis(60);

pub(super) async fn run(desk: Desk) {
    let channels = (0..desk.channels.len()).map(|channel| each(&desk, channel));
    join_all(channels).await;
}

async fn each(desk: &Desk, channel: usize) {
    let mut fanout = 0;
    let (_, pace) = desk.rhythm(1, PACE);
    for n in 1.. {
        if !desk.is_open() {
            return;
        }
        let outgoing = desk.outgoing(channel, n);
        loop {
            let backend = &desk.backends[fanout];
            let event = Some(desk.event(outgoing));
            let mut request = backend.request(PublishRequest { event });
            request.set_timeout(DEADLINE);
            let answer = FanoutClient::new(backend.channel()).publish(request).await;
            if answer.is_ok_and(|answer| desk.note(outgoing, fanout, answer.get_ref())) {
                break;
            }
            fanout = (fanout + 1) % desk.backends.len();
            sleep(PAUSE).await;
        }
        sleep(pace).await;
    }
}
