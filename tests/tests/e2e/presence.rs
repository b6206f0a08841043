//! Who is there, as backends and clients are told.

use serde_json::{Value, json};
use tidings_tests::{CONFIG, Client, Launch, Redis, eventually, token};

use crate::split::Split;

/// The users that a client is told of, in order.
async fn seen_by(client: &mut Client, channel: &str) -> Vec<String> {
    let reply = client.ask("presence", json!({ "channel": channel })).await;
    let members = reply["presence"]["presence"]
        .as_object()
        .unwrap_or_else(|| panic!("no members: {reply}"));
    let mut users: Vec<_> = members
        .values()
        .map(|info| info["user"].as_str().unwrap().to_owned())
        .collect();
    users.sort();
    users
}

/// Waits until backends are told of exactly these users.
async fn until_listed(split: &Split, channel: &str, users: &[&str]) {
    eventually(&format!("{users:?} are in {channel}"), async || {
        let members = split.backend.list(channel).await.unwrap();
        let mut listed: Vec<_> = members.iter().map(|member| member.user.as_str()).collect();
        listed.sort_unstable();
        (listed == users).then_some(())
    })
    .await;
}

#[tokio::test]
async fn members_on_every_gateway_are_seen_from_everywhere() {
    let Some(redis) = Redis::start() else { return };
    let split = Split::start(&redis, 2, &[]).await;
    let mut ada = split.client(0, "ada", "tasks:1").await;
    let mut again = split.client(1, "ada", "tasks:1").await;
    let _bob = split.client(1, "bob", "tasks:1").await;
    let _elsewhere = split.client(1, "eve", "tasks:2").await;

    until_listed(&split, "tasks:1", &["ada", "ada", "bob"]).await;
    let stats = split.backend.stats("tasks:1").await.unwrap();
    assert_eq!((stats.clients, stats.users), (3, 2));
    assert_eq!(seen_by(&mut ada, "tasks:1").await, ["ada", "ada", "bob"]);
    let stats = again.ask("presence_stats", json!({ "channel": "tasks:1" })).await;
    assert_eq!(
        stats["presence_stats"],
        json!({ "num_clients": 3, "num_users": 2 })
    );

    again.ask("unsubscribe", json!({ "channel": "tasks:1" })).await;
    until_listed(&split, "tasks:1", &["ada", "bob"]).await;
    drop(ada);
    until_listed(&split, "tasks:1", &["bob"]).await;
}

#[tokio::test]
async fn members_of_a_killed_gateway_are_gone_after_its_lease_and_others_stay() {
    let Some(redis) = Redis::start() else { return };
    let mut split = Split::start(&redis, 2, &[("TIDINGS_PRESENCE__LEASE", "2s")]).await;
    let _ada = split.client(0, "ada", "tasks:1").await;
    let mut bob = split.client(1, "bob", "tasks:1").await;
    until_listed(&split, "tasks:1", &["ada", "bob"]).await;

    split.gateways[0].kill().await;
    until_listed(&split, "tasks:1", &["bob"]).await;
    assert_eq!(seen_by(&mut bob, "tasks:1").await, ["bob"]);
}

#[tokio::test]
async fn a_gateway_that_comes_back_under_its_name_replaces_its_old_self_at_once() {
    let Some(redis) = Redis::start() else { return };
    // Longer than this test waits: it is not the lease that removes them.
    let environment = [("TIDINGS_PRESENCE__LEASE", "10m")];
    let mut split = Split::start(&redis, 1, &environment).await;
    let named = || {
        Launch::new("gateway")
            .redis(&redis)
            .env("TIDINGS_PRESENCE__LEASE", "10m")
            .env("TIDINGS_PRESENCE__URL", &split.presence.presence())
            .env("TIDINGS_PRESENCE__GATEWAY", "gateway-1")
    };
    let (old, new) = (named(), named());
    split.gateways.push(old.start().await);
    let _ada = split.client(0, "ada", "tasks:1").await;
    let _bob = split.client(1, "bob", "tasks:1").await;
    until_listed(&split, "tasks:1", &["ada", "bob"]).await;
    split.gateways[1].kill().await;
    split.gateways.push(new.start().await);
    until_listed(&split, "tasks:1", &["ada"]).await;
}

#[tokio::test]
async fn members_of_a_gateway_that_drains_are_gone_at_once() {
    let Some(redis) = Redis::start() else { return };
    // Longer than this test waits: it is not the lease that removes them.
    let mut split = Split::start(&redis, 2, &[("TIDINGS_PRESENCE__LEASE", "10m")]).await;
    let mut ada = split.client(0, "ada", "tasks:1").await;
    let _bob = split.client(1, "bob", "tasks:1").await;
    until_listed(&split, "tasks:1", &["ada", "bob"]).await;
    split.gateways[0].terminate().await;
    assert_eq!(ada.closed().await.0, 3001);
    until_listed(&split, "tasks:1", &["bob"]).await;
}

#[tokio::test]
async fn without_presence_clients_stay_and_events_flow_and_only_its_questions_fail() {
    let Some(redis) = Redis::start() else { return };
    let mut split = Split::start(&redis, 1, &[]).await;
    let mut ada = split.client(0, "ada", "tasks:1").await;
    until_listed(&split, "tasks:1", &["ada"]).await;
    split.presence.kill().await;

    let reply = eventually("presence is missed", async || {
        let reply = ada.ask("presence", json!({ "channel": "tasks:1" })).await;
        Some(reply).filter(|reply| reply["error"].is_object())
    })
    .await;
    assert_eq!(
        (&reply["error"]["code"], &reply["error"]["temporary"]),
        (&json!(100), &Value::Bool(true))
    );
    split
        .backend
        .publish(tidings_tests::event("task.created", "1", &["tasks:1"]))
        .await
        .unwrap();
    assert_eq!(ada.hear().await.1["data"], json!(1));
    let gateway = &split.gateways[0];
    eventually("the gateway says so", async || {
        let (status, health) = gateway.json("/health/ready").await;
        (status == 200 && health["status"] == "degraded" && health["reasons"]["presence"].is_string())
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn of_a_crowd_clients_hear_who_was_there_before_it_was_one_and_ask_how_many_there_are() {
    let config = format!(
        "{CONFIG}\n[[namespace]]\nname = \"room\"\npresence = true\njoin_leave = true\n\
         force_push_join_leave = true\nallow_subscribe_for_client = true\nallow_presence_for_subscriber = true\n"
    );
    let node = Launch::new("standalone").config(&config);
    let node = node.env("TIDINGS_PRESENCE__CROWD", "2").start().await;
    let come = async |user: &str| {
        let mut client = Client::connect(&node.websocket(), &token(user)).await;
        client.subscribe("room:1").await;
        client
    };
    let mut ada = come("ada").await;
    assert_eq!(ada.push().await["join"]["info"]["user"], "ada");
    let bob = come("bob").await;
    assert_eq!(ada.push().await["join"]["info"]["user"], "bob");
    let mut late = Vec::new();
    for user in ["eve", "zoe"] {
        late.push(come(user).await);
    }
    let mut until_there = async |clients: u64| {
        while ada.ask("presence_stats", json!({ "channel": "room:1" })).await["presence_stats"]["num_clients"]
            != clients
        {}
    };
    until_there(4).await;
    // The next that is heard: nothing was said of eve and zoe.
    drop(bob);
    until_there(3).await;
    assert_eq!(ada.push().await["leave"]["info"]["user"], "bob");
    late.pop();
    // She goes from three, of whom two are left: no crowd.
    assert_eq!(ada.push().await["leave"]["info"]["user"], "zoe");
}
