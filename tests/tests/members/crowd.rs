//! A thousand clients that go from room to room, and what has to hold when they have come to rest.

use std::{collections::BTreeSet, time::Duration};

use tidings_broker::{Broker, Incoming, test_util::Recorder};
use tidings_core::{ClientId, ClientInfo};
use tidings_presence::Store;
use tidings_tests::Turns;

use crate::gateway::{Gateway, channel, client};

pub(crate) struct Crowd {
    rooms: &'static [&'static str],
    /// Two of each user.
    clients: Vec<ClientInfo>,
    /// In which room each is.
    at: Vec<Option<usize>>,
    recorder: Recorder,
}

impl Crowd {
    pub(crate) async fn new(broker: &Broker, rooms: &'static [&'static str]) -> Self {
        let clients: Vec<ClientInfo> = (0..1_000).map(|n| client(&format!("user{}", n / 2))).collect();
        Self {
            at: vec![None; clients.len()],
            recorder: Recorder::new(broker, rooms).await,
            clients,
            rooms,
        }
    }

    /// No randomness: everyone moves, everyone else than before, and some are nowhere for a while. A connection stays with
    /// its gateway.
    pub(crate) fn roams(&mut self, round: usize, gateways: &[Gateway]) {
        for (n, client) in self.clients.iter().enumerate() {
            let gateway = &gateways[n % gateways.len()];
            if let Some(room) = self.at[n].take() {
                gateway.left(self.rooms[room], client);
            }
            if !(n + round).is_multiple_of(5) {
                let room = n * (round + 1) % self.rooms.len();
                gateway.joined(self.rooms[room], client);
                self.at[n] = Some(room);
            }
        }
    }

    /// Waits until the gateway sees everyone where they are, and nobody else; then everything else has to say the same.
    pub(crate) async fn is_seen_rightly(&self, gateway: &Gateway, store: &Store) {
        let mut there = BTreeSet::new();
        for (n, room) in self.rooms.iter().enumerate() {
            let inside = self
                .clients
                .iter()
                .zip(&self.at)
                .filter(|(_, at)| **at == Some(n));
            let expected: Vec<&ClientInfo> = inside.map(|(client, _)| client).collect();
            gateway.until(room, &expected).await;
            let users: BTreeSet<_> = expected.iter().map(|info| &info.user).collect();
            let stats = store.stats(&channel(room)).await.unwrap();
            assert_eq!(
                (stats.clients, stats.users),
                (expected.len(), users.len()),
                "{room}"
            );
            there.extend(expected.iter().map(|info| (channel(room), info.client)));
        }
        // Who listened knows the same once it is swept what no gateway reported again, and heard everyone in turns.
        while !store.ended().await.unwrap().leases.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let turns = turns(&self.recorder).await;
        turns.verdict().unwrap();
        assert!(
            *turns.there() == there,
            "{} heard, {} there",
            turns.there().len(),
            there.len()
        );
    }
}

/// Who came to which channel, and who left it.
pub(crate) async fn turns(recorder: &Recorder) -> Turns<(tidings_core::Channel, ClientId)> {
    let mut turns = Turns::default();
    for incoming in recorder.heard().await {
        match incoming {
            Incoming::Join(channel, info) => turns.heard((channel, info.client), true),
            Incoming::Leave(channel, info) => turns.heard((channel, info.client), false),
            other => panic!("neither join nor leave: {other:?}"),
        }
    }
    turns
}
