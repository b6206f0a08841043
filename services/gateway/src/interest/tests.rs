//! The table and the bus stay in step, whatever comes in between. On the embedded broker, with paused time.

use tidings_broker::{Broker, Incoming, Publisher};
use tidings_core::{Format, Publication};

use super::*;

struct Fixture {
    interest: Interest,
    inboxes: Vec<Arc<Inbox>>,
    publisher: Publisher,
    heard: Arc<parking_lot::Mutex<usize>>,
}

fn fixture() -> Fixture {
    let broker = Broker::memory();
    let heard = Arc::new(parking_lot::Mutex::new(0));
    let count = heard.clone();
    let sink = move |incoming| {
        if matches!(incoming, Incoming::Publication(..)) {
            *count.lock() += 1;
        }
    };
    let inboxes: Vec<_> = (0..2).map(|_| Arc::new(Inbox::default())).collect();
    let subscriber = broker.subscriber(Arc::new(sink));
    Fixture {
        interest: Interest::new(
            Arc::new(Table::new()),
            subscriber,
            inboxes.clone(),
            &Shutdown::new(),
        ),
        inboxes,
        publisher: broker.publisher(),
        heard,
    }
}

fn news() -> Channel {
    Channel::parse("news").unwrap()
}

impl Fixture {
    /// Whether a publication now would reach this node.
    async fn hears(&self) -> bool {
        let before = *self.heard.lock();
        let publication = Publication::new("1".into(), Format::Json, std::time::SystemTime::UNIX_EPOCH);
        self.publisher.publish(&[news().into()], &publication).await;
        *self.heard.lock() > before
    }

    async fn confirmed(&self, core: usize) {
        let mut letters = Vec::new();
        self.inboxes[core].arrived().await;
        self.inboxes[core].take(&mut letters);
        assert!(matches!(&letters[..], [Letter::Interest(channel, Ok(()))] if *channel == news()));
    }

    fn cores(&self) -> Vec<usize> {
        self.interest.0.table.cores(&news()).iter().collect()
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_core_asks_the_bus_and_the_second_finds_the_channel_held() {
    let node = fixture();
    assert_eq!(node.interest.want(0, &news()), Wanted::Asked);
    node.confirmed(0).await;
    assert!(node.hears().await);
    assert_eq!(node.interest.want(1, &news()), Wanted::Held);
    assert_eq!(node.cores(), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn cores_that_ask_while_the_bus_is_asked_hear_of_it_together() {
    let node = fixture();
    assert_eq!(node.interest.want(0, &news()), Wanted::Asked);
    assert_eq!(node.interest.want(1, &news()), Wanted::Asked);
    node.confirmed(0).await;
    node.confirmed(1).await;
}

#[tokio::test(start_paused = true)]
async fn the_bus_keeps_a_channel_for_a_while_after_the_last_core_let_go() {
    let node = fixture();
    node.interest.want(0, &news());
    node.confirmed(0).await;
    node.interest.release(0, &news());
    assert!(node.cores().is_empty());
    tokio::time::sleep(LINGER / 2).await;
    assert!(node.hears().await, "a page that is reloaded comes back");
    assert_eq!(node.interest.want(0, &news()), Wanted::Held);
    tokio::time::sleep(LINGER * 4).await;
    assert!(node.hears().await, "it is wanted again");
    node.interest.release(0, &news());
    tokio::time::sleep(LINGER * 4).await;
    assert!(!node.hears().await);
    assert_eq!(node.interest.want(0, &news()), Wanted::Asked);
    node.confirmed(0).await;
}

#[tokio::test(start_paused = true)]
async fn a_core_that_lets_go_before_the_bus_has_answered_leaves_nothing_behind() {
    let node = fixture();
    node.interest.want(0, &news());
    node.interest.release(0, &news());
    tokio::time::sleep(LINGER).await;
    assert!(!node.hears().await);
    assert!(node.interest.0.table.shard(&news()).read().is_empty());
}

#[test]
fn a_set_of_cores_lists_its_members_ascending() {
    let mut cores = Cores::default();
    for core in [63, 0, 5] {
        cores.insert(core);
    }
    cores.remove(5);
    assert_eq!(cores.iter().collect::<Vec<_>>(), [0, 63]);
}

#[tokio::test]
async fn the_first_of_the_wanted_channels_are_found_by_name_and_whether_there_are_others() {
    let fixture = fixture();
    let names: Vec<_> = (0..300).map(|number| format!("n:{number:03}")).collect();
    for name in names.iter().rev() {
        fixture.interest.want(0, &Channel::parse(name).unwrap());
    }
    let released = Channel::parse("n:001").unwrap();
    fixture.interest.release(0, &released);
    let table = &fixture.interest.0.table;
    assert_eq!(table.wanted(), 299);
    let first = |limit, after: &str| {
        let (found, more) = table.first(limit, |channel| channel.as_str() > after);
        (found.iter().map(Channel::to_string).collect::<Vec<_>>(), more)
    };
    let (found, more) = first(2, "");
    assert_eq!(
        (found, more),
        (vec!["n:000".to_owned(), "n:002".to_owned()], true)
    );
    let (found, more) = first(299, "");
    assert_eq!((found.len(), more), (299, false));
    assert!(found.is_sorted());
    assert_eq!(
        first(2, "n:297"),
        (vec!["n:298".to_owned(), "n:299".to_owned()], false)
    );
    assert_eq!(first(1, "n:297"), (vec!["n:298".to_owned()], true));
    assert_eq!(first(1, "o"), (Vec::new(), false));
}
