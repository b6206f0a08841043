//! How many events a second one core of fanout takes in, and how long one event to 10,000 channels takes: `cargo run
//! --release -p tidings-fanout --example publishes`. The server has one thread and one connection; its CPU time is its own,
//! and what to look at on a machine that has other things to do.

use std::{fs, net::Ipv4Addr, sync::mpsc, thread, time::Duration};

use futures_util::{StreamExt as _, stream};
use prometheus_client::registry::Registry;
use tidings_broker::{Broker, test_util::RedisServer};
use tidings_core::Namespaces;
use tidings_fanout::{Config, Deps, Fanout};
use tidings_proto::fanout::{Event, PublishBatchRequest, PublishRequest, fanout_client::FanoutClient};
use tidings_runtime::Shutdown;
use tokio::{runtime::Builder, time::Instant};
use tonic::transport::{Channel, Endpoint};

/// Of each measurement.
const EVENTS: usize = 100_000;

/// Under way at a time.
const IN_FLIGHT: usize = 64;

/// Of one event.
const CHANNELS: usize = 10_000;

/// A door on a thread of its own.
struct Server {
    address: String,
    /// Where the system keeps its CPU time.
    clock: String,
    shutdown: Shutdown,
}

impl Server {
    fn start(broker: impl FnOnce() -> Broker + Send + 'static) -> Self {
        let (tell, told) = mpsc::channel();
        let shutdown = Shutdown::new();
        let ended = shutdown.clone();
        thread::spawn(move || {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let config = Config {
                    listen: (Ipv4Addr::LOCALHOST, 0).into(),
                    insecure: true,
                    ..Config::default()
                };
                let deps = Deps {
                    node: "bench".to_owned(),
                    broker: broker(),
                    namespaces: Namespaces::default().with_undeclared_open(),
                    presence: None,
                };
                let fanout = Fanout::bind(&config, &[], deps, &mut Registry::default()).expect("a free port");
                let thread = fs::read_link("/proc/thread-self").expect("Linux");
                let clock = format!("/proc/{}/schedstat", thread.display());
                tell.send((format!("http://{}", fanout.local_addr()), clock))
                    .expect("the caller waits");
                fanout.run(ended.clone()).await;
                ended.wait().await;
            });
        });
        let (address, clock) = told.recv().expect("it starts");
        Self {
            address,
            clock,
            shutdown,
        }
    }

    /// The CPU time of its thread.
    fn cpu(&self) -> Duration {
        let text = fs::read_to_string(&self.clock).expect("Linux");
        let nanos = text.split(' ').next().and_then(|text| text.parse().ok());
        Duration::from_nanos(nanos.expect("a number"))
    }

    async fn client(&self) -> FanoutClient<Channel> {
        let endpoint = Endpoint::from_shared(self.address.clone()).expect("a URL");
        FanoutClient::new(endpoint.tcp_nodelay(true).connect().await.expect("it listens"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.request();
    }
}

/// The most memory that this process has had, client and server together.
fn peak() -> String {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.expect("a peak").trim().to_owned()
}

fn event(number: usize) -> Event {
    Event {
        id: format!("e{number}"),
        r#type: "task.created".to_owned(),
        source: "bench".to_owned(),
        data: br#"{"id": 42, "title": "Write the report", "assignee": {"id": "ada"}, "state": "open"}"#
            .as_slice()
            .into(),
        channels: vec![format!("tasks:{}", number % 100)],
        ..Event::default()
    }
}

fn request(number: usize) -> PublishRequest {
    PublishRequest {
        event: Some(event(number)),
    }
}

fn report(name: &str, wall: Duration, cpu: Duration) {
    let each = |time: Duration| time.as_secs_f64() / EVENTS as f64;
    println!(
        "{name:<14} {:>8.0}/s   {:>5.1} us of the server's CPU each: {:>8.0}/s a core",
        1.0 / each(wall),
        each(cpu) * 1e6,
        1.0 / each(cpu)
    );
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let server = Server::start(Broker::memory);
    let client = server.client().await;

    let (begin, cpu) = (Instant::now(), server.cpu());
    let calls = stream::iter(0..EVENTS).map(|number| {
        let mut client = client.clone();
        async move { client.publish(request(number)).await.expect("published") }
    });
    calls.buffer_unordered(IN_FLIGHT).for_each(|_| async {}).await;
    report("Publish", begin.elapsed(), server.cpu() - cpu);

    let (begin, cpu) = (Instant::now(), server.cpu());
    let requests = stream::iter((EVENTS..2 * EVENTS).map(request));
    let answers = client
        .clone()
        .publish_stream(requests)
        .await
        .expect("a stream")
        .into_inner();
    let count = answers.inspect(|answer| assert!(answer.is_ok())).count().await;
    assert_eq!(count, EVENTS);
    report("PublishStream", begin.elapsed(), server.cpu() - cpu);

    let (begin, cpu) = (Instant::now(), server.cpu());
    for first in (2 * EVENTS..3 * EVENTS).step_by(500) {
        let events = (first..first + 500).map(event).collect();
        client
            .clone()
            .publish_batch(PublishBatchRequest { events })
            .await
            .expect("published");
    }
    report("PublishBatch", begin.elapsed(), server.cpu() - cpu);
    drop(server);

    let Some(redis) = RedisServer::start() else { return };
    let config = redis.config();
    let server = Server::start(move || Broker::redis(&config).expect("the address of a server on loopback"));
    let mut client = server.client().await;
    for number in 0..5 {
        let event = Event {
            channels: (0..CHANNELS).map(|channel| format!("tasks:{channel}")).collect(),
            ..event(number)
        };
        let (begin, cpu) = (Instant::now(), server.cpu());
        let response = client
            .publish(PublishRequest { event: Some(event) })
            .await
            .expect("published")
            .into_inner();
        assert!(response.results.iter().all(|result| result.error.is_none()));
        println!(
            "one event to {CHANNELS} channels through Redis: {:?}, {:?} of it the server's CPU; at most {} of memory until now",
            begin.elapsed(),
            server.cpu() - cpu,
            peak()
        );
    }
}
