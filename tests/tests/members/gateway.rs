//! A gateway as far as presence is concerned, without clients: members come and go as a test says.

use std::time::Duration;

use bytes::Bytes;
use tidings_core::{ClientId, ClientInfo};
use tidings_gateway::presence::Members;
use tidings_runtime::{Health, Shutdown, health::Check};
use tidings_session::Seen;
use tonic::transport::Channel;

pub(crate) use tidings_tests::PATIENCE;

pub(crate) const LEASE: Duration = Duration::from_secs(10);

/// It dies when it is dropped without a goodbye.
pub(crate) struct Gateway {
    pub(crate) members: Members,
    pub(crate) health: Health,
    pub(crate) shutdown: Shutdown,
}

impl Gateway {
    pub(crate) fn start(id: &str, presence: &Channel, lease: Duration) -> Self {
        let (health, shutdown) = (Health::new(), Shutdown::new());
        let component = health.component("presence");
        let members = Members::start(id.to_owned(), presence.clone(), lease, &shutdown, component);
        Self {
            members,
            health,
            shutdown,
        }
    }

    /// A client comes that is announced.
    pub(crate) fn joined(&self, name: &str, info: &ClientInfo) {
        let seen = Seen {
            info: info.clone(),
            announced: true,
        };
        self.members.joined(&channel(name), &seen);
    }

    pub(crate) fn left(&self, name: &str, info: &ClientInfo) {
        self.members.left(&channel(name), info.client);
    }

    /// Waits until exactly these are seen in a channel.
    pub(crate) async fn until(&self, name: &str, expected: &[&ClientInfo]) {
        let mut expected: Vec<ClientInfo> = expected.iter().copied().cloned().collect();
        expected.sort_by_key(|info| info.client);
        let seen = async {
            while self.members.list(&channel(name)).await.ok().as_ref() != Some(&expected) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, seen).await.is_err() {
            let there = self
                .members
                .list(&channel(name))
                .await
                .map(|members| members.len());
            panic!("{} expected in {name}, seen: {there:?}", expected.len());
        }
    }

    pub(crate) async fn until_health(&self, wanted: impl Fn(&Check) -> bool) {
        let seen = async {
            while !wanted(&self.health.check("presence")) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.unwrap();
    }
}

pub(crate) fn channel(name: &str) -> tidings_core::Channel {
    tidings_core::Channel::parse(name).unwrap()
}

pub(crate) fn client(user: &str) -> ClientInfo {
    ClientInfo {
        user: user.into(),
        client: ClientId::random(),
        conn_info: Bytes::from_static(br#"{"name":"x"}"#),
        chan_info: Bytes::new(),
    }
}
