//! Real processes around a real Redis: three presence replicas behind a balancer, three gateways, a thousand clients that
//! roam between them, and those who look on: a client of each gateway that goes on, and a backend that watches.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use tidings_proto::presence::{
    ListRequest, Member, StatsRequest, WatchRequest, presence_client::PresenceClient, watch_response::What,
};
use tidings_tests::{
    Balancer, CONFIG, Launch, PATIENCE, Redis, Tidings, Turns, eventually,
    visitor::{Observer, Stay, Visit, Visitor},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::{Channel, Endpoint};

const VISITORS: u64 = 1_000;
const ROOMS: usize = 12;

/// How long a visitor stays in a room, at most.
const STAY: Duration = Duration::from_secs(6);

pub(crate) struct Scene {
    pub(crate) redis: Redis,
    pub(crate) replicas: Vec<Tidings>,
    pub(crate) gateways: Vec<Tidings>,
    /// Nothing has happened that may cost the first two gateways their leases.
    pub(crate) all_stay: bool,
    balancer: Balancer,
    roam: watch::Sender<bool>,
    rooms: Vec<String>,
    visitors: Vec<Visitor>,
    /// Where they are, besides the visitors.
    observers: Vec<(Observer, String)>,
    watching: Watching,
}

impl Scene {
    /// Begins, with a thousand clients inside. `None`, and said so, where there is no Redis.
    pub(crate) async fn open(arguments: &[&str], lease: &str) -> Option<Self> {
        let redis = Redis::start_with(arguments)?;
        let config = format!(
            "{CONFIG}\n[[namespace]]\nname = \"room\"\npresence = true\njoin_leave = true\n\
             allow_subscribe_for_client = true\nallow_presence_for_subscriber = true\n"
        );
        let launch = |role| Launch::new(role).config(&config).redis(&redis);
        let mut replicas = Vec::new();
        for _ in 0..3 {
            replicas.push(launch("presence").start().await);
        }
        let ports: Vec<u16> = replicas.iter().map(Tidings::presence_port).collect();
        let balancer = Balancer::start_in_turn(&ports).await;
        let presence = format!("http://{}", balancer.address());
        let mut gateways = Vec::new();
        for _ in 0..3 {
            let gateway = launch("gateway")
                .env("TIDINGS_PRESENCE__URL", &presence)
                .env("TIDINGS_PRESENCE__LEASE", lease)
                .env("TIDINGS_CLIENTS__LIMITS__CONNECTIONS_PER_ADDRESS", "5000");
            gateways.push(gateway.start().await);
        }
        let rooms: Vec<String> = (0..ROOMS).map(|n| format!("room:{n}")).collect();
        let watching = Watching::start(&balancer).await;
        let mut observers = Vec::new();
        // Not at the third, with which things happen.
        for gateway in &gateways[..2] {
            let observer: (Observer, String) = Observer::start(&gateway.websocket(), &rooms).await;
            eventually("an observer hears itself come", async || {
                (observer.0.heard().there().len() == ROOMS).then_some(())
            })
            .await;
            observers.push(observer);
        }
        // The second does not hear of the first, which was there already.
        for room in &rooms {
            let first = (room.clone(), observers[0].1.clone());
            observers[1].0.heard().heard(first, true);
        }
        let roam = watch::Sender::new(true);
        let visit = Visit {
            urls: gateways.iter().map(Tidings::websocket).collect(),
            channels: rooms.clone(),
            stay: STAY,
            roam: roam.subscribe(),
        };
        let visitors = (0..VISITORS).map(|n| Visitor::start(visit.clone(), &format!("user{}", n / 2), n));
        let scene = Self {
            visitors: visitors.collect(),
            redis,
            replicas,
            gateways,
            all_stay: true,
            balancer,
            roam,
            rooms,
            observers,
            watching,
        };
        scene.most_are_inside().await;
        Some(scene)
    }

    async fn most_are_inside(&self) {
        eventually("most visitors are somewhere", async || {
            let inside = self.visitors.iter().filter(|visitor| visitor.at().is_some());
            (inside.count() * 10 > self.visitors.len() * 9).then_some(())
        })
        .await;
    }

    /// Waits until a good many have come and gone.
    pub(crate) async fn goes_on(&self) {
        let before = self.leaves();
        eventually("clients roam on", async || {
            (self.leaves() > before + 300).then_some(())
        })
        .await;
    }

    /// How many leaves the backend has heard of so far.
    pub(crate) fn leaves(&self) -> usize {
        self.watching.heard.lock().unwrap().leaves
    }

    /// Which gateways members of any room are at; `None` while presence cannot be asked.
    pub(crate) async fn gateways_of_members(&self) -> Option<BTreeSet<String>> {
        let mut gateways = BTreeSet::new();
        for room in &self.rooms {
            gateways.extend(self.members(room).await?.into_iter().map(|member| member.gateway));
        }
        Some(gateways)
    }

    async fn members(&self, room: &str) -> Option<Vec<Member>> {
        let request = ListRequest {
            channel: room.to_owned(),
            ..ListRequest::default()
        };
        let page = connect(&self.balancer).list(request).await.ok()?.into_inner();
        assert!(
            page.next_page_token.is_empty(),
            "a room has more members than a page"
        );
        Some(page.members)
    }

    /// Everyone stays where they are, and once the dust has settled presence is exactly that, and so is what was heard.
    /// `clients_heard`: also clients heard all of it, because their bus was never cut.
    pub(crate) async fn ends_well(self, clients_heard: bool) {
        self.roam.send_replace(false);
        let deadline = Instant::now() + 2 * PATIENCE;
        loop {
            let difference = self.difference(clients_heard).await;
            if difference.is_empty() {
                break;
            }
            assert!(Instant::now() < deadline, "{difference}");
            sleep(Duration::from_millis(200)).await;
        }
        let heard = self.watching.heard.lock().unwrap();
        heard.turns.verdict().unwrap();
        println!("joins {}, leaves {}", heard.joins, heard.leaves);
        for (_, client) in &self.observers {
            assert!(
                !heard.left.contains(client),
                "{client} left without a cause: its gateway was there"
            );
        }
        if clients_heard {
            for (observer, _) in &self.observers {
                observer.heard().verdict().unwrap();
            }
        }
    }

    /// In what presence, and what was heard, differ from who is connected; empty: in nothing.
    async fn difference(&self, clients_heard: bool) -> String {
        let visiting: Vec<Stay> = self.visitors.iter().filter_map(Visitor::at).collect();
        if visiting.len() != self.visitors.len() {
            return format!("{} visitors are somewhere", visiting.len());
        }
        let observing = self
            .observers
            .iter()
            .flat_map(|(_, client)| self.rooms.iter().map(|room| (room.clone(), client.clone())));
        let there: BTreeSet<Stay> = visiting.into_iter().chain(observing).collect();
        let mut differs = String::new();
        let mut seen = BTreeSet::new();
        for room in &self.rooms {
            let Some(members) = self.members(room).await else {
                return "presence does not answer".to_owned();
            };
            let users: BTreeSet<&str> = members.iter().map(|member| member.user.as_str()).collect();
            let request = StatsRequest {
                channel: room.clone(),
            };
            let Ok(stats) = connect(&self.balancer).stats(request).await else {
                return "presence does not count".to_owned();
            };
            let stats = stats.into_inner();
            if (stats.clients as usize, stats.users as usize) != (members.len(), users.len()) {
                let _ = write!(differs, "{room} is said to have {stats:?}; ");
            }
            seen.extend(members.into_iter().map(|member| (room.clone(), member.client)));
        }
        let mut compare = |who: &str, said: &BTreeSet<Stay>| {
            let (too_many, missing) = (said.difference(&there).count(), there.difference(said).count());
            if too_many + missing > 0 {
                let _ = write!(differs, "{who}: {too_many} too many, {missing} missing; ");
            }
        };
        compare("presence", &seen);
        compare("the backend", self.watching.heard.lock().unwrap().turns.there());
        if clients_heard {
            for (observer, _) in &self.observers {
                compare("a client", observer.heard().there());
            }
        }
        differs
    }
}

fn connect(balancer: &Balancer) -> PresenceClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", balancer.address())).unwrap();
    let endpoint = endpoint
        .timeout(Duration::from_secs(5))
        .connect_timeout(Duration::from_secs(1));
    PresenceClient::new(endpoint.connect_lazy())
}

/// A backend that watches all rooms, and goes on at another replica where it was.
struct Watching {
    heard: Arc<Mutex<Heard>>,
    _running: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Heard {
    turns: Turns<Stay>,
    joins: usize,
    leaves: usize,
    /// Clients that left any room.
    left: BTreeSet<String>,
}

impl Watching {
    /// Begins when nobody is there.
    async fn start(balancer: &Balancer) -> Self {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let address = format!("http://{}", balancer.address());
        let (live, mut begun) = watch::channel(false);
        let noting = heard.clone();
        let running = tokio_util::task::TaskTracker::new().spawn(async move {
            let mut token = String::new();
            loop {
                follow(&address, &mut token, &noting, &live).await;
                sleep(Duration::from_millis(100)).await;
            }
        });
        tidings_tests::in_time("a snapshot of nobody", begun.wait_for(|begun| *begun))
            .await
            .unwrap();
        Self {
            heard,
            _running: AbortOnDropHandle::new(running),
        }
    }
}

/// Hears all that one replica says, until that is over.
async fn follow(address: &str, token: &mut String, heard: &Mutex<Heard>, live: &watch::Sender<bool>) {
    let endpoint = Endpoint::from_shared(address.to_owned()).unwrap();
    let mut client = PresenceClient::new(endpoint.connect_lazy());
    let request = WatchRequest {
        channels: vec!["room:*".to_owned()],
        users: Vec::new(),
        token: token.clone(),
    };
    let Ok(answers) = client.watch(request).await else {
        return;
    };
    let mut answers = answers.into_inner();
    while let Ok(Some(answer)) = answers.message().await {
        let mut heard = heard.lock().unwrap();
        match answer.what.unwrap() {
            What::Live(_) => drop(live.send_replace(true)),
            What::Joined(member) => {
                heard.joins += 1;
                heard.turns.heard((member.channel, member.client), true);
            }
            What::Left(member) => {
                heard.leaves += 1;
                heard.left.insert(member.client.clone());
                heard.turns.heard((member.channel, member.client), false);
            }
            other => panic!("nobody was there, and the log is long enough: {other:?}"),
        }
        *token = answer.token;
    }
}
