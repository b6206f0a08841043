//! A gateway as fanout meets it: it hears orders on the bus, and answers as a test says.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use tidings_broker::{Broker, Incoming, Publisher, Subscriber, To};
use tidings_proto::bus::{self, control::Body};
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
        subscriber.listen(To::All).await.unwrap();
        Self {
            publisher: broker.publisher(),
            orders,
            _subscriber: subscriber,
        }
    }

    /// Answers the next order, as carried out on so many connections, and gives what it was.
    pub(crate) async fn answer(&mut self, affected: u32) -> bus::Order {
        let message = self.orders.recv().await.unwrap();
        let Some(Body::Order(order)) = bus::Control::decode(message).unwrap().body else {
            panic!("no order")
        };
        let id = order.id;
        let body = Some(Body::Answer(bus::Answer { id, affected }));
        let answer = bus::Control { body }.encode_to_vec().into();
        let heard = self.publisher.tell(To::Node(&order.asker), &answer).await;
        assert_eq!(heard.unwrap(), 1, "who asked listens");
        order
    }
}
