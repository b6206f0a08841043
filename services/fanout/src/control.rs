//! Asks all gateways to do something with the connections that they hold, and counts what they answer; asks them, or all
//! nodes, about themselves, and gathers what they report.
//!
//! It goes out to all at once, by the bus, under a random id. Each answers to this node's own name.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use prost::Message as _;
use tidings_broker::{self as broker, Broker, Incoming, Publisher, Sink, Subscriber, To};
use tidings_proto::bus::{self, control::Body, order::What, report, survey};
use tokio::sync::{OnceCell, watch};
use uuid::Uuid;

/// How long gateways have to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Orders and surveys whose answers are waited for.
const MAX_OPEN: usize = 1024;

/// What nodes may report to one survey, in bytes as they came. What comes beyond is left out.
const MAX_REPORTS: usize = 32 << 20;

/// The name that every process answers to, whatever its role.
pub const NODES: &str = "nodes";

/// This node's end of the control plane.
pub(crate) struct Control {
    node: Arc<str>,
    publisher: Publisher,
    subscriber: Subscriber,
    /// Whether the bus has ever confirmed that it brings the answers. From then on it does whenever it can.
    listening: OnceCell<()>,
    open: Arc<Open>,
}

/// What gateways have answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Affected {
    /// Connections that the order was carried out on.
    pub(crate) connections: u64,
    /// Whether every gateway that the bus gave the order has answered.
    pub(crate) complete: bool,
}

/// What nodes have reported.
#[derive(Debug, Default)]
pub(crate) struct Surveyed {
    pub(crate) reports: Vec<report::What>,
    /// Whether every node that the bus gave the survey has reported.
    pub(crate) complete: bool,
}

/// Why an order or a survey did not go out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{MAX_OPEN} calls wait for gateways already")]
    TooMany,
    #[error(transparent)]
    Bus(#[from] broker::Error),
}

impl Control {
    /// The end of the node that listens under the name `node`, which nobody else has.
    pub(crate) fn new(broker: &Broker, node: Arc<str>) -> Self {
        let open = Arc::<Open>::default();
        Self {
            node,
            publisher: broker.publisher(),
            subscriber: broker.subscriber(open.clone()),
            listening: OnceCell::new(),
            open,
        }
    }

    /// Has all gateways do `what` with those of `clients` that they hold. Returns within the bus' command timeout and a
    /// second.
    pub(crate) async fn ask(&self, clients: bus::Clients, what: What) -> Result<Affected, Error> {
        let heard = self.gather(To::All, |id, asker| {
            Body::Order(bus::Order {
                id,
                asker,
                clients: Some(clients),
                what: Some(what),
            })
        });
        let (heard, complete) = heard.await?;
        Ok(Affected {
            connections: heard.connections,
            complete,
        })
    }

    /// Asks all nodes, or all gateways, about themselves. Returns as soon.
    pub(crate) async fn survey(&self, what: survey::What) -> Result<Surveyed, Error> {
        let to = match what {
            survey::What::RollCall(_) => To::Node(NODES),
            survey::What::Channels(_) => To::All,
        };
        let heard = self.gather(to, |id, asker| {
            let what = Some(what);
            Body::Survey(bus::Survey { id, asker, what })
        });
        let (heard, complete) = heard.await?;
        Ok(Surveyed {
            reports: heard.reports,
            complete,
        })
    }

    async fn gather(
        &self,
        to: To<'_>,
        body: impl FnOnce(u64, String) -> Body,
    ) -> Result<(Heard, bool), Error> {
        let ask = Ask::begin(&self.open)?;
        self.listening
            .get_or_try_init(|| self.subscriber.listen(To::Node(&self.node)))
            .await?;
        let body = Some(body(ask.id, self.node.to_string()));
        let message = bus::Control { body }.encode_to_vec().into();
        let hear = self.publisher.tell(to, &message).await?;
        Ok(ask.answers(hear).await)
    }
}

/// What is waited for, and what has come of it.
#[derive(Default)]
struct Open(Mutex<HashMap<u64, watch::Sender<Heard>>>);

#[derive(Debug, Default)]
struct Heard {
    answers: u64,
    connections: u64,
    reports: Vec<report::What>,
    /// Of the reports.
    bytes: usize,
}

impl Sink for Open {
    fn incoming(&self, incoming: Incoming) {
        let Incoming::Control(message) = incoming else {
            return;
        };
        let bytes = message.len();
        // Anything else is not for fanout; what cannot be read is of another version. One that comes too late finds nobody.
        match bus::Control::decode(message).map(|control| control.body) {
            Ok(Some(Body::Answer(answer))) => self.heard(answer.id, |heard| {
                heard.answers += 1;
                heard.connections += u64::from(answer.affected);
            }),
            Ok(Some(Body::Report(bus::Report { id, what: Some(what) }))) => self.heard(id, |heard| {
                heard.bytes += bytes;
                if heard.bytes <= MAX_REPORTS {
                    heard.answers += 1;
                    heard.reports.push(what);
                }
            }),
            _ => {}
        }
    }
}

impl Open {
    fn heard(&self, id: u64, add: impl FnOnce(&mut Heard)) {
        if let Some(heard) = self.0.lock().get(&id) {
            heard.send_modify(add);
        }
    }
}

/// One question. Its answers are no longer taken once it is dropped.
struct Ask {
    id: u64,
    heard: watch::Receiver<Heard>,
    open: Arc<Open>,
}

impl Ask {
    fn begin(open: &Arc<Open>) -> Result<Self, Error> {
        let mut asks = open.0.lock();
        if asks.len() >= MAX_OPEN {
            return Err(Error::TooMany);
        }
        let id = loop {
            let (id, _) = Uuid::new_v4().as_u64_pair();
            if !asks.contains_key(&id) {
                break id;
            }
        };
        let (sender, heard) = watch::channel(Heard::default());
        asks.insert(id, sender);
        drop(asks);
        Ok(Self {
            id,
            heard,
            open: open.clone(),
        })
    }

    /// Waits until as many have answered as have heard, but not for ever. What has come, and whether that is all.
    async fn answers(mut self, hear: u64) -> (Heard, bool) {
        let all = self.heard.wait_for(|heard| heard.answers >= hear);
        let complete = matches!(tokio::time::timeout(PATIENCE, all).await, Ok(Ok(_)));
        let sender = self.open.0.lock().remove(&self.id);
        let heard = sender.map(|sender| sender.send_replace(Heard::default()));
        (heard.unwrap_or_default(), complete)
    }
}

impl Drop for Ask {
    fn drop(&mut self) {
        self.open.0.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use tokio::{sync::mpsc, task::JoinSet};

    use super::*;

    /// A gateway that answers every order with `affected`, or never.
    fn gateway(broker: &Broker, affected: Option<u32>) -> (Subscriber, JoinSet<()>) {
        let (sink, mut orders) = mpsc::channel(MAX_OPEN);
        let subscriber = broker.subscriber(Arc::new(move |incoming| {
            if let Incoming::Control(message) = incoming {
                sink.try_send(message).expect("room");
            }
        }));
        let publisher = broker.publisher();
        let mut answering = JoinSet::new();
        answering.spawn(async move {
            while let Some(message) = orders.recv().await {
                let Some(Body::Order(order)) = bus::Control::decode(message).unwrap().body else {
                    panic!("no order")
                };
                let Some(affected) = affected else { continue };
                let answer = bus::Answer {
                    id: order.id,
                    affected,
                };
                let answer = bus::Control {
                    body: Some(Body::Answer(answer)),
                };
                let message = answer.encode_to_vec().into();
                publisher.tell(To::Node(&order.asker), &message).await.unwrap();
            }
        });
        (subscriber, answering)
    }

    fn ada() -> bus::Clients {
        bus::Clients {
            user: "ada".to_owned(),
            ..bus::Clients::default()
        }
    }

    fn bye() -> What {
        What::Disconnect(bus::Disconnect::default())
    }

    #[tokio::test(start_paused = true)]
    async fn the_answers_of_all_gateways_are_one_sum() {
        let broker = Broker::memory();
        let control = Control::new(&broker, "fanout".into());
        let nobody = control.ask(ada(), bye()).await.unwrap();
        assert_eq!((nobody.connections, nobody.complete), (0, true));

        let gateways = [gateway(&broker, Some(2)), gateway(&broker, Some(3))];
        for (subscriber, _) in &gateways {
            subscriber.listen(To::All).await.unwrap();
        }
        let asked = tokio::time::Instant::now();
        let both = control.ask(ada(), bye()).await.unwrap();
        assert_eq!((both.connections, both.complete), (5, true));
        assert!(asked.elapsed() < PATIENCE);
        assert!(control.open.0.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_does_not_answer_leaves_the_sum_incomplete() {
        let broker = Broker::memory();
        let control = Control::new(&broker, "fanout".into());
        let gateways = [gateway(&broker, Some(2)), gateway(&broker, None)];
        for (subscriber, _) in &gateways {
            subscriber.listen(To::All).await.unwrap();
        }
        let one = control.ask(ada(), bye()).await.unwrap();
        assert_eq!((one.connections, one.complete), (2, false));
        assert!(control.open.0.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn orders_that_wait_are_bounded_and_those_given_up_free_their_places() {
        let broker = Broker::memory();
        let control = Arc::new(Control::new(&broker, "fanout".into()));
        let (silent, _answering) = gateway(&broker, None);
        silent.listen(To::All).await.unwrap();
        let mut waiting = JoinSet::new();
        for _ in 0..MAX_OPEN {
            let control = control.clone();
            waiting.spawn(async move { control.ask(ada(), bye()).await.map(drop) });
        }
        while control.open.0.lock().len() < MAX_OPEN {
            tokio::task::yield_now().await;
        }
        assert!(matches!(control.ask(ada(), bye()).await, Err(Error::TooMany)));
        waiting.shutdown().await;
        assert!(control.ask(ada(), bye()).await.is_ok());
    }

    #[test]
    fn what_is_no_answer_is_left_alone() {
        let open = Open::default();
        for message in [&b"\xff\xff"[..], b"", b"word"] {
            open.incoming(Incoming::Control(bytes::Bytes::copy_from_slice(message)));
        }
        open.incoming(Incoming::Gap);
    }
}
