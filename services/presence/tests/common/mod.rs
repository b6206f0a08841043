//! What the tests of the service share: presence replicas, and a gateway reduced to its stream.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "not every test needs everything, and a test may panic"
)]

use std::{net::Ipv4Addr, time::Duration};

use prometheus_client::registry::Registry;
use tidings_broker::{Broker, test_util::RedisServer};
use tidings_core::ClientId;
use tidings_presence::{Config, Options, Presence, Server, Store};
use tidings_proto::presence::{
    Change, Changes, GatewayUpdate, Goodbye, Heartbeat, Hello, Left, ListRequest, Member, PresenceAck,
    Snapshot, change, gateway_update::Update, presence_client::PresenceClient,
};
use tidings_runtime::Shutdown;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

pub const LEASE: Duration = Duration::from_secs(10);

pub fn presence(store: &Store) -> Presence {
    Presence::new(store.clone(), &mut Registry::default())
}

/// A store that keeps nothing of who is gone.
pub fn redis_store(server: &RedisServer) -> Store {
    let options = Options {
        last_seen: Duration::ZERO,
        log: 0,
        ..Options::default()
    };
    Store::with(&Broker::redis(&server.config()).unwrap(), options)
}

/// A replica with its door open on a free port, and a channel to it.
pub fn serve(store: &Store, shutdown: &Shutdown) -> Channel {
    let config = Config {
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        ..Config::default()
    };
    let server = Server::bind(&config, presence(store)).unwrap();
    let address = format!("http://{}", server.local_addr());
    drop(shutdown.spawn(server.run(shutdown.clone())));
    Channel::from_shared(address).unwrap().connect_lazy()
}

pub fn client(channel: &Channel) -> PresenceClient<Channel> {
    PresenceClient::new(channel.clone())
}

pub fn member(channel: &str, user: &str) -> Member {
    Member {
        channel: channel.to_owned(),
        client: ClientId::random().to_string(),
        user: user.to_owned(),
        joined_at_ms: 1_700_000_000_123,
        ..Member::default()
    }
}

pub fn left(member: &Member) -> Change {
    let left = Left {
        channel: member.channel.clone(),
        client: member.client.clone(),
    };
    Change {
        change: Some(change::Change::Left(left)),
    }
}

pub fn joined(member: &Member) -> Change {
    Change {
        change: Some(change::Change::Joined(member.clone())),
    }
}

/// The users in a channel, sorted.
pub async fn users(channel: &Channel, name: &str) -> Vec<String> {
    let request = ListRequest {
        channel: name.to_owned(),
        ..ListRequest::default()
    };
    let members = client(channel).list(request).await.unwrap().into_inner().members;
    let mut users: Vec<String> = members.into_iter().map(|member| member.user).collect();
    users.sort();
    users
}

/// Waits until exactly these users are in a channel.
pub async fn until_users(channel: &Channel, name: &str, expected: &[&str]) {
    while users(channel, name).await != expected {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A gateway's stream.
pub struct Gateway {
    updates: mpsc::Sender<GatewayUpdate>,
    acks: Streaming<PresenceAck>,
    pub seq: u64,
}

impl Gateway {
    /// A stream on which nothing has been said.
    pub async fn connect(channel: &Channel) -> Self {
        let (updates, receiver) = mpsc::channel(1);
        let acks = client(channel)
            .attach(ReceiverStream::new(receiver))
            .await
            .unwrap()
            .into_inner();
        Self {
            updates,
            acks,
            seq: 0,
        }
    }

    /// Attached, with everyone reported.
    pub async fn attach(channel: &Channel, id: &str, lease: Duration, members: &[Member]) -> Self {
        let mut gateway = Self::connect(channel).await;
        gateway.hello(id, lease).await.unwrap();
        gateway
            .tell(Update::Snapshot(Snapshot {
                members: members.to_vec(),
                last: true,
            }))
            .await
            .unwrap();
        gateway
    }

    pub async fn hello(&mut self, id: &str, lease: Duration) -> Result<(), Status> {
        let lease_ms = lease.as_millis().try_into().unwrap();
        self.tell(Update::Hello(Hello {
            gateway: id.to_owned(),
            lease_ms,
        }))
        .await
    }

    pub async fn change(&mut self, changes: Vec<Change>) -> Result<(), Status> {
        self.tell(Update::Changes(Changes { changes })).await
    }

    pub async fn heartbeat(&mut self) -> Result<(), Status> {
        self.tell(Update::Heartbeat(Heartbeat {})).await
    }

    pub async fn goodbye(&mut self) -> Result<(), Status> {
        self.tell(Update::Goodbye(Goodbye {})).await
    }

    /// Says something and waits for the acknowledgement.
    pub async fn tell(&mut self, update: Update) -> Result<(), Status> {
        self.seq += 1;
        let _ = self
            .updates
            .send(GatewayUpdate {
                seq: self.seq,
                update: Some(update),
            })
            .await;
        let ack = self
            .acks
            .message()
            .await?
            .expect("an acknowledgement or a status");
        assert_eq!(ack.seq, self.seq);
        Ok(())
    }

    /// Says what is not an update at all.
    pub async fn say_nothing(&mut self) -> Result<(), Status> {
        self.seq += 1;
        let _ = self
            .updates
            .send(GatewayUpdate {
                seq: self.seq,
                update: None,
            })
            .await;
        self.acks.message().await.map(|_| ())
    }

    /// What presence says unasked: the status that ends the stream.
    pub async fn ended(mut self) -> Status {
        self.acks
            .message()
            .await
            .expect_err("nothing was said that could be acknowledged")
    }
}
