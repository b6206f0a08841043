//! What a node reports about itself at the operators' door.

use std::sync::Arc;

use futures_util::{FutureExt as _, future::BoxFuture};
use serde_json::json;
use tidings_broker::{Broker, Status};
use tidings_gateway::Counter;
use tidings_runtime::{
    Shutdown,
    health::{Component, State},
};
use uuid::Uuid;

/// Keeps the component `redis` of the node's health as the bus says, until `shutdown` is requested. A role may have
/// no other use for the bus; this keeps it, and with it the knowledge whether Redis is there.
pub(super) async fn redis(broker: Broker, component: Component, shutdown: Shutdown) {
    let mut status = broker.status();
    loop {
        let state = match &*status.borrow_and_update() {
            Status::Up => State::Up,
            Status::Away { reason } => State::Away(reason.clone()),
        };
        component.set(state);
        tokio::select! {
            changed = status.changed() => if changed.is_err() { return },
            () = shutdown.requested() => return,
        }
    }
}

/// The body of `/stats`. What other nodes have is known only where there are none.
pub(super) fn stats(
    node: Uuid,
    counter: Option<Counter>,
    redis: bool,
) -> Arc<dyn Fn() -> BoxFuture<'static, serde_json::Value> + Send + Sync> {
    Arc::new(move || {
        let counter = counter.clone();
        async move {
            let local = match counter {
                Some(counter) => counter.count().await,
                None => tidings_gateway::Counts::default(),
            };
            let mut stats = json!({
                "node": node,
                "version": env!("CARGO_PKG_VERSION"),
                "local_connections": local.connections,
                "local_users": local.users,
                "redis_enabled": redis,
            });
            if !redis {
                stats["total_instances"] = json!(1);
                stats["total_connections"] = json!(local.connections);
            }
            stats
        }
        .boxed()
    })
}
