//! Dead gateways are swept, whoever dies while doing it.

use std::time::Duration;

use futures_util::FutureExt as _;
use tidings_broker::{
    Broker,
    test_util::{Recorder, RedisServer},
};

use crate::{
    crowd::turns,
    gateway::{Gateway, PATIENCE, client},
    replica::Mortal,
};

#[tokio::test]
async fn each_leave_of_a_dead_gateway_is_heard_once_though_the_replicas_that_sweep_are_killed() {
    let Some(redis) = RedisServer::start() else { return };
    let broker = Broker::redis(&redis.config()).unwrap();
    let rooms = [
        "room:0", "room:1", "room:2", "room:3", "room:4", "room:5", "room:6",
    ];
    let recorder = Recorder::new(&broker, &rooms).await;
    let until = |count| tokio::time::timeout(PATIENCE, recorder.until(count)).map(Result::unwrap);
    let mut replicas: Vec<Mortal> = (0..3).map(|_| Mortal::start(&redis)).collect();
    let gateway = Gateway::start("g1", &replicas[0].replica.channel(), Duration::from_secs(1));
    for n in 0..5_000 {
        gateway.joined(rooms[n % rooms.len()], &client("ada"));
    }
    until(5_000).await;
    drop(gateway);

    // In the middle of it, all replicas but one cease to be.
    until(5_001).await;
    let survivor = replicas.pop();
    replicas.into_iter().for_each(Mortal::kill);
    until(10_000).await;
    let turns = turns(&recorder).await;
    turns.verdict().unwrap();
    assert!(turns.there().is_empty(), "{} stay", turns.there().len());
    survivor.into_iter().for_each(Mortal::kill);
}
