//! What every store keeps; what it says on the bus is in `announcements.rs`. One suite; the memory store, a real Redis and a real
//! Redis Cluster pass it. A test ends with a store
//! that has nothing left, so that keys which nobody cleans up are found.

use std::collections::BTreeSet;

use bytes::Bytes;
use tidings_broker::{Broker, test_util::RedisServer};
use tidings_core::{ClientId, ClientInfo};

use super::{Applied, Error, Scan, Stats, Store, fixture::*};
use crate::member::{Change, Member, MemberId};

/// Makes each rule a test of the memory store and a test of Redis, and all together one of a Cluster.
macro_rules! contract {
    ($($rule:ident),+ $(,)?) => {
        mod in_memory {
            $(#[tokio::test(start_paused = true)]
            async fn $rule() {
                super::$rule(super::bare(&super::Broker::memory())).await;
            })+
        }
        mod in_redis {
            $(#[tokio::test]
            async fn $rule() {
                let Some(server) = super::RedisServer::start() else { return };
                let store = super::on(&server);
                super::$rule(store).await;
                assert_eq!(super::keys(&server).await, [] as [String; 0], "left behind");
            })+
        }
        mod in_cluster {
            #[tokio::test]
            async fn every_rule() {
                let Some(cluster) = super::cluster().await else { return };
                $(
                    println!(stringify!($rule));
                    let config = super::named(&cluster, stringify!($rule));
                    super::$rule(super::bare(&super::Broker::redis(&config).unwrap())).await;
                )+
                for node in &cluster.nodes {
                    assert_eq!(super::keys(node).await, [] as [String; 0], "left behind");
                }
            }
        }
    };
}

contract!(
    members_are_seen_in_the_order_of_their_ids_and_page_by_page,
    only_what_was_not_there_has_joined_and_only_what_was_there_has_left,
    a_batch_comes_to_what_each_member_is_in_the_end,
    users_are_counted_once_each,
    an_ended_lease_hides_its_members_at_once_and_cannot_be_renewed,
    three_sweepers_at_once_report_each_leave_once,
    nobody_vanishes_while_a_gateway_attaches_again,
    an_old_attachment_undoes_nothing_of_a_newer_one,
    what_is_written_after_the_sweep_is_not_seen_and_swept_again,
    gateways_do_not_touch_each_others_members,
    many_members_are_seen_page_by_page_too_also_when_most_are_a_dead_gateways,
    counts_are_the_truth_whatever_came_and_went,
    a_user_is_found_on_every_device_and_in_every_channel,
    everyone_is_walked,
);

async fn members_are_seen_in_the_order_of_their_ids_and_page_by_page(store: Store) {
    let lease = attach(&store, "g1", LONG).await;
    let (tasks, news) = (channel("tasks:1"), channel("news"));
    let mut all: Vec<Member> = (0..25).map(|n| member(&tasks, &format!("user{n}"))).collect();
    store.apply(&lease, joins(&all)).await.unwrap();
    store.apply(&lease, joins([&member(&news, "ada")])).await.unwrap();
    all.sort_by_key(|member| member.info.client);

    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store.members(&tasks, after, 10).await.unwrap();
        assert!(page.members.iter().all(|(_, gateway)| gateway.as_str() == "g1"));
        after = page.members.last().map(|(member, _)| member.info.client);
        seen.push(page.members.len());
        let from = seen.iter().sum::<usize>() - page.members.len();
        assert_eq!(
            page.members
                .into_iter()
                .map(|(member, _)| member)
                .collect::<Vec<_>>(),
            all[from..][..seen[seen.len() - 1]]
        );
        if !page.more {
            break;
        }
    }
    assert_eq!(seen, [10, 10, 5]);
    assert_eq!(
        store.members(&channel("nobody"), None, 10).await.unwrap().members,
        []
    );
    leave(&store, &lease).await;
}

async fn only_what_was_not_there_has_joined_and_only_what_was_there_has_left(store: Store) {
    let lease = attach(&store, "g1", LONG).await;
    let (ada, bob) = (member(&channel("tasks"), "ada"), member(&channel("news"), "bob"));
    let joined = store.apply(&lease, joins([&ada, &bob])).await.unwrap();
    assert_eq!(ids(&joined.joined), ids(&[ada.id(), bob.id()]));
    assert_eq!(joined.left, []);

    let renamed = Member {
        info: ClientInfo {
            conn_info: Bytes::from_static(b"{}"),
            ..ada.info.clone()
        },
        ..ada
    };
    assert_eq!(
        store.apply(&lease, joins([&renamed])).await.unwrap(),
        Applied::default()
    );
    assert_eq!(seen(&store, "tasks").await, vec![renamed.clone()]);

    let stranger = MemberId {
        channel: channel("tasks"),
        client: ClientId::random(),
    };
    let left = vec![Change::Left(stranger), Change::Left(renamed.id())];
    let left = store.apply(&lease, left).await.unwrap();
    assert_eq!(
        left,
        Applied {
            left: vec![renamed.id()],
            ..Applied::default()
        }
    );
    assert_eq!(seen(&store, "tasks").await, []);
    assert_eq!(seen(&store, "news").await, [bob]);
    leave(&store, &lease).await;
}

async fn a_batch_comes_to_what_each_member_is_in_the_end(store: Store) {
    let lease = attach(&store, "g1", LONG).await;
    let (ada, bob) = (member(&channel("tasks"), "ada"), member(&channel("tasks"), "bob"));
    store.apply(&lease, joins([&ada])).await.unwrap();
    let changes = vec![
        Change::Joined(bob.clone()),
        Change::Left(ada.id()),
        Change::Left(bob.id()),
        Change::Joined(ada.clone()),
    ];
    assert_eq!(store.apply(&lease, changes).await.unwrap(), Applied::default());
    assert_eq!(seen(&store, "tasks").await, [ada]);
    leave(&store, &lease).await;
}

async fn users_are_counted_once_each(store: Store) {
    let lease = attach(&store, "g1", LONG).await;
    let tasks = channel("tasks");
    let users = ["ada", "ada", "bob", "", ""].map(|user| member(&tasks, user));
    store.apply(&lease, joins(&users)).await.unwrap();
    assert_eq!(store.stats(&tasks).await.unwrap(), Stats { clients: 5, users: 3 });
    assert_eq!(
        store.stats(&channel("nobody")).await.unwrap(),
        Stats { clients: 0, users: 0 }
    );
    leave(&store, &lease).await;
}

async fn an_ended_lease_hides_its_members_at_once_and_cannot_be_renewed(store: Store) {
    let lease = attach(&store, "g1", LONG).await;
    let ada = member(&channel("tasks"), "ada");
    store.apply(&lease, joins([&ada])).await.unwrap();
    store.renew(&lease, SHORT).await.unwrap();
    until_ended(&store, &lease).await;

    assert_eq!(seen(&store, "tasks").await, []);
    assert_eq!(store.stats(&channel("tasks")).await.unwrap().clients, 0);
    assert!(matches!(store.renew(&lease, LONG).await, Err(Error::Ended { lease: which }) if which == lease));

    assert_eq!(sweep(&store, &lease).await, [ada.id()]);
    assert_eq!(store.ended().await.unwrap().leases, []);
    assert!(matches!(
        store.renew(&lease, LONG).await,
        Err(Error::Ended { .. })
    ));
}

async fn three_sweepers_at_once_report_each_leave_once(store: Store) {
    let lease = attach(&store, "g1", LONG).await;
    let all: Vec<Member> = (0..2_500)
        .map(|n| member(&channel(&format!("tasks:{}", n % 100)), "ada"))
        .collect();
    for part in all.chunks(1_000) {
        store.apply(&lease, joins(part)).await.unwrap();
    }
    store.end(&lease).await.unwrap();

    let (one, two, three) = tokio::join!(
        sweep(&store, &lease),
        sweep(&store, &lease),
        sweep(&store, &lease)
    );
    let left = [one, two, three].concat();
    assert_eq!(left.len(), 2_500);
    assert_eq!(ids(&left), all.iter().map(Member::id).collect());
}

async fn nobody_vanishes_while_a_gateway_attaches_again(store: Store) {
    let first = attach(&store, "g1", LONG).await;
    let (ada, bob, eve) = (
        member(&channel("tasks"), "ada"),
        member(&channel("tasks"), "bob"),
        member(&channel("tasks"), "eve"),
    );
    store.apply(&first, joins([&ada, &bob])).await.unwrap();

    let second = attach(&store, "g1", LONG).await;
    assert!(second > first);
    assert_eq!(seen(&store, "tasks").await.len(), 2);
    let again = store.apply(&second, joins([&ada, &eve])).await.unwrap();
    assert_eq!(again.joined, [eve.id()], "ada was there all the time");
    assert_eq!(seen(&store, "tasks").await.len(), 3);

    store.supersede(&second).await.unwrap();
    let there: BTreeSet<ClientId> = seen(&store, "tasks")
        .await
        .iter()
        .map(|member| member.info.client)
        .collect();
    assert_eq!(there, BTreeSet::from([ada.info.client, eve.info.client]));
    assert!(matches!(
        store.renew(&first, LONG).await,
        Err(Error::Ended { .. })
    ));
    store.renew(&second, LONG).await.unwrap();
    assert_eq!(store.ended().await.unwrap().leases, vec![first.clone()]);
    assert_eq!(sweep(&store, &first).await, [bob.id()]);
    assert_eq!(seen(&store, "tasks").await.len(), 2);
    leave(&store, &second).await;
}

async fn an_old_attachment_undoes_nothing_of_a_newer_one(store: Store) {
    let first = attach(&store, "g1", LONG).await;
    let second = attach(&store, "g1", LONG).await;
    let ada = member(&channel("tasks"), "ada");
    store.apply(&second, joins([&ada])).await.unwrap();
    store.supersede(&second).await.unwrap();

    // What the first had under way when its stream was lost.
    assert_eq!(
        store.apply(&first, joins([&ada])).await.unwrap(),
        Applied::default()
    );
    assert_eq!(seen(&store, "tasks").await, vec![ada.clone()]);
    assert_eq!(
        store.apply(&first, vec![Change::Left(ada.id())]).await.unwrap(),
        Applied::default()
    );
    assert_eq!(seen(&store, "tasks").await, [ada]);
    assert_eq!(sweep(&store, &first).await, []);
    leave(&store, &second).await;
}

async fn what_is_written_after_the_sweep_is_not_seen_and_swept_again(store: Store) {
    let lease = attach(&store, "g1", SHORT).await;
    until_ended(&store, &lease).await;
    assert_eq!(sweep(&store, &lease).await, []);

    let ada = member(&channel("tasks"), "ada");
    store.apply(&lease, joins([&ada])).await.unwrap();
    assert_eq!(seen(&store, "tasks").await, []);
    assert!(matches!(
        store.renew(&lease, LONG).await,
        Err(Error::Ended { .. })
    ));
    store.end(&lease).await.unwrap();
    assert_eq!(store.ended().await.unwrap().leases, vec![lease.clone()]);
    assert_eq!(sweep(&store, &lease).await, [ada.id()]);
    assert_eq!(store.ended().await.unwrap().leases, []);
}

async fn gateways_do_not_touch_each_others_members(store: Store) {
    let (one, ten) = (
        attach(&store, "g1", LONG).await,
        attach(&store, "g10", LONG).await,
    );
    let (ada, bob) = (member(&channel("tasks"), "ada"), member(&channel("tasks"), "bob"));
    store.apply(&one, joins([&ada])).await.unwrap();
    store.apply(&ten, joins([&bob])).await.unwrap();

    assert_eq!(
        store.apply(&one, vec![Change::Left(bob.id())]).await.unwrap(),
        Applied::default()
    );
    store.supersede(&one).await.unwrap();
    store.supersede(&ten).await.unwrap();
    assert_eq!(seen(&store, "tasks").await.len(), 2);
    leave(&store, &one).await;
    assert_eq!(seen(&store, "tasks").await, [bob]);
    leave(&store, &ten).await;
}

async fn many_members_are_seen_page_by_page_too_also_when_most_are_a_dead_gateways(store: Store) {
    let (one, two) = (attach(&store, "g1", LONG).await, attach(&store, "g2", LONG).await);
    let tasks = channel("tasks");
    let mut all: Vec<(Member, bool)> = (0..2_600)
        .map(|n| (member(&tasks, &format!("user{n}")), n % 10 == 0))
        .collect();
    for part in all.chunks(1_000) {
        let of = |dies: bool| part.iter().filter(move |(_, its)| *its != dies);
        let of = |dies| joins(of(dies).map(|(member, _)| member));
        store.apply(&one, of(false)).await.unwrap();
        store.apply(&two, of(true)).await.unwrap();
    }
    all.sort_by_key(|(member, _)| member.info.client);
    let everyone: Vec<ClientId> = all.iter().map(|(member, _)| member.info.client).collect();
    assert_eq!(pages(&store, "tasks", 700).await, everyone);
    assert_eq!(
        store.stats(&tasks).await.unwrap(),
        Stats {
            clients: 2_600,
            users: 2_600
        }
    );

    // Not swept yet.
    store.end(&two).await.unwrap();
    let rest: Vec<ClientId> = all
        .iter()
        .filter(|(_, stays)| *stays)
        .map(|(member, _)| member.info.client)
        .collect();
    assert_eq!(pages(&store, "tasks", 7).await, rest);
    assert_eq!(
        store.stats(&tasks).await.unwrap(),
        Stats {
            clients: 260,
            users: 260
        }
    );
    leave(&store, &two).await;
    assert_eq!(pages(&store, "tasks", 100).await, rest);
    leave(&store, &one).await;
}

/// Joins, leaves, new attachments and sweeps by a fixed lot; what is counted is compared with what is listed after each.
async fn counts_are_the_truth_whatever_came_and_went(store: Store) {
    let mut lot = 7_u32;
    let mut draw = move |of: usize| {
        lot = lot.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (lot >> 8) as usize % of
    };
    let names = ["tasks", "news", "room:1"];
    let mut members: Vec<Member> = Vec::new();
    for n in 0..60 {
        let user = ["ada", "bob", "eve", "", "zoe"][n % 5];
        members.push(member(&channel(names[n % 3]), user));
    }
    let mut leases = Vec::new();
    for gateway in ["g1", "g2", "g3"] {
        leases.push(attach(&store, gateway, LONG).await);
    }
    for _ in 0..300 {
        let at = draw(3);
        match draw(10) {
            0 => {
                let newer = attach(&store, leases[at].gateway.as_str(), LONG).await;
                let old = std::mem::replace(&mut leases[at], newer);
                let mine = members.iter().skip(at * 20).take(20).filter(|_| draw(2) == 0);
                store.apply(&leases[at], joins(mine)).await.unwrap();
                store.supersede(&leases[at]).await.unwrap();
                agree(&store, &names).await;
                sweep(&store, &old).await;
            }
            1 => {
                store.end(&leases[at]).await.unwrap();
                agree(&store, &names).await;
                sweep(&store, &leases[at]).await;
                leases[at] = attach(&store, leases[at].gateway.as_str(), LONG).await;
            }
            _ => {
                let changes = (0..=draw(8)).map(|_| {
                    let member = &members[at * 20 + draw(20)];
                    if draw(2) == 0 {
                        Change::Left(member.id())
                    } else {
                        Change::Joined(member.clone())
                    }
                });
                let changes = changes.collect();
                store.apply(&leases[at], changes).await.unwrap();
            }
        }
        agree(&store, &names).await;
    }
    for lease in &leases {
        leave(&store, lease).await;
    }
    agree(&store, &names).await;
}

/// What is counted, found and walked is what is listed.
async fn agree(store: &Store, names: &[&str]) {
    let mut listed = BTreeSet::new();
    for name in names {
        let there = seen(store, name).await;
        let users: BTreeSet<&str> = there.iter().map(|member| &*member.info.user).collect();
        let expected = Stats {
            clients: there.len(),
            users: users.len(),
        };
        assert_eq!(store.stats(&channel(name)).await.unwrap(), expected, "{name}");
        listed.extend(
            there
                .iter()
                .map(|member| (member.info.user.to_string(), member.id())),
        );
    }
    let mut walked = BTreeSet::new();
    let mut scan = Scan::default();
    while let Some(members) = store.scan(&mut scan).await.unwrap() {
        walked.extend(
            members
                .iter()
                .map(|(member, _)| (member.info.user.to_string(), member.id())),
        );
    }
    assert_eq!(walked, listed);
    let users = ["ada", "bob", "eve", "zoe"].map(std::sync::Arc::from);
    let found = store.lookup(&users, 1_000).await.unwrap();
    let found = found.into_iter().flat_map(|found| found.places);
    let found: BTreeSet<_> = found
        .map(|(member, _)| (member.info.user.to_string(), member.id()))
        .collect();
    listed.retain(|(user, _)| !user.is_empty());
    assert_eq!(found, listed);
}

async fn a_user_is_found_on_every_device_and_in_every_channel(store: Store) {
    let (one, two) = (attach(&store, "g1", LONG).await, attach(&store, "g2", LONG).await);
    let phone = member(&channel("tasks"), "a}{da");
    let laptop = member(&channel("tasks"), "a}{da");
    let also = Member {
        channel: channel("news"),
        ..phone.clone()
    };
    store.apply(&one, joins([&phone, &also])).await.unwrap();
    store.apply(&two, joins([&laptop])).await.unwrap();
    let users = ["bob", "a}{da"].map(std::sync::Arc::from);
    let found = store.lookup(&users, 10).await.unwrap();
    assert_eq!(found[0], super::Whereabouts::default());
    let mut expected = vec![phone.clone(), also, laptop.clone()];
    expected.sort_by_key(Member::id);
    let places = found[1].places.iter().map(|(member, _)| member.clone());
    assert_eq!(places.collect::<Vec<_>>(), expected);
    let few = store.lookup(&users, 2).await.unwrap();
    assert_eq!((few[1].places.len(), few[1].truncated), (2, true));

    // A dead gateway's are not there, though they are not swept.
    store.end(&one).await.unwrap();
    let found = store.lookup(&users, 10).await.unwrap();
    assert_eq!(found[1].places, [(laptop, two.gateway.clone())]);
    leave(&store, &one).await;
    leave(&store, &two).await;
    assert_eq!(
        store.lookup(&users, 10).await.unwrap()[1],
        super::Whereabouts::default()
    );
}

async fn everyone_is_walked(store: Store) {
    let leases = [attach(&store, "g1", LONG).await, attach(&store, "g2", LONG).await];
    let all: Vec<Member> = (0..2_500)
        .map(|n| {
            member(
                &channel(&format!("tasks:{}", n % 70)),
                &format!("user{}", n % 900),
            )
        })
        .collect();
    for (n, part) in all.chunks(500).enumerate() {
        store.apply(&leases[n % 2], joins(part)).await.unwrap();
    }
    let (mut walked, mut scan) = (BTreeSet::new(), Scan::default());
    while let Some(members) = store.scan(&mut scan).await.unwrap() {
        walked.extend(members.iter().map(|(member, _)| member.id()));
    }
    assert_eq!(walked, all.iter().map(Member::id).collect());
    for lease in &leases {
        leave(&store, lease).await;
    }
}
