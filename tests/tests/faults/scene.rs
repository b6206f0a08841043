//! The scene of a fault: nodes on a Redis behind a wire, publishers that number what they say, clients that write down what
//! they get; and at the end the question whether all is well.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use tidings_broker::test_util::{RedisCluster, Watched};
use tidings_tests::{
    Backend, Launch, Redis, Tidings,
    checker::{Checker, History, Moment, Place},
    eventually,
    fault::Faulty,
    roamer::{Mode, PAUSE, Roam, Roamer},
    stream, token,
};
use tokio::time::sleep;

use crate::publisher::Publisher;

/// What the nodes are configured with: one namespace of streams.
pub(crate) const CONFIG: &str = r#"
[clients.token]
hmac_secret = "a secret of the tests, long enough"

[clients.limits]
connections_per_address = 5000

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

/// Everything that plays a part. Ends when it is dropped.
pub(crate) struct Scene<R> {
    /// What the nodes' Redis is made of.
    pub(crate) redis: R,
    pub(crate) nodes: Vec<Tidings>,
    roamers: Vec<Roamer>,
    publisher: Publisher,
    pub(crate) seed: u64,
}

/// Who plays.
pub(crate) struct Cast {
    pub(crate) nodes: usize,
    pub(crate) clients: u64,
    /// Whether half of the clients go and come back as they like.
    pub(crate) restless: bool,
    /// How many publications are sent at a time.
    pub(crate) batch: u64,
}

impl Cast {
    pub(crate) fn of(nodes: usize, clients: u64) -> Self {
        Self {
            nodes,
            clients,
            restless: true,
            batch: 1,
        }
    }
}

/// One Redis, behind a wire.
pub(crate) struct Alone {
    pub(crate) server: Redis,
    pub(crate) wire: Faulty,
}

impl Scene<Alone> {
    /// So many nodes on a Redis with these arguments, and so many clients on them, of which half go and come back as they
    /// like. `None` when there is no Redis to be had.
    pub(crate) async fn open(nodes: usize, clients: u64, arguments: &[&str]) -> Option<Self> {
        Self::with(Cast::of(nodes, clients), arguments).await
    }

    /// The same with others.
    pub(crate) async fn with(cast: Cast, arguments: &[&str]) -> Option<Self> {
        let server = Redis::start_with(arguments)?;
        let wire = Faulty::start(server.port()).await;
        let section = format!("[redis]\nurl = \"{}\"\n", wire.redis_url());
        Some(Self::on(Alone { server, wire }, &section, cast).await)
    }

    /// A key of the stream in Redis: `stream`, what is kept, or `top`, where it is.
    pub(crate) fn key(&self, kind: &str) -> String {
        format!("tidings:{kind}:{{{CHANNEL}}}")
    }

    /// Redis forgets such a key, as it does when its memory is full.
    pub(crate) fn forget(&self, kind: &str) {
        let gone = self.redis.server.ask(&["DEL", &self.key(kind)]);
        assert_eq!(gone, ::redis::Value::Int(1), "the key was there");
    }
}

impl Scene<Watched> {
    /// The same with a primary, a replica, and Sentinels.
    pub(crate) async fn watched(nodes: usize, clients: u64) -> Option<Self> {
        let redis = tokio::task::spawn_blocking(Watched::start).await.unwrap()?;
        let sentinels: Vec<_> = redis
            .sentinels()
            .map(|port| format!("\"redis://127.0.0.1:{port}\""))
            .collect();
        let section = format!(
            "[redis]\nsentinel = {{ master = \"main\", nodes = [{}] }}\n",
            sentinels.join(", ")
        );
        Some(Self::on(redis, &section, Cast::of(nodes, clients)).await)
    }
}

impl Scene<RedisCluster> {
    /// The same with a Cluster, whose primaries have replicas.
    pub(crate) async fn cluster(nodes: usize, clients: u64) -> Option<Self> {
        let started = tokio::task::spawn_blocking(RedisCluster::with_replicas);
        let redis = started.await.unwrap()?;
        let seeds = redis.nodes[..2].iter().map(|node| format!("\"{}\"", node.url()));
        let section = format!("[redis]\ncluster = [{}]\n", seeds.collect::<Vec<_>>().join(", "));
        Some(Self::on(redis, &section, Cast::of(nodes, clients)).await)
    }

    /// The place of the primary that has the stream.
    pub(crate) fn owner(&self) -> usize {
        self.redis.owner(self.slot())
    }

    /// The slot of the stream.
    pub(crate) fn slot(&self) -> u16 {
        self.redis.slot(CHANNEL)
    }
}

impl<R> Scene<R> {
    async fn on(redis: R, section: &str, cast: Cast) -> Self {
        let seed = asked_for("TIDINGS_SEED").unwrap_or_else(|| u64::from(std::process::id()));
        println!("TIDINGS_SEED={seed} repeats the choices of this run");
        let mut nodes = Vec::new();
        for _ in 0..cast.nodes {
            nodes.push(node(section).await);
        }
        let backends = nodes.iter().map(|node| Backend::new(&node.backends()));
        let publisher = Publisher::start(backends.collect(), CHANNEL, cast.batch);
        let urls: Vec<_> = nodes.iter().map(Tidings::websocket).collect();
        let roamers = (0..cast.clients).map(|client| {
            let restless = cast.restless && client % 2 == 0;
            Roamer::start(Roam {
                urls: urls.clone(),
                token: token(&format!("user{client}")),
                channel: CHANNEL.to_owned(),
                restless: restless.then_some(Duration::from_millis(700)),
                seed: seed.wrapping_add(client),
                mode: Mode::Recover,
                away: PAUSE,
                still: Arc::default(),
            })
        });
        let scene = Self {
            redis,
            roamers: roamers.collect(),
            nodes,
            publisher,
            seed,
        };
        scene.goes_on().await;
        eventually("all clients are there", async || {
            scene
                .roamers
                .iter()
                .all(|roamer| roamer.place().is_some())
                .then_some(())
        })
        .await;
        scene
    }

    /// Waits until another twenty publications have been acknowledged.
    pub(crate) async fn goes_on(&self) {
        let before = self.publisher.count();
        eventually("publications are acknowledged", async || {
            (self.publisher.count() >= before + 20).then_some(())
        })
        .await;
    }

    /// Lets things go on like this for so long.
    pub(crate) async fn endures(&self, time: Duration) {
        sleep(time).await;
    }

    /// The dust settles: everybody gets to where the stream is, and what they wrote down is looked at.
    pub(crate) async fn ends_well(self) {
        self.end().await;
    }

    /// The same, and nobody was told anything: nothing was lost, and nobody was made to believe it.
    pub(crate) async fn ends_undisturbed(self) {
        let Outcome { notices, lives, .. } = self.end().await;
        assert_eq!((notices, lives), (0, 1), "nobody need have been told anything");
    }

    /// The same, if in the end nothing that was acknowledged was lost; else all who may have missed it were told.
    pub(crate) async fn ends_undisturbed_unless_something_was_lost(self) {
        let Outcome { notices, lives, .. } = self.end().await;
        assert!(notices == 0 || lives > 1, "nobody need have been told anything");
    }

    /// The same, though something was lost, of which everybody was told that may have missed it.
    pub(crate) async fn ends_with_word_of_a_loss(self) {
        let Outcome { notices, lives, .. } = self.end().await;
        assert!(notices > 0 && lives > 1, "nothing was lost, or nobody was told");
    }

    async fn end(mut self) -> Outcome {
        self.goes_on().await;
        let acknowledged = self.publisher.stop().await;
        let node = self.nodes.last().unwrap();
        let (top, kept) = stream::read(&node.websocket(), CHANNEL).await;
        let mut checker = Checker::default();
        for (at, number) in &acknowledged {
            checker.acknowledged(at, *number);
        }
        checker.kept(&top.epoch, &kept);
        eventually("all clients are where the stream is", async || {
            let there = |roamer: &Roamer| checker.is_there(&roamer.history(), &top);
            self.roamers.iter().all(there).then_some(())
        })
        .await;
        let histories: Vec<_> = self.roamers.iter().map(Roamer::history).collect();
        for history in &histories {
            checker.look(history, &top);
        }
        if let Err(faults) = checker.verdict() {
            panic!("TIDINGS_SEED={}: the promises are broken\n{faults}", self.seed);
        }
        let outcome = Outcome::of(&acknowledged, &histories);
        println!("{outcome}");
        outcome
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

async fn node(section: &str) -> Tidings {
    let config = format!("{CONFIG}\n{section}");
    Launch::new("standalone").config(&config).start().await
}

/// What was found in order.
struct Outcome {
    clients: usize,
    publications: usize,
    delivered: usize,
    /// How often a client was told that it may have missed something.
    notices: usize,
    /// How many epochs there were.
    lives: usize,
}

impl Outcome {
    fn of(acknowledged: &[(Place, u64)], histories: &[History]) -> Self {
        let moments = || histories.iter().flat_map(|history| &history.moments);
        let told = |moment: &&Moment| match moment {
            Moment::Told => true,
            Moment::Subscribed { recovered, .. } => *recovered == Some(false),
            Moment::Heard { .. } | Moment::Left => false,
        };
        let epochs: BTreeSet<_> = acknowledged.iter().map(|(at, _)| &at.epoch).collect();
        Self {
            clients: histories.len(),
            publications: acknowledged.len(),
            delivered: moments()
                .filter(|moment| matches!(moment, Moment::Heard { .. }))
                .count(),
            notices: moments().filter(told).count(),
            lives: epochs.len(),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            clients,
            publications,
            delivered,
            notices,
            lives,
        } = self;
        write!(
            f,
            "clients {clients}, publications {publications}, delivered {delivered}, duplicates 0, holes 0, \
             notices {notices}, epochs {lives}"
        )
    }
}
