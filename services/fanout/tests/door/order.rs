//! What one call publishes to one channel keeps its order, and a caller that does not read holds up nobody.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tidings_broker::{Broker, Status as Bus, test_util::RedisServer};
use tidings_core::{Namespace, Namespaces};
use tidings_fanout::Deps;
use tidings_proto::fanout::{self as proto, fanout_client::FanoutClient};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::Code;

use crate::harness::{Door, event, insecure};

const CHANNELS: [&str; 3] = ["tasks:1", "tasks:2", "tasks:3"];

fn deps(broker: &Broker) -> Deps {
    let kept = |name| Namespace {
        history_size: 10_000,
        ..Namespace::open(name)
    };
    Deps {
        node: "test".to_owned(),
        broker: broker.clone(),
        namespaces: Namespaces::new(vec![kept("tasks"), kept("open")]).unwrap(),
        presence: None,
    }
}

async fn redis(server: &RedisServer) -> Broker {
    let broker = Broker::redis(&server.config()).unwrap();
    broker
        .status()
        .wait_for(|status| *status == Bus::Up)
        .await
        .unwrap();
    broker
}

fn named(id: &str, channels: &[&str]) -> proto::Event {
    proto::Event {
        id: id.to_owned(),
        ..event(channels)
    }
}

/// So many events, each for some of the channels, some large and some small.
fn events(random: &mut StdRng, count: usize) -> Vec<proto::Event> {
    let event = |number| {
        let mut channels: Vec<_> = CHANNELS.into_iter().filter(|_| random.random()).collect();
        if channels.is_empty() {
            channels.push(CHANNELS[0]);
        }
        let size = random.random_range(0..200) * random.random_range(0..20);
        proto::Event {
            data: format!("\"{}\"", "x".repeat(size)).into(),
            ..named(&format!("e{number}"), &channels)
        }
    };
    (0..count).map(event).collect()
}

/// The offsets that each channel gave grow with each event, and are one more each time.
#[track_caller]
fn assert_in_order(responses: &[proto::PublishResponse], last: &mut HashMap<String, u64>) {
    for response in responses {
        assert_eq!(response.error, None, "{response:?}");
        for result in &response.results {
            let last = last.entry(result.channel.clone()).or_default();
            assert_eq!(
                result.offset,
                *last + 1,
                "{} of {}",
                result.channel,
                response.event_id
            );
            *last = result.offset;
        }
    }
}

async fn stream(door: &Door, events: Vec<proto::Event>) -> Vec<proto::PublishResponse> {
    let mut client = FanoutClient::new(door.channel().await);
    let requests = events
        .into_iter()
        .map(|event| proto::PublishRequest { event: Some(event) });
    let answers = client
        .publish_stream(tokio_stream::iter(requests.collect::<Vec<_>>()))
        .await
        .unwrap();
    answers.into_inner().map(Result::unwrap).collect().await
}

async fn batch(door: &Door, events: Vec<proto::Event>) -> Vec<proto::PublishResponse> {
    let mut client = FanoutClient::new(door.channel().await);
    let request = proto::PublishBatchRequest { events };
    client
        .publish_batch(request)
        .await
        .unwrap()
        .into_inner()
        .responses
}

/// CloudEvents in one body: the offsets by channel, event by event.
async fn http(door: &Door, events: Vec<proto::Event>) -> Vec<proto::PublishResponse> {
    let each = events.iter().map(|event| {
        // Over HTTP a route, not the sender, names channels; here it is one that every event gets.
        format!(
            r#"{{"specversion":"1.0","id":"{}","source":"/http","type":"http.sent","data":{}}}"#,
            event.id,
            String::from_utf8_lossy(&event.data)
        )
    });
    let body = format!("[{}]", each.collect::<Vec<_>>().join(","));
    let address = door.address;
    let ask = move || {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(Duration::from_secs(60)))?;
        let head = format!(
            "POST /v1/events HTTP/1.1\r\nhost: tidings\r\nconnection: close\r\ncontent-type: application/cloudevents-batch+json\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        socket.write_all(head.as_bytes())?;
        socket.write_all(body.as_bytes())?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::task::spawn_blocking(ask).await.unwrap().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let json: serde_json::Value = serde_json::from_str(body).unwrap_or_else(|why| panic!("{why}: {answer}"));
    let response = |result: &serde_json::Value| proto::PublishResponse {
        event_id: result["id"].as_str().unwrap_or_default().to_owned(),
        results: result["channels"]
            .as_array()
            .unwrap_or_else(|| panic!("{result}"))
            .iter()
            .map(|channel| proto::ChannelResult {
                channel: channel["channel"].as_str().unwrap().to_owned(),
                offset: channel["offset"].as_u64().unwrap_or_default(),
                ..proto::ChannelResult::default()
            })
            .collect(),
        ..proto::PublishResponse::default()
    };
    json["results"].as_array().unwrap().iter().map(response).collect()
}

async fn random_schedule(broker: &Broker) {
    let route = crate::harness::route("http.*", &["open:http"], tidings_fanout::Payload::Data);
    let door = Door::open_with(deps(broker), &insecure(), &[route]);
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut last = HashMap::new();
    let named = |events: Vec<proto::Event>, way: &str| -> Vec<proto::Event> {
        let named = |event: proto::Event| proto::Event {
            id: format!("{way}{}", event.id),
            ..event
        };
        events.into_iter().map(named).collect()
    };
    assert_in_order(
        &stream(&door, named(events(&mut random, 2000), "s")).await,
        &mut last,
    );
    assert_in_order(
        &batch(&door, named(events(&mut random, 1000), "b")).await,
        &mut last,
    );
    assert_in_order(
        &http(&door, named(events(&mut random, 500), "h")).await,
        &mut last,
    );
}

#[tokio::test]
async fn a_stream_and_a_batch_keep_the_order_of_each_channel_on_the_embedded_broker() {
    random_schedule(&Broker::memory()).await;
}

#[tokio::test]
async fn a_stream_and_a_batch_keep_the_order_of_each_channel_on_redis() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    random_schedule(&redis(&server).await).await;
}

/// A stream that is answered event by event.
struct Stream {
    events: mpsc::Sender<proto::PublishRequest>,
    answers: tonic::Streaming<proto::PublishResponse>,
}

impl Stream {
    async fn open(door: &Door) -> Self {
        let mut client = FanoutClient::new(door.channel().await);
        let (events, requests) = mpsc::channel(8);
        let answers = client
            .publish_stream(ReceiverStream::new(requests))
            .await
            .unwrap()
            .into_inner();
        Self { events, answers }
    }

    /// The code of each channel of an event.
    async fn publish(&mut self, id: &str, channels: &[&str]) -> Vec<Code> {
        let event = Some(named(id, channels));
        self.events.send(proto::PublishRequest { event }).await.unwrap();
        let answer = self.answers.next().await.unwrap().unwrap();
        let code = |error: Option<proto::Error>| {
            error.map_or(Code::Ok, |error| {
                Code::from_i32(i32::try_from(error.code).unwrap())
            })
        };
        match answer.error {
            Some(error) => vec![code(Some(error))],
            None => answer
                .results
                .into_iter()
                .map(|result| code(result.error))
                .collect(),
        }
    }
}

#[tokio::test]
async fn what_is_behind_an_event_that_failed_is_aborted_until_that_is_sent_again() {
    let acl = [
        "--user",
        "default",
        "on",
        "nopass",
        "+@all",
        "allchannels",
        "~*{open:*",
        "~*:server",
    ];
    let Some(server) = RedisServer::start_with(&acl) else {
        return;
    };
    let door = Door::open_with(deps(&redis(&server).await), &insecure(), &[]);
    let mut stream = Stream::open(&door).await;
    let refused = Code::FailedPrecondition;
    assert_eq!(
        stream.publish("e1", &["tasks:1", "open:1"]).await,
        [refused, Code::Ok]
    );
    assert_eq!(stream.publish("e2", &["tasks:1"]).await, [Code::Aborted]);
    assert_eq!(
        stream.publish("e3", &["tasks:1", "open:1"]).await,
        [Code::Aborted, Code::Ok]
    );
    assert_eq!(stream.publish("e4", &["open:1"]).await, [Code::Ok]);

    let mut operator = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    operator.write_all(b"ACL SETUSER default allkeys\r\n").unwrap();
    let mut answer = [0; 5];
    operator.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"+OK\r\n");

    assert_eq!(
        stream.publish("e2", &["tasks:1"]).await,
        [Code::Aborted],
        "e1 comes first"
    );
    assert_eq!(
        stream.publish("e1", &["tasks:1", "open:1"]).await,
        [Code::Ok, Code::Ok]
    );
    assert_eq!(stream.publish("e2", &["tasks:1"]).await, [Code::Ok]);
    // A new stream knows nothing of it.
    let mut other = Stream::open(&door).await;
    assert_eq!(
        other.publish("e3", &["tasks:1", "open:1"]).await,
        [Code::Ok, Code::Ok]
    );
}

#[tokio::test]
async fn a_caller_that_does_not_read_its_answers_takes_no_room_from_others() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let door = Door::open_with(deps(&redis(&server).await), &insecure(), &[]);
    let channels: Vec<String> = (0..5000).map(|number| format!("open:{number}")).collect();
    let channels: Vec<&str> = channels.iter().map(String::as_str).collect();
    let mut client = FanoutClient::new(door.channel().await);
    let (events, requests) = mpsc::channel(1);
    let unread = client
        .publish_stream(ReceiverStream::new(requests))
        .await
        .unwrap();
    // Together more than all that may be under way, with answers that are larger than any buffer on the way.
    for number in 0..60 {
        let event = Some(named(&format!("large{number}"), &channels));
        let sent = events.send(proto::PublishRequest { event });
        if tokio::time::timeout(Duration::from_secs(5), sent).await.is_err() {
            break;
        }
    }
    let published = tokio::time::timeout(Duration::from_secs(60), door.publish(named("small", &["open:1"])));
    published.await.expect("there is room").unwrap();
    drop(unread);
}
