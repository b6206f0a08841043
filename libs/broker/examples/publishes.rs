//! How many publications a second one process gets through Redis, and how long a check of positions takes: `cargo run
//! --release -p tidings-broker --example publishes`. Ratios are what counts; the absolute figures are those of the machine.

use std::{num::NonZeroU32, sync::Arc, time::Duration, time::SystemTime};

use tidings_broker::{Broker, Once, Target, test_util::RedisServer};
use tidings_core::{Channel, Format, Publication, Retention};
use tokio::{task::JoinSet, time::Instant};

/// Of each measurement.
const PUBLICATIONS: usize = 40_000;

/// As many as there are different ones of.
const CHANNELS: usize = 100;

/// What is asked of a channel.
#[derive(Clone, Copy)]
enum Kind {
    /// A connection of the pool for each, which it asks first whether it lives: what a line saves.
    Pool,
    Ephemeral,
    Kept,
    KeptOnce,
}

#[tokio::main]
async fn main() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let broker = Broker::redis(&server.config()).expect("the address of a server on loopback");
    println!("publications/s       1 caller  16 callers  256 callers  1 caller, 100 channels at once");
    for (name, kind) in [
        ("pool, not kept", Kind::Pool),
        ("not kept", Kind::Ephemeral),
        ("kept", Kind::Kept),
        ("kept, with key", Kind::KeptOnce),
    ] {
        let mut rates = Vec::new();
        for (callers, at_once) in [(1, 1), (16, 1), (256, 1), (1, CHANNELS)] {
            rates.push(measure(&broker, kind, callers, at_once).await);
        }
        let [one, some, many, batch] = rates[..] else {
            return;
        };
        println!("{name:<18} {one:>10.0} {some:>11.0} {many:>12.0} {batch:>12.0}");
    }
    let name = |n| Channel::parse(&format!("quiet:{n}")).expect("a name");
    let channels: Vec<_> = (0..1000).map(name).collect();
    let begin = Instant::now();
    let asked: Vec<_> = channels.iter().map(|channel| (channel, None)).collect();
    for position in broker.streams().positions(&asked).await {
        position.expect("Redis is there");
    }
    println!("positions of {} channels: {:?}", channels.len(), begin.elapsed());
}

async fn measure(broker: &Broker, kind: Kind, callers: usize, at_once: usize) -> f64 {
    let publication = Arc::new(Publication::new(
        vec![b'1'; 128].into(),
        Format::Json,
        SystemTime::UNIX_EPOCH,
    ));
    let mut tasks = JoinSet::new();
    let begin = Instant::now();
    for caller in 0..callers {
        let (broker, publication) = (broker.clone(), publication.clone());
        tasks.spawn(async move {
            let publisher = broker.publisher();
            for n in 0..PUBLICATIONS / callers / at_once {
                let targets: Vec<_> = (0..at_once).map(|at| target(kind, caller * 7 + n + at)).collect();
                if matches!(kind, Kind::Pool) {
                    for target in &targets {
                        by_pool(&broker, target).await;
                    }
                    continue;
                }
                for result in publisher.publish(&targets, &publication).await {
                    assert!(!result.expect("Redis is there").duplicate);
                }
            }
        });
    }
    tasks.join_all().await;
    PUBLICATIONS as f64 / begin.elapsed().as_secs_f64()
}

async fn by_pool(broker: &Broker, target: &Target) {
    let pool = broker.redis_pool().expect("the broker is on Redis");
    let mut connection = pool.get().await.expect("Redis is there");
    let mut command = redis::cmd("PUBLISH");
    command.arg(target.channel.as_str()).arg(&[b'1'; 180]);
    command.exec_async(&mut connection).await.expect("Redis is there");
}

fn target(kind: Kind, number: usize) -> Target {
    let retention = Retention {
        size: const { NonZeroU32::new(1000).expect("not zero") },
        ttl: Duration::from_secs(600),
    };
    Target {
        channel: Channel::parse(&format!("tasks:{}", number % CHANNELS)).expect("a name"),
        retention: matches!(kind, Kind::Kept | Kind::KeptOnce).then_some(retention),
        once: matches!(kind, Kind::KeptOnce).then(|| Once::new(new_key())),
        version: None,
    }
}

/// A key that nobody had before.
fn new_key() -> String {
    tidings_core::ClientId::random().to_string()
}
