//! What every broker promises about what is said now: the cases of the bus. Each is a promise, in its name.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tidings_broker::{Broker, CONTROL, Error, Incoming, Published, Status, To};
use tidings_core::{ClientId, ClientInfo, Format, Publication, TraceContext};
use tokio::{task::JoinSet, time::timeout};

use crate::common::{Listener, PATIENCE, channel, publication, publish};

pub(crate) async fn a_publication_reaches_all_that_want_its_channel_and_no_other(node: impl Fn() -> Broker) {
    let (one, two) = (node(), node());
    let (mut here, mut there, mut elsewhere) =
        (Listener::new(&one), Listener::new(&two), Listener::new(&two));
    here.subscribe("tasks:1").await;
    there.subscribe("tasks:1").await;
    elsewhere.subscribe("tasks:2").await;

    let publisher = one.publisher();
    publish(&publisher, "tasks:1", "hello").await;
    for listener in [&mut here, &mut there] {
        assert_eq!(listener.hear().await, ("tasks:1".into(), "hello".into()));
        listener.assert_silent(&publisher).await;
    }
    elsewhere.assert_silent(&publisher).await;
}

pub(crate) async fn all_subscribers_hear_a_channel_in_one_order(node: impl Fn() -> Broker) {
    const EACH: usize = 200;
    let (one, two) = (node(), node());
    let (mut here, mut there) = (Listener::new(&one), Listener::new(&two));
    here.subscribe("tasks:1").await;
    there.subscribe("tasks:1").await;

    let mut publishers = JoinSet::new();
    for (name, publisher) in [("a", one.publisher()), ("b", two.publisher())] {
        publishers.spawn(async move {
            for n in 0..EACH {
                publish(&publisher, "tasks:1", &format!("{name}{n:04}")).await;
            }
        });
    }
    publishers.join_all().await;

    let mut heard = Vec::new();
    for _ in 0..2 * EACH {
        let publication = here.hear().await;
        assert_eq!(publication, there.hear().await);
        heard.push(publication.1);
    }
    for name in ["a", "b"] {
        let from_one: Vec<_> = heard.iter().filter(|data| data.starts_with(name)).collect();
        assert!(from_one.is_sorted() && from_one.len() == EACH, "{from_one:?}");
    }
}

pub(crate) async fn nothing_arrives_after_unsubscribing_has_returned(node: impl Fn() -> Broker) {
    let (one, two) = (node(), node());
    let mut listener = Listener::new(&one);
    listener.subscribe("tasks:1").await;

    let flooding = two.publisher();
    let mut flood = JoinSet::new();
    flood.spawn(async move {
        loop {
            publish(&flooding, "tasks:1", "again").await;
            tokio::task::yield_now().await;
        }
    });
    listener.hear().await;
    listener.unsubscribe("tasks:1").await;
    listener.drain();
    listener.assert_silent(&one.publisher()).await;
    flood.shutdown().await;
}

pub(crate) async fn every_field_of_a_publication_arrives(node: impl Fn() -> Broker) {
    let (one, two) = (node(), node());
    let mut listener = Listener::new(&two);
    listener.subscribe("tasks:1").await;
    let sent = Publication {
        id: "7f".into(),
        kind: "task.created".into(),
        data: Bytes::from_static(b"\x00\xff{}\r\n"),
        format: Format::Binary,
        tags: BTreeMap::from([("region".into(), "eu".into()), ("ünïcode".into(), String::new())]),
        info: Some(info("ada")),
        position: None,
        seam: None,
        time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_766_000_000_123),
        trace: Some(TraceContext {
            traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
            tracestate: "vendor=1".into(),
        }),
    };
    let results = one.publisher().publish(&[channel("tasks:1").into()], &sent).await;
    assert!(
        matches!(
            results.as_slice(),
            [Ok(Published {
                position: None,
                duplicate: false
            })]
        ),
        "{results:?}"
    );
    assert_eq!(
        listener.next().await,
        Incoming::Publication(channel("tasks:1"), sent)
    );
}

pub(crate) async fn data_is_delivered_whole_whatever_its_size(node: impl Fn() -> Broker) {
    let (one, two) = (node(), node());
    let mut listener = Listener::new(&two);
    listener.subscribe("tasks:1").await;
    for size in [0, 1, 1 << 16, 3 << 20] {
        let data = "x".repeat(size);
        publish(&one.publisher(), "tasks:1", &data).await;
        assert!(listener.hear().await.1 == data, "{size} bytes");
    }
}

pub(crate) async fn what_is_published_after_subscribing_has_returned_is_heard(node: impl Fn() -> Broker) {
    let (one, two) = (node(), node());
    let mut listener = Listener::new(&two);
    let publisher = one.publisher();
    for n in 0..100 {
        let name = format!("tasks:{n}");
        listener.subscribe(&name).await;
        publish(&publisher, &name, "now").await;
        assert_eq!(listener.hear().await.0, name);
    }
}

pub(crate) async fn one_publication_goes_to_all_its_channels(node: impl Fn() -> Broker) {
    let (one, two) = (node(), node());
    let mut listener = Listener::new(&two);
    let targets = ["a:1", "b:1", "c:1"].map(|name| channel(name).into());
    listener.subscribe("a:1").await;
    listener.subscribe("c:1").await;
    let publisher = one.publisher();
    let results = publisher.publish(&targets, &publication("hello")).await;
    assert!(matches!(results.as_slice(), [Ok(_), Ok(_), Ok(_)]), "{results:?}");
    // Each channel has its order; there is none between them.
    let heard = BTreeSet::from([listener.hear().await.0, listener.hear().await.0]);
    assert_eq!(heard, BTreeSet::from(["a:1".to_owned(), "c:1".to_owned()]));
    listener.assert_silent(&publisher).await;
    assert!(publisher.publish(&[], &publication("to nobody")).await.is_empty());
}

pub(crate) async fn subscribers_do_not_disturb_each_other(node: impl Fn() -> Broker) {
    let node = node();
    let (mut stays, leaves, dropped) = (Listener::new(&node), Listener::new(&node), Listener::new(&node));
    for listener in [&stays, &leaves, &dropped] {
        listener.subscribe("tasks:1").await;
    }
    leaves.unsubscribe("tasks:1").await;
    drop(dropped);
    let publisher = node.publisher();
    publish(&publisher, "tasks:1", "hello").await;
    assert_eq!(stays.hear().await.1, "hello");
    stays.assert_silent(&publisher).await;
}

pub(crate) async fn interest_is_a_set_and_not_a_count(node: impl Fn() -> Broker) {
    let node = node();
    let mut listener = Listener::new(&node);
    listener.unsubscribe("tasks:1").await;
    listener.subscribe("tasks:1").await;
    listener.subscribe("tasks:1").await;
    let publisher = node.publisher();
    publish(&publisher, "tasks:1", "once").await;
    assert_eq!(listener.hear().await.1, "once");
    listener.unsubscribe("tasks:1").await;
    publish(&publisher, "tasks:1", "not at all").await;
    listener.assert_silent(&publisher).await;
    listener.subscribe("tasks:1").await;
    publish(&publisher, "tasks:1", "again").await;
    assert_eq!(listener.hear().await.1, "again");
}

pub(crate) async fn two_thousand_channels_are_subscribed_at_once(node: impl Fn() -> Broker) {
    let (one, two) = (node(), node());
    let mut listener = Listener::new(&two);
    let channels: Vec<_> = (0..2000).map(|n| channel(&format!("tasks:{n}"))).collect();
    let mut calls = JoinSet::new();
    for channel in channels.clone() {
        let subscriber = listener.subscriber.clone();
        calls.spawn(async move { subscriber.subscribe(&channel).await.unwrap() });
    }
    timeout(PATIENCE, calls.join_all()).await.unwrap();

    let targets: Vec<_> = channels.iter().cloned().map(Into::into).collect();
    let results = one.publisher().publish(&targets, &publication("hello")).await;
    assert!(
        results.len() == channels.len() && results.iter().all(Result::is_ok),
        "{results:?}"
    );
    let mut heard = BTreeSet::new();
    for _ in &channels {
        assert!(heard.insert(listener.hear().await.0), "once each");
    }
    assert!(channels.iter().all(|channel| heard.contains(channel.as_str())));
}

pub(crate) async fn members_that_come_and_leave_are_announced(node: impl Fn() -> Broker) {
    let (one, two) = (node(), node());
    let mut listener = Listener::new(&two);
    listener.subscribe("room:1").await;
    let (publisher, room, ada) = (one.publisher(), channel("room:1"), info("ada"));
    publisher.joined(&room, &ada).await.unwrap();
    publisher.left(&room, &ada).await.unwrap();
    assert_eq!(listener.next().await, Incoming::Join(room.clone(), ada.clone()));
    assert_eq!(listener.next().await, Incoming::Leave(room, ada));
    listener.assert_silent(&publisher).await;
}

pub(crate) async fn what_a_node_is_told_reaches_it_and_no_other(node: impl Fn() -> Broker) {
    let (one, two) = (node(), node());
    let (mut here, mut there) = (Listener::new(&one), Listener::new(&two));
    here.subscriber.listen(To::Node("here")).await.unwrap();
    there.subscriber.listen(To::Node("there")).await.unwrap();
    let (publisher, word) = (one.publisher(), Bytes::from_static(b"\x00\xffword"));

    assert_eq!(publisher.tell(To::Node("there"), &word).await.unwrap(), 1);
    assert_eq!(there.next().await, Incoming::Control(word.clone()));
    for nobody in [To::Node("elsewhere"), To::Node("the"), To::Node(""), To::All] {
        assert_eq!(publisher.tell(nobody, &word).await.unwrap(), 0, "{nobody:?}");
    }
    drop(there);
    // The bus takes a moment to notice.
    timeout(PATIENCE, async {
        while publisher.tell(To::Node("there"), &word).await.unwrap() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    here.assert_silent(&publisher).await;
}

pub(crate) async fn what_all_are_told_reaches_those_who_listen_to_that(node: impl Fn() -> Broker) {
    let (one, two) = (node(), node());
    let (mut here, mut there, mut alone) = (Listener::new(&one), Listener::new(&two), Listener::new(&two));
    for (listener, name) in [(&here, "here"), (&there, "there")] {
        listener.subscriber.listen(To::Node(name)).await.unwrap();
        listener.subscriber.listen(To::All).await.unwrap();
        listener.subscriber.listen(To::All).await.unwrap();
    }
    alone.subscriber.listen(To::Node("alone")).await.unwrap();

    let (publisher, word) = (one.publisher(), Bytes::from_static(b"word"));
    assert_eq!(publisher.tell(To::All, &word).await.unwrap(), 2);
    for listener in [&mut here, &mut there] {
        assert_eq!(listener.next().await, Incoming::Control(word.clone()));
        listener.assert_silent(&publisher).await;
    }
    alone.assert_silent(&publisher).await;
}

pub(crate) async fn a_message_to_nodes_is_whole_up_to_its_limit_and_refused_beyond(
    node: impl Fn() -> Broker,
) {
    let (one, two) = (node(), node());
    let mut listener = Listener::new(&two);
    listener.subscriber.listen(To::All).await.unwrap();
    let (publisher, most) = (one.publisher(), Bytes::from(vec![7; CONTROL]));
    assert_eq!(publisher.tell(To::All, &most).await.unwrap(), 1);
    assert!(listener.next().await == Incoming::Control(most));

    let more = Bytes::from(vec![7; CONTROL + 1]);
    let refused = publisher.tell(To::All, &more).await;
    assert!(
        matches!(refused, Err(Error::TooLong { size }) if size == CONTROL + 1),
        "{refused:?}"
    );
    listener.assert_silent(&publisher).await;
}

pub(crate) async fn a_broker_in_use_is_up(node: impl Fn() -> Broker) {
    let node = node();
    let mut status = node.status();
    timeout(PATIENCE, status.wait_for(|status| *status == Status::Up))
        .await
        .unwrap()
        .unwrap();
}

fn info(user: &str) -> ClientInfo {
    ClientInfo {
        user: user.into(),
        client: ClientId::random(),
        conn_info: Bytes::from_static(br#"{"name":"Ada"}"#),
        chan_info: Bytes::new(),
    }
}
