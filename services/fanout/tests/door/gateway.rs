//! A gateway as fanout meets it: it hears orders and surveys on the bus, and answers as a test says.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use tidings_broker::{Broker, Incoming, Publisher, Subscriber, To};
use tidings_proto::bus::{self, control::Body, report, survey};
use tokio::sync::mpsc;

pub(crate) struct Gateway {
    publisher: Publisher,
    orders: mpsc::Receiver<Bytes>,
    _subscriber: Subscriber,
}

impl Gateway {
    pub(crate) async fn start(broker: &Broker) -> Self {
        let (sink, orders) = mpsc::channel(10);
        let subscriber = broker.subscriber(Arc::new(move |incoming| {
            if let Incoming::Control(message) = incoming {
                sink.try_send(message).unwrap();
            }
        }));
        for to in [To::All, To::Node(tidings_fanout::NODES)] {
            subscriber.listen(to).await.unwrap();
        }
        Self {
            publisher: broker.publisher(),
            orders,
            _subscriber: subscriber,
        }
    }

    /// Answers the next order, as carried out on so many connections, and gives what it was.
    pub(crate) async fn answer(&mut self, affected: u32) -> bus::Order {
        let Some(Body::Order(order)) = self.told().await else {
            panic!("no order")
        };
        let id = order.id;
        self.tell(&order.asker, Body::Answer(bus::Answer { id, affected }))
            .await;
        order
    }

    /// Reports this to the next survey, and gives what was asked.
    pub(crate) async fn report(&mut self, what: report::What) -> survey::What {
        let Some(Body::Survey(survey)) = self.told().await else {
            panic!("no survey")
        };
        let (id, what) = (survey.id, Some(what));
        self.tell(&survey.asker, Body::Report(bus::Report { id, what }))
            .await;
        survey.what.unwrap()
    }

    async fn told(&mut self) -> Option<Body> {
        let message = self.orders.recv().await.unwrap();
        bus::Control::decode(message).unwrap().body
    }

    async fn tell(&self, asker: &str, body: Body) {
        let message = bus::Control { body: Some(body) }.encode_to_vec().into();
        let heard = self.publisher.tell(To::Node(asker), &message).await;
        assert_eq!(heard.unwrap(), 1, "who asked listens");
    }
}
