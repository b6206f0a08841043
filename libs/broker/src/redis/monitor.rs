//! Keeps one idle connection, so that a process knows how Redis is even when it only publishes, or does nothing.

use std::sync::Arc;

use tokio::sync::Notify;

use super::{
    health::Part,
    link::{Connector, backoff},
    suspected::Suspected,
};

/// Connects, reports, waits for the loss, and again, forever. `suspected` and `connected` get to know of each connection: Redis
/// may have lost something before it, and be used by others.
pub(super) async fn run(connector: Connector, part: Part, suspected: Arc<Suspected>, connected: Arc<Notify>) {
    let mut delays = backoff();
    loop {
        let why = match connector.connect(|_, _| {}).await {
            Ok(mut link) => {
                part.up();
                suspected.raise();
                connected.notify_one();
                delays = backoff();
                link.lost().await
            }
            Err(why) => why,
        };
        part.away(connector.away(&why));
        tokio::time::sleep(delays.next().unwrap_or_default()).await;
    }
}
