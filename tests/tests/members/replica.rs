//! Presence replicas: some that stop as they should, some that are killed.

use std::net::{Ipv4Addr, SocketAddr};

use prometheus_client::registry::Registry;
use tidings_broker::{Broker, test_util::RedisServer};
use tidings_presence::{Config, Presence, Server, Store};
use tidings_runtime::Shutdown;
use tokio::runtime::Runtime;
use tonic::transport::Channel;

/// A presence replica behind its own door.
pub(crate) struct Replica {
    pub(crate) address: SocketAddr,
    shutdown: Shutdown,
}

impl Replica {
    pub(crate) fn start(listen: SocketAddr, store: &Store) -> Self {
        let shutdown = Shutdown::new();
        let config = Config {
            listen,
            ..Config::default()
        };
        let server = Server::bind(&config, presence(store)).unwrap();
        let address = server.local_addr();
        drop(shutdown.spawn(server.run(shutdown.clone())));
        Self { address, shutdown }
    }

    pub(crate) fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address))
            .unwrap()
            .connect_lazy()
    }

    pub(crate) async fn stop(self) {
        self.shutdown.request();
        self.shutdown.wait().await;
    }
}

/// A presence replica that can be killed: everything it does happens in a runtime of its own.
pub(crate) struct Mortal {
    runtime: Runtime,
    pub(crate) replica: Replica,
}

impl Mortal {
    pub(crate) fn start(redis: &RedisServer) -> Self {
        let runtime = Runtime::new().unwrap();
        let store = Store::new(&Broker::redis(&redis.config()).unwrap());
        let replica = {
            let _inside = runtime.enter();
            Replica::start((Ipv4Addr::LOCALHOST, 0).into(), &store)
        };
        Self { runtime, replica }
    }

    /// Its tasks go no further than their next await.
    pub(crate) fn kill(self) {
        self.runtime.shutdown_background();
    }
}

pub(crate) fn presence(store: &Store) -> Presence {
    Presence::new(store.clone(), &mut Registry::default())
}
