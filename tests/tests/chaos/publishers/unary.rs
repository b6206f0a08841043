//! `Publish`: one event after the other, each until it is accepted.

use std::time::Duration;

use tidings_proto::fanout::{PublishRequest, fanout_client::FanoutClient};
use tokio::time::sleep;

use super::{DEADLINE, Desk, PAUSE};

/// Between two events.
const PACE: Duration = Duration::from_millis(15);

pub(super) async fn run(desk: Desk) {
    let mut fanout = 0;
    for n in 1.. {
        for channel in 0..desk.channels.len() {
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
            sleep(PACE).await;
        }
    }
}
