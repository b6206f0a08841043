//! The gateway in a process of its own, with the memory bus, so that nothing but the delivery path is measured.

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    time::Duration,
};

use prometheus_client::registry::Registry;
use tidings_broker::Broker;
use tidings_core::{Channel, Namespace, Namespaces};
use tidings_gateway::{Config, Deps, Gateway, Limits, presence::Members};
use tidings_presence::{Presence, Store};
use tidings_runtime::{Shutdown, health::Health};
use tokio::runtime::Runtime;

use crate::{frame, server};

/// No ping disturbs a measurement.
const PINGS: Duration = Duration::from_secs(24 * 60 * 60);

/// Runs until the orders end.
pub(crate) fn run(cores: NonZeroUsize) -> anyhow::Result<()> {
    let runtime = Runtime::new()?;
    let broker = Broker::memory();
    let (publisher, channel) = (broker.publisher(), frame::channel()?);
    let address = runtime.block_on(async { start(cores, broker, &channel) })?;
    let targets = [channel.into()];
    server::run(address, |frames| {
        for _ in 0..frames {
            let publication = frame::publication();
            let sent = publisher.publish(&targets, &publication);
            for result in runtime.block_on(sent) {
                result?;
            }
        }
        Ok(())
    })
}

fn start(cores: NonZeroUsize, broker: Broker, channel: &Channel) -> anyhow::Result<SocketAddr> {
    let (shutdown, mut registry) = (Shutdown::new(), Registry::default());
    let presence = Presence::new(Store::new(&broker), &mut registry);
    let members = Members::start(
        "bench".to_owned(),
        presence.connect_in_process(&shutdown),
        Duration::from_secs(10),
        &shutdown,
        Health::new().component("presence"),
    );
    let name = channel.namespace().unwrap_or_default();
    let namespace = Namespace {
        presence: false,
        join_leave: false,
        ..Namespace::open(name)
    };
    let config = Config {
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        allow_anonymous: true,
        insecure: true,
        cores: Some(cores),
        limits: Limits {
            ping_interval: PINGS,
            connections_per_address: usize::MAX, // all of them are on this machine
            ..Limits::default()
        },
        ..Config::default()
    };
    let deps = Deps {
        node: "bench".to_owned(),
        broker,
        namespaces: Namespaces::new(vec![namespace])?,
        verifier: None,
        subscription_verifier: None,
        members,
        streams: Health::new().component("streams"),
        drain_over: Duration::ZERO,
        shutdown: shutdown.clone(),
    };
    let gateway = Gateway::bind(&config, deps, &mut registry)?;
    let address = gateway.local_addr()?;
    drop(shutdown.spawn(gateway.run()));
    Ok(address)
}
