//! The roles as processes of their own, around a Redis.

use serde_json::json;
use tidings_proto::fanout::{ChannelsRequest, InfoRequest, fanout_client::FanoutClient};
use tidings_tests::{Backend, Client, Launch, Redis, Tidings, event, token};

/// One presence, one fanout, some gateways.
pub(crate) struct Split {
    pub(crate) presence: Tidings,
    pub(crate) fanout: Tidings,
    pub(crate) gateways: Vec<Tidings>,
    pub(crate) backend: Backend,
}

impl Split {
    /// Starts them, each with these variables.
    pub(crate) async fn start(redis: &Redis, gateways: usize, environment: &[(&str, &str)]) -> Self {
        let launch = |role| {
            environment
                .iter()
                .fold(Launch::new(role).redis(redis), |launch, (name, value)| {
                    launch.env(name, value)
                })
        };
        let presence = launch("presence").start().await;
        let with_presence = |role| launch(role).env("TIDINGS_PRESENCE__URL", &presence.presence());
        let fanout = with_presence("fanout").start().await;
        let mut running = Vec::new();
        for _ in 0..gateways {
            running.push(with_presence("gateway").start().await);
        }
        let backend = Backend::new(&fanout.backends());
        Self {
            presence,
            fanout,
            gateways: running,
            backend,
        }
    }

    /// A client of a gateway, subscribed to a channel.
    pub(crate) async fn client(&self, gateway: usize, user: &str, channel: &str) -> Client {
        let mut client = Client::connect(&self.gateways[gateway].websocket(), &token(user)).await;
        client.subscribe(channel).await;
        client
    }
}

#[tokio::test]
async fn one_publish_reaches_every_gateway_that_wants_it_and_no_other() {
    let Some(redis) = Redis::start() else { return };
    let split = Split::start(&redis, 3, &[]).await;
    let mut ada = split.client(0, "ada", "tasks:1").await;
    let mut bob = split.client(1, "bob", "tasks:1").await;
    let mut eve = split.client(2, "eve", "news:1").await;

    let answer = split
        .backend
        .publish(event("task.created", "1", &["tasks:1"]))
        .await
        .unwrap();
    for client in [&mut ada, &mut bob] {
        let (channel, data) = client.hear().await;
        assert_eq!(
            (channel.as_str(), &data["id"], &data["data"]),
            ("tasks:1", &json!(answer.event_id), &json!(1))
        );
    }
    // The bus keeps the order of one publisher: once a later publication has come, an earlier one will not.
    split
        .backend
        .publish(event("news.printed", "2", &["news:1"]))
        .await
        .unwrap();
    assert_eq!(eve.hear().await.0, "news:1");
    for gateway in &split.gateways {
        assert_eq!(gateway.metric("tidings_publications_in_total").await, 1.0);
        assert_eq!(gateway.metric("tidings_deliveries_out_total").await, 1.0);
    }
}

#[tokio::test]
async fn the_routes_find_the_channels_of_an_event_that_names_none() {
    let Some(redis) = Redis::start() else { return };
    let split = Split::start(&redis, 2, &[]).await;
    let mut acme = split.client(0, "ada", "tasks:acme").await;
    let mut bob = split.client(1, "bob", "news:bob").await;

    let mut created = event("task.created", r#"{"assignee_id":"bob"}"#, &[]);
    created.attributes.insert("tenant".to_owned(), "acme".to_owned());
    let answer = split.backend.publish(created).await.unwrap();
    let channels: Vec<_> = answer
        .results
        .iter()
        .map(|result| result.channel.as_str())
        .collect();
    assert_eq!(channels, ["tasks:acme", "news:bob"]);
    assert!(
        answer.results.iter().all(|result| result.error.is_none()),
        "{answer:?}"
    );
    assert_eq!(acme.hear().await.1["data"]["assignee_id"], "bob");
    assert_eq!(bob.hear().await.1["type"], "task.created");

    let nobody = split
        .backend
        .publish(event("invoice.paid", "{}", &[]))
        .await
        .unwrap();
    assert!(nobody.results.is_empty(), "{nobody:?}");
}

#[tokio::test]
async fn a_client_that_unsubscribes_hears_no_more_and_its_gateway_forgets_the_channel() {
    let Some(redis) = Redis::start() else { return };
    let split = Split::start(&redis, 1, &[]).await;
    let mut ada = split.client(0, "ada", "tasks:1").await;
    ada.subscribe("tasks:2").await;
    let reply = ada.ask("unsubscribe", json!({ "channel": "tasks:1" })).await;
    assert_eq!(reply["unsubscribe"], json!({}));

    split
        .backend
        .publish(event("task.created", "1", &["tasks:1"]))
        .await
        .unwrap();
    split
        .backend
        .publish(event("task.created", "2", &["tasks:2"]))
        .await
        .unwrap();
    assert_eq!(ada.hear().await.0, "tasks:2");
    assert_eq!(split.gateways[0].metric("tidings_subscriptions").await, 1.0);
}

#[tokio::test]
async fn each_role_says_in_one_line_which_redis_it_uses() {
    let Some(redis) = Redis::start() else { return };
    let split = Split::start(&redis, 1, &[]).await;
    for process in [&split.presence, &split.fanout, &split.gateways[0]] {
        assert_eq!(
            process.logs().matches("Redis configured: cluster").count(),
            1,
            "{}",
            process.logs()
        );
        process.wait_until_whole().await;
        assert_eq!(
            process.json("/health/redis").await,
            (200, json!({ "status": "up" }))
        );
    }
}

#[tokio::test]
async fn a_backend_is_told_of_every_node_and_of_every_channel_that_somebody_hears() {
    let Some(redis) = Redis::start() else { return };
    let split = Split::start(&redis, 2, &[]).await;
    let _clients = [
        split.client(0, "ada", "tasks:1").await,
        split.client(1, "ada", "tasks:1").await,
        split.client(1, "bob", "tasks:2").await,
        split.client(0, "bob", "news:1").await,
    ];
    let mut fanout = FanoutClient::new(split.backend.channel());
    let info = fanout.info(split.backend.request(InfoRequest {})).await;
    let info = info.unwrap().into_inner();
    assert!(info.complete);
    let mut nodes: Vec<_> = info.nodes.iter().collect();
    nodes.sort_by_key(|node| (&node.roles, node.connections));
    let seen: Vec<_> = nodes
        .iter()
        .map(|node| {
            (
                node.roles[0].as_str(),
                node.connections,
                node.users,
                node.subscriptions,
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("fanout", 0, 0, 0),
            ("gateway", 2, 2, 2),
            ("gateway", 2, 2, 2),
            ("presence", 0, 0, 0)
        ]
    );
    assert!(
        nodes
            .iter()
            .all(|node| node.version == nodes[0].version && node.uptime.is_some())
    );

    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ChannelsRequest {
            pattern: "tasks:*".to_owned(),
            page_size: 1,
            page_token,
        };
        let page = fanout
            .channels(split.backend.request(request))
            .await
            .unwrap()
            .into_inner();
        assert!(page.complete && page.channels.len() <= 1);
        found.extend(page.channels.into_iter().map(|it| (it.channel, it.clients)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(found, [("tasks:1".to_owned(), 2), ("tasks:2".to_owned(), 1)]);
}
