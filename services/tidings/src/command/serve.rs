//! `tidings standalone`, `gateway`, `fanout` and `presence`: the same node, with other roles.

use tidings_runtime::shutdown::next_signal;
use uuid::Uuid;

use super::Global;
use crate::{
    config::Config,
    failure::Failure,
    node::{Node, Plan, reload::Origin},
    roles::Roles,
};

/// Runs a node with `roles` until it is told to stop.
pub(super) async fn run(global: &Global, roles: Roles) -> Result<(), Failure> {
    let source = global.source()?;
    let config = Config::load(&source)?;
    config.require(roles)?;
    let namespaces = config.namespaces()?;

    let id = Uuid::new_v4();
    let telemetry = global.telemetry(&source.environment, roles.name(), id)?;
    let node = Node::open(Plan {
        config,
        roles,
        namespaces,
        id,
        origin: Origin {
            source,
            load: Config::load,
        },
    })?;
    let left = node.run(|| tracing::info!(node = %id, "ready")).await;
    // Whoever signals again does not wait for the collector.
    tokio::select! {
        () = telemetry.shutdown() => {}
        () = next_signal() => {}
    }
    left
}
