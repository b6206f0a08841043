//! How many publications a second one process gets through Redis: `cargo run --release -p tidings-broker --example
//! publishes`. Ratios are what counts; the absolute figures are those of the machine.

use std::{sync::Arc, time::SystemTime};

use tidings_broker::{Broker, Target, test_util::RedisServer};
use tidings_core::{Channel, Format, Publication};
use tokio::{task::JoinSet, time::Instant};

/// Of each measurement.
const PUBLISHES: usize = 40_000;

#[tokio::main]
async fn main() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = Broker::redis(&server.config()).expect("the address of a server on loopback");
    let publication = Arc::new(Publication::new(
        vec![b'1'; 128].into(),
        Format::Json,
        SystemTime::UNIX_EPOCH,
    ));
    let channels: Vec<Target> = (0..100)
        .map(|n| Channel::parse(&format!("tasks:{n}")).expect("a name").into())
        .collect();

    println!("callers  channels  publications/s");
    for (callers, each) in [(1, 1), (16, 1), (256, 1), (1, 100), (16, 100)] {
        let mut tasks = JoinSet::new();
        let begin = Instant::now();
        for caller in 0..callers {
            let (publisher, publication, channels) =
                (broker.publisher(), publication.clone(), channels.clone());
            tasks.spawn(async move {
                for n in 0..PUBLISHES / callers / each {
                    let first = (caller + n) % (channels.len() - each + 1);
                    for result in publisher
                        .publish(&channels[first..first + each], &publication)
                        .await
                    {
                        result.expect("Redis is there");
                    }
                }
            });
        }
        tasks.join_all().await;
        let rate = PUBLISHES as f64 / begin.elapsed().as_secs_f64();
        println!("{callers:>7}  {each:>8}  {rate:>14.0}");
    }
}
