//! A Redis whose platform hides which generation it is: run and replication IDs are zeros.

use std::net::Ipv4Addr;

use tidings_broker::{
    Broker,
    redis::{Config, RedisUrl},
    test_util::RedisServer,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::TaskTracker;

use super::fixture::{LONG, attach, bare, command, on};

#[tokio::test]
async fn a_redis_that_hides_its_run_and_replication_ids_is_whole_and_outdates_no_lease() {
    let Some(server) = RedisServer::start() else {
        return;
    };
    let store = on(&server);
    // As of the time when the platform did not hide it, or of the other processes of a Cluster.
    store.note_generations().await.unwrap();
    let hidden = bare(&Broker::redis(&hiding(&server).await).unwrap());
    let lease = attach(&hidden, "g1", LONG).await;
    for _ in 0..3 {
        hidden.note_generations().await.unwrap();
        hidden.renew(&lease, LONG).await.unwrap();
    }
    assert!(hidden.is_whole().await);
}

/// A configuration for the server, by way of a proxy that replaces its IDs in all that it answers.
async fn hiding(server: &RedisServer) -> Config {
    let info: String = command(server, &["INFO"]).await;
    let id = |name: &str| {
        let id = info.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        id.trim().as_bytes().to_vec()
    };
    let ids = [id("run_id:"), id("master_replid:")];
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let port = server.port();
    let tasks = TaskTracker::new();
    tasks.clone().spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
            let ((mut questions, mut asker), (mut answers, mut asked)) =
                (client.into_split(), server.into_split());
            let ids = ids.clone();
            tasks.spawn(async move { tokio::io::copy(&mut questions, &mut asked).await });
            tasks.spawn(async move {
                let mut buffered = Vec::new();
                while let Ok(1..) = answers.read_buf(&mut buffered).await {
                    let ready = hide(&mut buffered, &ids);
                    if asker.write_all(&ready).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    Config {
        url: Some(RedisUrl::parse(&url).unwrap()),
        ..server.config()
    }
}

/// Takes what is ready to be passed on: all but a part of an ID at the end.
fn hide(buffered: &mut Vec<u8>, ids: &[Vec<u8>]) -> Vec<u8> {
    for id in ids {
        for at in 0..buffered.len().saturating_sub(id.len() - 1) {
            if buffered[at..].starts_with(id) {
                buffered[at..at + id.len()].fill(b'0');
            }
        }
    }
    let begins_id = |at: &usize| ids.iter().any(|id| id.starts_with(&buffered[*at..]));
    let ready = (0..buffered.len()).find(begins_id).unwrap_or(buffered.len());
    let rest = buffered.split_off(ready);
    std::mem::replace(buffered, rest)
}
