//! The scene of a fault: nodes on a Redis behind a wire, publishers that number what they say, clients that write down what
//! they get; and at the end the question whether all is well.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::Value;
use tidings_tests::{
    Backend, Client, Launch, Redis, Tidings,
    checker::{Checker, Place},
    event, eventually,
    fault::Faulty,
    roamer::{Roam, Roamer, number},
    token,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};
use tokio_util::task::TaskTracker;

/// What the nodes are configured with: one namespace of streams.
const CONFIG: &str = r#"
[clients.token]
hmac_secret = "a secret of the tests, long enough"

[[backends.key]]
name = "tests"
key = "the-key-of-the-tests"

[[namespace]]
name = "tasks"
history_size = 5000
history_ttl = "10m"
allow_recovery = true
allow_subscribe_for_client = true
allow_history_for_client = true
"#;

/// The one stream that everybody is after.
const CHANNEL: &str = "tasks:1";

/// How often a publisher speaks.
const PACE: Duration = Duration::from_millis(5);

/// Everything that plays a part. Ends when it is dropped.
pub(crate) struct Scene {
    pub(crate) redis: Redis,
    pub(crate) wire: Faulty,
    pub(crate) nodes: Vec<Tidings>,
    roamers: Vec<Roamer>,
    acknowledged: Arc<Mutex<Vec<(Place, u64)>>>,
    speaking: Arc<AtomicBool>,
    publisher: tokio::task::JoinHandle<()>,
    pub(crate) seed: u64,
}

impl Scene {
    /// So many nodes on a Redis with these arguments, and so many clients on them, of which half go and come back as they
    /// like. `None` when there is no Redis to be had.
    pub(crate) async fn open(nodes: usize, clients: u64, arguments: &[&str]) -> Option<Self> {
        let seed = asked_for("TIDINGS_SEED").unwrap_or_else(|| u64::from(std::process::id()));
        println!("TIDINGS_SEED={seed} repeats the choices of this run");
        let redis = Redis::start_with(arguments)?;
        let wire = Faulty::start(redis.port()).await;
        let mut running = Vec::new();
        for _ in 0..nodes {
            running.push(node(&wire).await);
        }
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let speaking = Arc::new(AtomicBool::new(true));
        let publisher = TaskTracker::new().spawn(publish(
            Backend::new(&running[0].backends()),
            acknowledged.clone(),
            speaking.clone(),
        ));
        let urls: Vec<_> = running.iter().map(Tidings::websocket).collect();
        let roamers = (0..clients).map(|client| {
            Roamer::start(Roam {
                urls: urls.clone(),
                token: token(&format!("user{client}")),
                channel: CHANNEL.to_owned(),
                restless: (client % 2 == 0).then_some(Duration::from_millis(700)),
                seed: seed.wrapping_add(client),
            })
        });
        let scene = Self {
            redis,
            wire,
            roamers: roamers.collect(),
            nodes: running,
            acknowledged,
            speaking,
            publisher,
            seed,
        };
        scene.goes_on().await;
        Some(scene)
    }

    /// Waits until another twenty publications have been acknowledged.
    pub(crate) async fn goes_on(&self) {
        let count = || self.acknowledged.lock().unwrap().len();
        let before = count();
        eventually("publications are acknowledged", async || {
            (count() >= before + 20).then_some(())
        })
        .await;
    }

    /// Redis forgets a key of the stream, as it does when its memory is full: `stream`, what is kept, or `top`, where it is.
    pub(crate) async fn forget(&self, kind: &str) {
        let mut redis = TcpStream::connect(("127.0.0.1", self.redis.port()))
            .await
            .unwrap();
        let command = format!("DEL tidings:{kind}:{{{CHANNEL}}}\r\n");
        redis.write_all(command.as_bytes()).await.unwrap();
        let mut answer = [0; 4];
        redis.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b":1\r\n", "the key was there");
    }

    /// Lets things go on like this for so long.
    pub(crate) async fn endures(&self, time: Duration) {
        sleep(time).await;
    }

    /// The dust settles: everybody gets to where the stream is, and what they wrote down is looked at.
    pub(crate) async fn ends_well(mut self) {
        self.goes_on().await;
        self.speaking.store(false, Relaxed);
        (&mut self.publisher).await.unwrap();
        let (top, kept) = self.stream().await;
        eventually("all clients are where the stream is", async || {
            let there = |roamer: &Roamer| roamer.place().as_ref() == Some(&top);
            self.roamers.iter().all(there).then_some(())
        })
        .await;
        let mut checker = Checker::default();
        for (at, number) in self.acknowledged.lock().unwrap().drain(..) {
            checker.acknowledged(&at, number);
        }
        for roamer in &self.roamers {
            checker.look(&roamer.history(), &top);
        }
        checker.kept(&top.epoch, &kept);
        if let Err(faults) = checker.verdict() {
            panic!("TIDINGS_SEED={}: the promises are broken\n{faults}", self.seed);
        }
    }

    /// Where the stream is, and which number is where in it.
    async fn stream(&self) -> (Place, BTreeMap<u64, u64>) {
        let node = self.nodes.last().unwrap();
        let mut client = Client::connect(&node.websocket(), &token("reader")).await;
        let mut kept = BTreeMap::new();
        let mut since = Value::Null;
        loop {
            let mut query = serde_json::json!({ "channel": CHANNEL, "limit": 300 });
            if since.is_object() {
                query["since"] = since.clone();
            }
            // The other node may still be without its Redis.
            let history = eventually("the stream can be read", async || {
                let mut reply = client.ask("history", query.clone()).await;
                Some(reply["history"].take()).filter(Value::is_object)
            })
            .await;
            let place = |offset: &Value| Place {
                epoch: history["epoch"].as_str().unwrap().to_owned(),
                offset: offset.as_u64().unwrap(),
            };
            let list = history["publications"].as_array().unwrap();
            for publication in list {
                kept.insert(publication["offset"].as_u64().unwrap(), number(publication));
            }
            match list.last() {
                Some(last) if last["offset"] != history["offset"] => {
                    since = serde_json::json!({ "offset": last["offset"], "epoch": history["epoch"] });
                }
                _ => return (place(&history["offset"]), kept),
            }
        }
    }
}

/// A number that whoever runs the tests gives in the environment.
#[expect(
    clippy::disallowed_methods,
    reason = "it is for the tests, not for what is tested"
)]
pub(crate) fn asked_for(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

async fn node(wire: &Faulty) -> Tidings {
    Launch::new("standalone")
        .config(CONFIG)
        .env("REDIS_URL", &wire.redis_url())
        .start()
        .await
}

/// Says numbers, each until it is acknowledged, under an id that makes it one event however often it is said.
async fn publish(backend: Backend, acknowledged: Arc<Mutex<Vec<(Place, u64)>>>, speaking: Arc<AtomicBool>) {
    let mut number = 0;
    while speaking.load(Relaxed) {
        let mut event = event("number", &number.to_string(), &[CHANNEL]);
        event.id = number.to_string();
        if let Ok(answer) = backend.publish(event).await
            && let Some(result) = answer.results.first()
            && !result.epoch.is_empty()
        {
            let place = Place {
                epoch: result.epoch.clone(),
                offset: result.offset,
            };
            acknowledged.lock().unwrap().push((place, number));
            number += 1;
        }
        sleep(PACE).await;
    }
}
