//! Asks for what was acknowledged whenever Redis may have lost it: at each new connection of the monitor, and when a
//! connection for commands leads to another generation.

use std::sync::Weak;

use super::{Bus, link::backoff};

/// Streams that are asked for at a time.
const PART: usize = 512;

/// Runs until the bus is dropped.
pub(super) async fn run(bus: Weak<Bus>) {
    loop {
        let Some(suspicion) = bus.upgrade().map(|bus| bus.suspicion.clone()) else {
            return;
        };
        suspicion.notified().await;
        let Some(mut open) = bus.upgrade().map(|bus| bus.acknowledged.all()) else {
            return;
        };
        let mut delays = backoff();
        while !open.is_empty() {
            let Some(bus) = bus.upgrade() else { return };
            // A stream that is not as far as it was gets another epoch by being asked, which is all that is wanted.
            let mut failed = Vec::new();
            for part in open.chunks(PART) {
                let asked = part.iter().map(|(channel, known)| (channel, Some(known)));
                let answers = bus.positions(&asked.collect::<Vec<_>>()).await;
                let unanswered = part.iter().zip(answers).filter(|(_, answer)| answer.is_err());
                failed.extend(unanswered.map(|(asked, _)| asked.clone()));
            }
            open = failed;
            drop(bus);
            if !open.is_empty() {
                tokio::time::sleep(delays.next().unwrap_or_default()).await;
            }
        }
    }
}
