//! A scrub: what no lease finds any more is found, with the documented permissions, in bounded steps, and past foreign keys.

use std::time::Duration;

use tidings_broker::{Broker, redis::Config, test_util::RedisServer};

use super::{
    Epoch, Error, Options, Scrub, Store,
    fixture::{BARE, LONG, as_documented, attach, channel, command, joins, member, seen},
};
use crate::member::{Change, Lease, Member};

/// A store whose Redis has lost the lease of members, and the list of leaves that are announced later.
struct Scene {
    server: RedisServer,
    store: Store,
    lost: Lease,
}

impl Scene {
    /// `count` members in one channel, one of whom has just left.
    async fn begin(count: usize) -> Option<Self> {
        let server = RedisServer::start()?;
        let store = delayed(&as_documented(&server).await);
        let lost = attach(&store, "g1", LONG).await;
        let members: Vec<Member> = (0..count).map(|n| announced(&format!("user{n}"))).collect();
        store.apply(&lost, joins(&members)).await.unwrap();
        store
            .apply(&lost, vec![Change::Left(members[0].id())])
            .await
            .unwrap();
        command::<()>(&server, &["HDEL", "tidings:{leases}", &lost.to_string()]).await;
        let found_by = [
            format!("tidings:{{leases}}:{lost}:users"),
            "tidings:{leases}:leaving".to_owned(),
        ];
        command::<()>(&server, &["DEL", &found_by[0], &found_by[1]]).await;
        Some(Self { server, store, lost })
    }

    /// A scrub for what is under leases from before the lost one was.
    fn scrub(&self) -> Scrub {
        Scrub::new(Epoch(self.lost.serial + 1))
    }

    async fn sweep(&self) {
        for lease in self.store.ended().await.unwrap().leases {
            while !self.store.sweep(&lease).await.unwrap().done {}
        }
    }

    /// How often Redis has been asked for a part of a hash.
    async fn scans(&self) -> u64 {
        let info: String = command(&self.server, &["INFO", "commandstats"]).await;
        let calls = |line: &str| {
            let calls = line.strip_prefix("cmdstat_hscan:calls=")?;
            calls.split(',').next()?.parse().ok()
        };
        info.lines().find_map(calls).unwrap_or_default()
    }
}

#[tokio::test]
async fn a_user_with_the_documented_permissions_may_sweep_and_scrub() {
    let Some(scene) = Scene::begin(3).await else {
        return;
    };
    let Scene { server, store, .. } = &scene;
    let lives = attach(store, "g2", LONG).await;
    let here = announced("here");
    store.apply(&lives, joins([&here])).await.unwrap();
    let mut scrub = scene.scrub();
    while store.scrub(&mut scrub).await.unwrap() {}
    let to_look_at: usize = command(server, &["ZCARD", "tidings:{leases}:leaving"]).await;
    assert_eq!(to_look_at, 1, "a leave that is announced later");
    scene.sweep().await;
    let left: Vec<String> = command(server, &["HKEYS", "tidings:presence:{tasks}"]).await;
    assert_eq!(left, [here.info.client.to_string()]);
    assert_eq!(seen(store, "tasks").await, [here]);
}

#[tokio::test]
async fn a_scrub_that_lacks_a_permission_for_a_command_fails_and_skips_nothing() {
    let Some(scene) = Scene::begin(2).await else {
        return;
    };
    let mut scrub = scene.scrub();
    for name in ["scan", "hscan", "hvals", "hkeys", "hgetall"] {
        let refused = format!("-{name}");
        command::<()>(&scene.server, &["ACL", "SETUSER", "tidings", &refused]).await;
        let mut scrub = scene.scrub();
        let error = loop {
            match scene.store.scrub(&mut scrub).await {
                Ok(more) => assert!(more, "done without {name}"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
        let granted = format!("+{name}");
        command::<()>(&scene.server, &["ACL", "SETUSER", "tidings", &granted]).await;
    }
    while scene.store.scrub(&mut scrub).await.unwrap() {}
}

#[tokio::test]
async fn a_foreign_key_in_the_place_of_members_keeps_no_scrub_from_its_end() {
    let Some(scene) = Scene::begin(2).await else {
        return;
    };
    let Scene { server, lost, .. } = &scene;
    let outdated = format!("{:016}", lost.serial);
    for name in ["strings", "fields"] {
        let leases = format!("tidings:presence:{{{name}}}:leases");
        command::<()>(server, &["HSET", &leases, &outdated, "1"]).await;
    }
    command::<()>(server, &["SET", "tidings:presence:{strings}", "x"]).await;
    command::<()>(server, &["HSET", "tidings:presence:{fields}:leases", "x", "1"]).await;
    let mut scrub = scene.scrub();
    while scene.store.scrub(&mut scrub).await.unwrap() {}
    scene.sweep().await;
    let left: usize = command(server, &["EXISTS", "tidings:presence:{tasks}"]).await;
    assert_eq!(left, 0, "what is ours is swept all the same");
}

#[tokio::test]
async fn a_step_of_a_scrub_looks_at_a_part_of_a_large_channel_only() {
    let Some(scene) = Scene::begin(5_000).await else {
        return;
    };
    let mut scrub = scene.scrub();
    let mut before = scene.scans().await;
    let mut all = 0;
    while scene.store.scrub(&mut scrub).await.unwrap() {
        let scans = scene.scans().await;
        assert!(scans <= before + 1, "{} in one step", scans - before);
        all += scans - before;
        before = scans;
    }
    assert!(all >= 4, "{all}");
    scene.sweep().await;
    let left: usize = command(&scene.server, &["EXISTS", "tidings:presence:{tasks}"]).await;
    assert_eq!(left, 0);
}

fn delayed(config: &Config) -> Store {
    let options = Options {
        leave_delay: Duration::from_secs(3_600),
        ..BARE
    };
    Store::with(&Broker::redis(config).unwrap(), options)
}

fn announced(user: &str) -> Member {
    Member {
        announced: true,
        ..member(&channel("tasks"), user)
    }
}
