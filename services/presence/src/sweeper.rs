//! Cleans up after gateways whose lease has ended. Readers do not wait for it: they have not seen those members
//! since the lease ended.
//!
//! Beside it, what a store needs that may have lost something: its generations are noted, and it is scrubbed.
//!
//! Its looks are also what tells a store that answers from one that does not: see the store's rule of outages. So it looks
//! several times per length of the shortest lease.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tidings_runtime::Shutdown;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::{
    Presence,
    member::Lease,
    metrics::Metrics,
    store::{self, EndedAgain, Epoch, Scrub, Store},
    unconfirmed::Unconfirmed,
};

/// How often to look for ended leases, at most and at least. A look of a replica is one command, and one for each lease with a
/// write in doubt. Everything else is done at the longer of the two intervals.
const INTERVAL: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(200);

/// Into how many looks the shortest lease is divided: a third of it without any counts as an outage.
const LOOKS: u32 = 6;

/// How many leases are swept at once.
const AT_ONCE: usize = 8;

/// How many steps of a scrub are done per [`INTERVAL`].
const SCRUBBED: usize = 20;

/// Until shutdown is requested. What waits for a part of Redis that hangs delays nothing else: sweeps, leaves that are due,
/// generations and a scrub each go on by themselves.
pub(crate) async fn run(presence: &Presence, shutdown: &Shutdown) {
    let (unscrubbed, to_scrub) = watch::channel(None);
    let upkeep = Box::pin(async {
        tokio::join!(
            sweep_ended(presence, unscrubbed),
            announce_due(&presence.store),
            note_generations(&presence.store),
            scrub_lost(&presence.store, to_scrub),
        )
    });
    tokio::select! {
        () = shutdown.requested() => {}
        // What is dropped in the middle goes on at the next replica, or at the next start.
        _ = upkeep => {}
    }
}

async fn sweep_ended(presence: &Presence, unscrubbed: watch::Sender<Option<Epoch>>) {
    let mut outage = Outage::new("sweep ended leases");
    let mut wait = Duration::ZERO;
    loop {
        sleep(wait).await;
        let swept = tidy(presence, &mut wait, &unscrubbed).await;
        outage.note(&swept);
    }
}

async fn announce_due(store: &Store) {
    let mut outage = Outage::new("announce leaves that are due");
    loop {
        let more = store.settle().await;
        outage.note(&more);
        if !matches!(more, Ok(true)) {
            sleep(INTERVAL).await;
        }
    }
}

async fn note_generations(store: &Store) {
    let mut outage = Outage::new("note the generations of Redis, by which lost writes are noticed");
    loop {
        let noted = store.note_generations().await;
        outage.note(&noted);
        sleep(INTERVAL).await;
    }
}

/// Scrubs each store once that is to be scrubbed; pauses while none is.
async fn scrub_lost(store: &Store, mut to_scrub: watch::Receiver<Option<Epoch>>) {
    let mut outage = Outage::new("look for members without a lease");
    let mut scrub: Option<Scrub> = None;
    let mut done = None;
    loop {
        let is_due = |unscrubbed: &Option<Epoch>| unscrubbed.is_some() && *unscrubbed != done;
        let due = to_scrub.wait_for(is_due).await.map(|unscrubbed| *unscrubbed);
        // The sweeps have ended.
        let Ok(Some(unscrubbed)) = due else { return };
        let going_on = scrub.take().filter(|scrub| scrub.store() == unscrubbed);
        let scrub = scrub.insert(going_on.unwrap_or_else(|| Scrub::new(unscrubbed)));
        let more = scrub_some(store, scrub).await;
        if matches!(more, Ok(false)) {
            done = Some(unscrubbed);
        }
        outage.note(&more);
        sleep(INTERVAL).await;
    }
}

/// Some steps of a scrub; whether there may be more.
async fn scrub_some(store: &Store, scrub: &mut Scrub) -> Result<bool, store::Error> {
    for _ in 0..SCRUBBED {
        if !store.scrub(scrub).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What fails again and again, logged once per outage.
struct Outage {
    what: &'static str,
    failing: bool,
}

impl Outage {
    const fn new(what: &'static str) -> Self {
        Self { what, failing: false }
    }

    fn note<T>(&mut self, result: &Result<T, store::Error>) {
        if let Err(error) = result
            && !self.failing
        {
            let error = error as &dyn std::error::Error;
            tracing::warn!(error, "cannot {}; retrying every second", self.what);
        }
        self.failing = result.is_err();
    }
}

/// Sweeps what has ended. `wait` becomes until when to look again, and `unscrubbed` which store is to be scrubbed.
async fn tidy(
    presence: &Presence,
    wait: &mut Duration,
    unscrubbed: &watch::Sender<Option<Epoch>>,
) -> Result<(), store::Error> {
    let Presence {
        store,
        metrics,
        unconfirmed,
        ..
    } = presence;
    let ended_again = end_again(store, unconfirmed).await;
    let swept = match store.ended().await {
        Ok(ended) => {
            *wait = ended
                .shortest
                .map_or(INTERVAL, |shortest| (shortest / LOOKS).clamp(SHORTEST, INTERVAL));
            unscrubbed.send_replace(ended.unscrubbed);
            sweep(store, metrics, &ended.leases).await
        }
        Err(error) => {
            *wait = INTERVAL.min((*wait).max(SHORTEST));
            Err(error)
        }
    };
    ended_again.and(swept)
}

/// Has leases swept again that were over when something was written under them.
async fn end_again(store: &Store, unconfirmed: &Unconfirmed) -> Result<(), store::Error> {
    for (lease, begun) in unconfirmed.leases() {
        if store.end_again(&lease).await? == EndedAgain::WasSwept {
            unconfirmed.ended_again(&lease, begun);
        }
    }
    Ok(())
}

/// Sweeps leases, some at once: one that cannot be swept, or waits for a part of the store that hangs, keeps no other from it.
/// One of the errors is returned.
async fn sweep(store: &Store, metrics: &Metrics, leases: &[Lease]) -> Result<(), store::Error> {
    let sweeps: Vec<_> = leases
        .iter()
        .map(|lease| sweep_lease(store, metrics, lease))
        .collect();
    let swept = stream::iter(sweeps).buffer_unordered(AT_ONCE);
    swept.fold(Ok(()), async |all, one| all.and(one)).await
}

async fn sweep_lease(store: &Store, metrics: &Metrics, lease: &Lease) -> Result<(), store::Error> {
    let mut members = 0;
    loop {
        let began = Instant::now();
        let swept = store.sweep(lease).await?;
        metrics.swept.inc_by(swept.left.len() as u64);
        members += swept.left.len();
        if swept.done {
            break;
        }
        // The next look goes on, at other leases too. A part that refuses costs no time, so the rest is swept now.
        if swept.failed && (swept.left.is_empty() || began.elapsed() >= INTERVAL) {
            tracing::debug!(gateway.id = %lease.gateway, %lease, members, "a part of the store is unavailable: swept later");
            return Ok(());
        }
    }
    tracing::info!(gateway.id = %lease.gateway, %lease, members, "swept an ended lease");
    Ok(())
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;
    use tidings_broker::{
        Broker,
        test_util::{Recorder, RedisServer},
    };

    use super::*;
    use crate::{
        member::{GatewayId, Member},
        store::fixture::{
            LONG, attach, bare, channel, cluster, command, joins, keys, leave, member, news, on_node,
        },
    };

    #[tokio::test]
    async fn a_write_in_flight_that_lands_after_its_lease_was_swept_is_swept_and_announced_as_leaving() {
        let Some(server) = RedisServer::start() else {
            return;
        };
        let broker = Broker::redis(&server.config()).unwrap();
        let presence = Presence::new(bare(&broker), &mut Registry::default());
        let Presence {
            store, unconfirmed, ..
        } = &presence;
        let recorder = Recorder::new(&broker, &["tasks"]).await;
        let lease = attach(store, "g1", LONG).await;
        let mut wait = Duration::ZERO;
        let unscrubbed = watch::Sender::new(None);
        let write = unconfirmed.begin(&lease);
        leave(store, &lease).await;
        // The sweeper looks while the command hangs.
        for _ in 0..3 {
            tidy(&presence, &mut wait, &unscrubbed).await.unwrap();
        }
        let late = Member {
            announced: true,
            ..member(&channel("tasks"), "ada")
        };
        store.apply(&lease, joins([&late])).await.unwrap();
        assert_eq!(news(&recorder).await, 1, "it was announced as coming");
        // And the handler is dropped before it knows what became of the lease.
        drop(write);
        tidy(&presence, &mut wait, &unscrubbed).await.unwrap();
        assert_eq!(news(&recorder).await, 1, "and goes");
        assert_eq!(unconfirmed.in_doubt(), [lease], "until it was swept once more");
        tidy(&presence, &mut wait, &unscrubbed).await.unwrap();
        assert_eq!(unconfirmed.in_doubt(), []);
        assert_eq!(keys(&server).await, [] as [String; 0]);
    }

    #[tokio::test]
    async fn a_lease_with_a_write_in_doubt_is_ended_again_only_when_it_is_over() {
        let Some(server) = RedisServer::start() else {
            return;
        };
        let presence = Presence::new(
            bare(&Broker::redis(&server.config()).unwrap()),
            &mut Registry::default(),
        );
        let Presence {
            store, unconfirmed, ..
        } = &presence;
        let lease = attach(store, "g1", LONG).await;
        drop(unconfirmed.begin(&lease));
        end_again(store, unconfirmed).await.unwrap();
        store.renew(&lease, LONG).await.unwrap();
        assert_eq!(unconfirmed.in_doubt(), std::slice::from_ref(&lease));
        unconfirmed.begin(&lease).confirm();
        assert_eq!(
            unconfirmed.in_doubt(),
            std::slice::from_ref(&lease),
            "another write says nothing of the one in doubt"
        );
        store.end(&lease).await.unwrap();
        end_again(store, unconfirmed).await.unwrap();
        assert_eq!(unconfirmed.in_doubt(), [lease], "it is still to be swept");
    }

    #[tokio::test]
    async fn a_lease_that_cannot_be_swept_keeps_no_other_from_it() {
        let Some(server) = RedisServer::start() else {
            return;
        };
        let broker = Broker::redis(&server.config()).unwrap();
        let store = Store::new(&broker);
        let mut leases = Vec::new();
        for gateway in ["g1", "g2"] {
            let gateway = GatewayId::parse(gateway).unwrap();
            leases.push(store.attach(&gateway, INTERVAL).await.unwrap().0);
            store.end(leases.last().unwrap()).await.unwrap();
        }
        assert_eq!(store.ended().await.unwrap().leases, leases);
        redis::cmd("SET") // where a set should be
            .arg(format!("tidings:{{leases}}:{}:users", leases[0]))
            .arg("x")
            .exec_async(&mut broker.redis_pool().unwrap().get().await.unwrap())
            .await
            .unwrap();

        let metrics = Metrics::register(&mut Registry::default());
        let swept = sweep(&store, &metrics, &leases).await;
        assert!(matches!(swept, Err(store::Error::Unavailable(_))), "{swept:?}");
        assert_eq!(store.ended().await.unwrap().leases, leases[..1]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_hung_primary_of_a_cluster_delays_no_sweep_of_members_of_the_others() {
        let Some(cluster) = cluster().await else {
            return;
        };
        for node in &cluster.nodes {
            command::<()>(node, &["CONFIG", "SET", "cluster-require-full-coverage", "no"]).await;
        }
        let leases = cluster.owner(cluster.slot("tidings:{leases}"));
        let (hung, alive) = ((leases + 1) % 3, (leases + 2) % 3);
        let name = |node| on_node(&cluster, node, |n| format!("name{n}")).next().unwrap();
        let (here, there) = (name(alive), name(hung));
        let broker = Broker::redis(&cluster.config()).unwrap();
        let recorder = Recorder::new(&broker, &[&here]).await;
        let presence = Presence::new(bare(&broker), &mut Registry::default());
        let store = &presence.store;
        // The one that would be swept first is there.
        for (gateway, name) in [("g1", &there), ("g2", &here)] {
            let lease = attach(store, gateway, LONG).await;
            let member = Member {
                announced: true,
                ..member(&channel(name), name)
            };
            store.apply(&lease, joins([&member])).await.unwrap();
            store.end(&lease).await.unwrap();
        }
        assert_eq!(news(&recorder).await, 1);

        cluster.nodes[hung].pause();
        let (mut wait, unscrubbed) = (Duration::ZERO, watch::Sender::new(None));
        tokio::select! {
            biased;
            // They take as long as an answer may.
            _ = store.note_generations() => panic!("the sweep waits for the primary that hangs"),
            _ = tidy(&presence, &mut wait, &unscrubbed) => panic!("the lease with members there cannot be swept"),
            () = recorder.until(1) => {}
        }
        assert_eq!(news(&recorder).await, 1, "a leave");
        cluster.nodes[hung].resume();
    }
}
