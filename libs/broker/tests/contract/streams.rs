//! What every broker promises about what is kept: the cases of streams. Each is a promise, in its name.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration, time::SystemTime};

use bytes::Bytes;
use tidings_broker::{Broker, History, Incoming, Once, Published, Publisher, Query, Target, Version};
use tidings_core::{ClientId, ClientInfo, Format, Position, Publication, Retention, TraceContext};
use tokio::task::JoinSet;

use crate::common::{Listener, channel, eventually, publication};

/// More than any case publishes, for longer than any takes.
const PLENTY: Retention = Retention {
    size: NonZeroU32::new(1000).unwrap(),
    ttl: Duration::from_secs(600),
};

const ALL: Query = Query {
    since: None,
    limit: 1000,
    reverse: false,
    bytes: None,
};

pub(crate) async fn publications_are_numbered_from_one_without_holes_in_the_order_in_which_they_are_heard(
    node: impl Fn() -> Broker,
) {
    const EACH: u64 = 100;
    let (one, two) = (node(), node());
    let (mut here, mut there) = (Listener::new(&one), Listener::new(&two));
    for listener in [&here, &there] {
        listener.subscribe("tasks:1").await;
        listener.subscribe("tasks:2").await;
    }
    let mut publishers = JoinSet::new();
    for publisher in [one.publisher(), two.publisher(), one.publisher()] {
        publishers.spawn(async move {
            let targets = [kept("tasks:1", PLENTY), kept("tasks:2", PLENTY)];
            for _ in 0..EACH {
                for result in publisher.publish(&targets, &publication("hello")).await {
                    result.unwrap();
                }
            }
        });
    }
    publishers.join_all().await;

    for listener in [&mut here, &mut there] {
        let mut heard: BTreeMap<String, Vec<Position>> = BTreeMap::new();
        for _ in 0..6 * EACH {
            let (channel, position) = listener.hear_position().await;
            heard.entry(channel).or_default().push(position);
        }
        for positions in heard.values() {
            assert_eq!(offsets(positions), (1..=3 * EACH).collect::<Vec<_>>());
            assert!(
                positions
                    .iter()
                    .all(|position| position.epoch == positions[0].epoch)
            );
        }
        assert_ne!(heard["tasks:1"][0].epoch, heard["tasks:2"][0].epoch);
    }
    let read = one
        .streams()
        .read(&channel("tasks:1"), PLENTY, ALL, None)
        .await
        .unwrap();
    assert_eq!(read.top.offset, 3 * EACH);
    assert_eq!(places(&read), (1..=3 * EACH).collect::<Vec<_>>());
}

pub(crate) async fn every_field_of_a_publication_is_kept(node: impl Fn() -> Broker) {
    let (one, two) = (node(), node());
    let mut listener = Listener::new(&two);
    listener.subscribe("tasks:1").await;
    let sent = Publication {
        id: "7f".into(),
        kind: "task.created".into(),
        data: Bytes::from_static(b"\x00\xff{}\r\n"),
        format: Format::Binary,
        tags: BTreeMap::from([("region".into(), "eu".into()), ("ünïcode".into(), String::new())]),
        info: Some(ClientInfo {
            user: "ada".into(),
            client: ClientId::random(),
            conn_info: Bytes::from_static(b"{}"),
            chan_info: Bytes::new(),
        }),
        // Not its place: that is given to it.
        position: Some(Position {
            offset: 77,
            epoch: "elsewhere".into(),
        }),
        seam: None,
        time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_766_000_000_123),
        trace: Some(TraceContext {
            traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
            tracestate: "vendor=1".into(),
        }),
    };
    let published = put(&one.publisher(), kept("tasks:1", PLENTY), &sent).await;
    let expected = Publication {
        position: published.position,
        ..sent
    };
    assert_eq!(
        listener.next().await,
        Incoming::Publication(channel("tasks:1"), expected.clone())
    );
    let read = two
        .streams()
        .read(&channel("tasks:1"), PLENTY, ALL, None)
        .await
        .unwrap();
    assert_eq!(read.publications, [expected]);
}

pub(crate) async fn a_stream_is_read_from_where_and_how_far_it_is_asked(node: impl Fn() -> Broker) {
    let node = node();
    let streams = node.streams();
    let published = fill(&node.publisher(), kept("tasks:1", PLENTY), 5).await;
    let check = async |since, limit, reverse, expected: &[u64]| {
        let query = Query {
            since,
            limit,
            reverse,
            bytes: None,
        };
        let read = streams
            .read(&channel("tasks:1"), PLENTY, query, None)
            .await
            .unwrap();
        assert_eq!(places(&read), expected, "{query:?}");
        assert_eq!(Some(read.top), published.position, "{query:?}");
    };
    check(None, 9, false, &[1, 2, 3, 4, 5]).await;
    check(None, 2, false, &[1, 2]).await;
    check(None, 2, true, &[5, 4]).await;
    check(None, 9, true, &[5, 4, 3, 2, 1]).await;
    check(Some(0), 9, false, &[1, 2, 3, 4, 5]).await;
    check(Some(3), 9, false, &[4, 5]).await;
    check(Some(1), 2, false, &[2, 3]).await;
    check(Some(3), 9, true, &[2, 1]).await;
    check(Some(5), 2, true, &[4, 3]).await;
    check(Some(9), 2, true, &[5, 4]).await;
    for end in [0, 1] {
        check(Some(end), 9, true, &[]).await;
    }
    for end in [5, 6, 1 << 53, u64::MAX] {
        check(Some(end), 9, false, &[]).await;
    }
    check(None, 0, false, &[]).await;
    check(Some(2), 0, true, &[]).await;
    check(Some(2), u32::MAX, false, &[3, 4, 5]).await;
}

pub(crate) async fn only_the_newest_publications_are_kept(node: impl Fn() -> Broker) {
    let node = node();
    let (publisher, streams) = (node.publisher(), node.streams());
    for (name, size, total) in [("a:1", 1, 3), ("b:1", 7, 300), ("c:1", 200, 500)] {
        let retention = Retention {
            size: NonZeroU32::new(size).unwrap(),
            ..PLENTY
        };
        fill(&publisher, kept(name, retention), total).await;
        let newest: Vec<u64> = (total + 1 - u64::from(size)..=total).collect();
        let read = async |query| {
            places(
                &streams
                    .read(&channel(name), retention, query, None)
                    .await
                    .unwrap(),
            )
        };
        assert_eq!(read(ALL).await, newest);
        let reverse = Query { reverse: true, ..ALL };
        assert!(read(reverse).await.iter().rev().eq(&newest));
        // What is gone is missing in front: nobody can take the rest for everything.
        let after_one = Query {
            since: Some(1),
            ..ALL
        };
        assert_eq!(read(after_one).await, newest);
    }
}

pub(crate) async fn what_is_too_old_is_not_read(node: impl Fn() -> Broker) {
    let node = node();
    let (publisher, streams) = (node.publisher(), node.streams());
    let short = Retention {
        ttl: Duration::from_millis(200),
        ..PLENTY
    };
    let name = channel("tasks:1");
    // It is kept long enough to see that it is not read for another reason.
    fill(&publisher, kept("tasks:1", PLENTY), 70).await;
    eventually(async || {
        streams
            .read(&name, short, ALL, None)
            .await
            .unwrap()
            .publications
            .is_empty()
    })
    .await;
    fill(&publisher, kept("tasks:1", PLENTY), 2).await;
    let longer = Retention {
        ttl: Duration::from_secs(60),
        ..short
    };
    let read = streams.read(&name, longer, ALL, None).await.unwrap();
    assert_eq!(places(&read), (1..=72).collect::<Vec<_>>());

    // Some are old and some are not: only the front is missing.
    eventually(async || {
        fill(&publisher, kept("tasks:1", PLENTY), 1).await;
        let read = streams.read(&name, short, ALL, None).await.unwrap();
        let places = places(&read);
        assert!(places.is_sorted_by(|one, next| one + 1 == *next));
        assert!(places.last().is_none_or(|last| *last == read.top.offset));
        places.first().is_some_and(|first| *first > 72)
    })
    .await;

    // As a whole it is gone when it was quiet for so long; the position stays.
    let before = fill(&publisher, kept("tasks:2", short), 3).await;
    let name = channel("tasks:2");
    eventually(async || {
        streams
            .read(&name, PLENTY, ALL, None)
            .await
            .unwrap()
            .publications
            .is_empty()
    })
    .await;
    let after = fill(&publisher, kept("tasks:2", short), 1).await;
    let (before, after) = (before.position.unwrap(), after.position.unwrap());
    assert_eq!((after.offset, after.epoch), (4, before.epoch));
}

pub(crate) async fn a_stream_without_a_publication_has_a_provisional_position(node: impl Fn() -> Broker) {
    let (one, two) = (node(), node());
    let name = channel("tasks:1");
    let read = one.streams().read(&name, PLENTY, ALL, None).await.unwrap();
    assert!(read.publications.is_empty());
    assert!(read.top.is_provisional(), "{:?}", read.top);
    assert_eq!(two.streams().read(&name, PLENTY, ALL, None).await.unwrap(), read);
    let published = fill(&two.publisher(), kept("tasks:1", PLENTY), 1).await;
    let first = published.position.unwrap();
    assert_eq!(first.offset, 1);
    assert_ne!(first.epoch, read.top.epoch);
    let after = one
        .streams()
        .read(&name, PLENTY, ALL, Some(&read.top.clone().into()))
        .await
        .unwrap();
    assert_eq!(
        after.top, first,
        "a provisional position is no evidence of a loss"
    );
    assert!(after.is_of(&read.top) && after.is_of(&first));

    one.streams().remove(&name).await.unwrap();
    fill(&two.publisher(), kept("tasks:1", PLENTY), 1).await;
    let anew = one.streams().read(&name, PLENTY, ALL, None).await.unwrap();
    assert!(!anew.is_of(&read.top), "there was another stream in between");
}

pub(crate) async fn a_read_ends_where_its_bytes_end_but_not_before_one_publication(
    node: impl Fn() -> Broker,
) {
    let node = node();
    let data = "x".repeat(1000);
    for _ in 0..40 {
        let target = kept("tasks:1", PLENTY);
        put(&node.publisher(), target, &publication(&format!("\"{data}\""))).await;
    }
    let read = async |query: Query| {
        let name = channel("tasks:1");
        places(&node.streams().read(&name, PLENTY, query, None).await.unwrap())
    };
    let budget = |bytes| Query {
        bytes: NonZeroU32::new(bytes),
        ..ALL
    };
    assert_eq!(read(budget(1)).await, [1]);
    let some = read(budget(20_000)).await;
    assert!((15..20).contains(&some.len()), "{some:?}");
    assert_eq!(some, (1..=some.len() as u64).collect::<Vec<_>>());
    let newest = read(Query {
        reverse: true,
        ..budget(5000)
    });
    let newest = newest.await;
    assert!((3..5).contains(&newest.len()) && newest[0] == 40, "{newest:?}");
    assert_eq!(read(budget(1 << 20)).await.len(), 40);
    let limited = Query {
        limit: 3,
        ..budget(1 << 20)
    };
    assert_eq!(read(limited).await, [1, 2, 3]);
}

pub(crate) async fn a_stream_that_was_removed_begins_anew_with_another_epoch(node: impl Fn() -> Broker) {
    let node = node();
    let (publisher, streams) = (node.publisher(), node.streams());
    let name = channel("tasks:1");
    let before = fill(&publisher, kept("tasks:1", PLENTY), 3)
        .await
        .position
        .unwrap();
    streams.remove(&name).await.unwrap();
    let read = streams.read(&name, PLENTY, ALL, None).await.unwrap();
    assert!(read.publications.is_empty());
    assert_eq!(read.top.offset, 0);
    assert_ne!(read.top.epoch, before.epoch);
    let after = fill(&publisher, kept("tasks:1", PLENTY), 1)
        .await
        .position
        .unwrap();
    assert_eq!((after.offset, after.epoch), (1, read.top.epoch));
    streams.remove(&channel("never:1")).await.unwrap();
}

pub(crate) async fn a_repeated_publish_gets_the_first_answer_and_is_not_sent(node: impl Fn() -> Broker) {
    let (one, two) = (node(), node());
    let mut listener = Listener::new(&two);
    listener.subscribe("tasks:1").await;
    let target = Target {
        once: Some(Once::new("event {7}\n")),
        ..kept("tasks:1", PLENTY)
    };
    let first = put(&one.publisher(), target.clone(), &publication("first")).await;
    assert!(!first.duplicate);
    fill(&one.publisher(), kept("tasks:1", PLENTY), 1).await;
    let again = put(&two.publisher(), target.clone(), &publication("again")).await;
    assert_eq!(
        again,
        Published {
            duplicate: true,
            ..first.clone()
        }
    );

    let mut publishers = JoinSet::new();
    for publisher in [one.publisher(), two.publisher(), one.publisher(), two.publisher()] {
        let target = Target {
            once: Some(Once::new("at once")),
            ..target.clone()
        };
        publishers.spawn(async move { put(&publisher, target, &publication("one of four")).await });
    }
    let answers = publishers.join_all().await;
    assert_eq!(answers.iter().filter(|answer| !answer.duplicate).count(), 1);
    assert!(
        answers
            .iter()
            .all(|answer| answer.position == answers[0].position)
    );

    for expected in ["first", "1", "one of four"] {
        assert_eq!(listener.hear().await.1, expected);
    }
    listener.assert_silent(&one.publisher()).await;
    let read = one
        .streams()
        .read(&channel("tasks:1"), PLENTY, ALL, None)
        .await
        .unwrap();
    assert_eq!(places(&read), [1, 2, 3]);
}

pub(crate) async fn a_repeated_publish_of_what_is_not_kept_is_not_sent_either(node: impl Fn() -> Broker) {
    let (one, two) = (node(), node());
    let mut listener = Listener::new(&two);
    listener.subscribe("tasks:1").await;
    let target = Target {
        once: Some(Once::new("7")),
        ..channel("tasks:1").into()
    };
    for duplicate in [false, true, true] {
        let published = put(&one.publisher(), target.clone(), &publication("once")).await;
        assert_eq!(
            published,
            Published {
                position: None,
                duplicate
            }
        );
    }
    assert_eq!(listener.hear().await.1, "once");
    listener.assert_silent(&one.publisher()).await;
}

pub(crate) async fn keys_are_those_of_a_channel_and_of_a_window(node: impl Fn() -> Broker) {
    let node = node();
    let publisher = node.publisher();
    let once = |name: &str, window| Target {
        once: Some(Once {
            window,
            ..Once::new("7")
        }),
        ..kept(name, PLENTY)
    };
    let targets = [once("a:1", PLENTY.ttl), once("b:1", PLENTY.ttl)];
    for duplicate in [false, true] {
        for result in publisher.publish(&targets, &publication("1")).await {
            assert_eq!(result.unwrap().duplicate, duplicate);
        }
    }
    let brief = || once("c:1", Duration::from_millis(20));
    assert!(!put(&publisher, brief(), &publication("1")).await.duplicate);
    eventually(async || !put(&publisher, brief(), &publication("1")).await.duplicate).await;
}

pub(crate) async fn positions_are_those_of_all_channels_at_once(node: impl Fn() -> Broker) {
    let (one, two) = (node(), node());
    let channels: Vec<_> = (0..700).map(|n| channel(&format!("tasks:{n}"))).collect();
    let first = fill(&one.publisher(), kept("tasks:0", PLENTY), 2).await;
    let last = fill(&one.publisher(), kept("tasks:699", PLENTY), 3).await;
    let positions = async |node: &Broker| -> Vec<Position> {
        let asked: Vec<_> = channels.iter().map(|channel| (channel, None)).collect();
        let positions = node.streams().positions(&asked).await.into_iter();
        positions.map(Result::unwrap).collect()
    };
    let found = positions(&two).await;
    assert_eq!(found.first(), first.position.as_ref());
    assert_eq!(found.last(), last.position.as_ref());
    assert!(found[1..699].iter().all(Position::is_provisional));
    assert_eq!(positions(&one).await, found);
    assert!(one.streams().positions(&[]).await.is_empty());
}

pub(crate) async fn what_is_not_kept_has_no_place_in_the_stream(node: impl Fn() -> Broker) {
    let node = node();
    let publisher = node.publisher();
    let mut listener = Listener::new(&node);
    listener.subscribe("tasks:1").await;
    let mut offsets = Vec::new();
    for target in [
        kept("tasks:1", PLENTY),
        channel("tasks:1").into(),
        kept("tasks:1", PLENTY),
    ] {
        let published = put(&publisher, target, &publication("hello")).await;
        let Incoming::Publication(_, heard) = listener.next().await else {
            panic!("a publication was sent");
        };
        assert_eq!(heard.position, published.position);
        offsets.push(published.position.map(|position| position.offset));
    }
    assert_eq!(offsets, [Some(1), None, Some(2)]);
}

fn kept(name: &str, retention: Retention) -> Target {
    Target {
        retention: Some(retention),
        ..channel(name).into()
    }
}

async fn put(publisher: &Publisher, target: Target, publication: &Publication) -> Published {
    publisher.publish(&[target], publication).await.remove(0).unwrap()
}

/// Publishes the numbers from 1 to `count`, and returns what became of the last.
async fn fill(publisher: &Publisher, target: Target, count: u64) -> Published {
    let mut last = None;
    for number in 1..=count {
        last = Some(put(publisher, target.clone(), &publication(&number.to_string())).await);
    }
    last.unwrap()
}

fn offsets(positions: &[Position]) -> Vec<u64> {
    positions.iter().map(|position| position.offset).collect()
}

/// The offsets of what was read.
fn places(history: &History) -> Vec<u64> {
    let publications = history.publications.iter();
    publications
        .map(|publication| publication.position.as_ref().unwrap().offset)
        .collect()
}

pub(crate) async fn what_is_no_newer_than_what_is_there_is_not_published(node: impl Fn() -> Broker) {
    let (one, two) = (node(), node());
    let mut listener = Listener::new(&two);
    listener.subscribe("tasks:1").await;
    let publisher = one.publisher();
    let publish = async |number: u64, row: &str| {
        let target = Target {
            version: Some(Version {
                number,
                epoch: row.into(),
            }),
            ..kept("tasks:1", PLENTY)
        };
        put(&publisher, target, &publication(&number.to_string())).await
    };
    let newest = publish(u64::MAX - 1, "a").await;
    for old in [u64::MAX - 1, u64::MAX - 2, 0] {
        let answer = publish(old, "a").await;
        assert!(answer.duplicate, "{old} is no newer");
        assert_eq!(answer.position, newest.position, "where the stream is");
    }
    for (number, row) in [(u64::MAX, "a"), (1, "b")] {
        assert!(!publish(number, row).await.duplicate, "newer, or another row");
    }
    // What has no version asks for nothing, and does not count.
    put(&publisher, kept("tasks:1", PLENTY), &publication("none")).await;
    assert!(publish(1, "b").await.duplicate);
    for expected in [u64::MAX - 1, u64::MAX, 1] {
        assert_eq!(listener.hear().await.1, expected.to_string());
    }
    assert_eq!(listener.hear().await.1, "none");
    listener.assert_silent(&publisher).await;
}
