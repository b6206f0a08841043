//! The roll of nodes: who calls it is told of this one, whatever its roles are.

use std::time::Duration;

use prost::Message as _;
use tidings_broker::{Broker, Error, Incoming, To};
use tidings_fanout::NODES;
use tidings_gateway::Counter;
use tidings_proto::bus::{self, control::Body, report, survey};
use tidings_runtime::Shutdown;
use tokio::{sync::mpsc, time::Instant};
use uuid::Uuid;

use crate::roles::Roles;

/// Calls that wait to be answered. Those beyond are not: whoever called knows that somebody is missing.
const WAITING: usize = 64;

/// What this node says of itself.
pub(super) struct Entry {
    pub(super) id: Uuid,
    pub(super) roles: Roles,
    /// How many clients it has, where it can have any.
    pub(super) counter: Option<Counter>,
    pub(super) started: Instant,
}

/// Answers until `shutdown` is requested.
pub(super) async fn answer(broker: Broker, entry: Entry, shutdown: Shutdown) {
    let (sink, mut calls) = mpsc::channel(WAITING);
    let subscriber = broker.subscriber(std::sync::Arc::new(move |incoming| {
        if let Incoming::Control(message) = incoming
            && let Some(call) = call(message)
        {
            let _ = sink.try_send(call);
        }
    }));
    if let Err(error @ Error::Refused { .. }) = subscriber.listen(To::Node(NODES)).await {
        tracing::error!(
            %error, "this node is in no list of nodes; its Redis user needs the channels `PREFIX:control*`"
        );
    }
    let publisher = broker.publisher();
    loop {
        let Call { id, asker } = tokio::select! {
            () = shutdown.requested() => return,
            call = calls.recv() => match call {
                Some(call) => call,
                None => return,
            },
        };
        let report = bus::Report {
            id,
            what: Some(report::What::Node(entry.now().await)),
        };
        let body = Some(Body::Report(report));
        let message = bus::Control { body }.encode_to_vec().into();
        if let Err(error) = publisher.tell(To::Node(&asker), &message).await {
            tracing::debug!(survey.id = id, %error, "the roll was called, and this node could not be heard");
        }
    }
}

/// Somebody calls the roll.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    id: u64,
    asker: String,
}

/// `None`: what was told is something else, or of another version.
fn call(message: bytes::Bytes) -> Option<Call> {
    match bus::Control::decode(message).ok()?.body? {
        Body::Survey(bus::Survey {
            id,
            asker,
            what: Some(survey::What::RollCall(_)),
        }) => Some(Call { id, asker }),
        _ => None,
    }
}

impl Entry {
    async fn now(&self) -> bus::Node {
        let counts = match &self.counter {
            Some(counter) => counter.count().await,
            None => tidings_gateway::Counts::default(),
        };
        let number = |count| u64::try_from(count).unwrap_or(u64::MAX);
        bus::Node {
            id: self.id.to_string(),
            name: machine(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            roles: self.roles.each().map(str::to_owned).collect(),
            uptime_ms: milliseconds(self.started.elapsed()),
            connections: number(counts.connections),
            users: number(counts.users),
            channels: number(counts.channels),
            subscriptions: number(counts.subscriptions),
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What the machine is called; in a pod, the pod.
#[cfg(unix)]
fn machine() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn machine() -> String {
    "localhost".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(body: Option<Body>) -> Option<Call> {
        call(bus::Control { body }.encode_to_vec().into())
    }

    #[test]
    fn only_a_roll_call_is_answered() {
        let survey = |what| {
            told(Some(Body::Survey(bus::Survey {
                id: 7,
                asker: "asker".to_owned(),
                what,
            })))
        };
        let asker = "asker".to_owned();
        let called = survey(Some(survey::What::RollCall(bus::RollCall {})));
        assert_eq!(called, Some(Call { id: 7, asker }));
        assert_eq!(
            survey(Some(survey::What::Channels(bus::ActiveChannels::default()))),
            None
        );
        assert_eq!(survey(None), None);
        assert_eq!(told(Some(Body::Answer(bus::Answer::default()))), None);
        assert_eq!(told(None), None);
        assert_eq!(call(b"\xff\xff"[..].into()), None);
    }

    #[tokio::test]
    async fn a_node_that_holds_nobody_is_on_the_roll_too() {
        let entry = Entry {
            id: Uuid::nil(),
            roles: Roles::FANOUT,
            counter: None,
            started: Instant::now(),
        };
        let node = entry.now().await;
        assert_eq!((node.roles, node.connections), (vec!["fanout".to_owned()], 0));
        assert!(!node.name.is_empty());
    }
}
