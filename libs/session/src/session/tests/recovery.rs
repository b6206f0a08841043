//! Coming back: everything that was missed, or word that this cannot be.

use bytes::Bytes;
use tidings_core::{Position, Publication, filter};
use tidings_protocol::command;

use super::fixture::*;
use crate::{Base, Place, Read};

/// Whether a client that comes back from `since` has recovered where this is found, with which offsets, and the position
/// that it is told.
fn recovered(name: &str, since: Position, found: Place) -> (bool, Vec<u64>, Position) {
    let mut client = connected(rules(), "ada");
    let (_, told) = client.come_back(back(name, since), found);
    let (told, _) = told.expect("a subscription");
    let offsets = told
        .publications
        .iter()
        .map(|it| it.position.as_ref().unwrap().offset)
        .collect();
    (told.recovered.unwrap(), offsets, told.position.unwrap())
}

fn back(name: &str, since: Position) -> command::Subscribe {
    command::Subscribe {
        recover: Some(since),
        ..wanting(name)
    }
}

#[test]
fn who_comes_back_gets_exactly_what_it_missed_and_starts_from_where_it_was() {
    let all = recovered("kept:1", position(5, "e"), place(7, &[6, 7]));
    assert_eq!(all, (true, vec![6, 7], position(5, "e")));
    let nothing = recovered("kept:1", position(7, "e"), place(7, &[]));
    assert_eq!(nothing, (true, vec![], position(7, "e")));
    let any_epoch = recovered("kept:1", position(5, ""), place(6, &[6]));
    assert_eq!(any_epoch, (true, vec![6], position(5, "e")));
}

#[test]
fn a_recovery_is_never_partial() {
    let lost = |since, found: Place| {
        let top = found.position.clone().unwrap();
        assert_eq!(recovered("kept:1", since, found), (false, vec![], top));
    };
    lost(position(5, "other"), place(7, &[6, 7]));
    lost(position(5, "e"), place(7, &[7])); // the oldest are gone
    lost(position(5, "e"), place(8, &[6, 7])); // more than one answer has
    lost(position(5, "e"), place(8, &[6, 8])); // a hole
    lost(position(5, "e"), place(7, &[])); // all gone
    lost(position(9, "e"), place(7, &[])); // from the future
    lost(position(u64::MAX, "e"), place(0, &[0]));
    let mut of_old = place(7, &[6, 7]);
    of_old.publications[0].position = Some(position(6, "old"));
    lost(position(5, "e"), of_old);
    let mut placeless = place(6, &[6]);
    placeless.publications[0].position = None;
    lost(position(5, "e"), placeless);
}

/// Where a stream is to which nothing was ever published, under the provisional epoch `epoch`.
fn unborn(epoch: &str) -> Place {
    Place {
        position: Some(position(0, epoch)),
        ..Place::default()
    }
}

#[test]
fn a_provisional_position_is_recovered_whatever_its_epoch_while_nothing_was_published() {
    let (since, now) = (position(0, "~41"), position(0, "~42"));
    let same = recovered("kept:1", since, unborn("~42"));
    assert_eq!(same, (true, vec![], now));
    let gone = recovered("kept:1", position(3, "e"), unborn("~42"));
    assert_eq!(
        gone,
        (false, vec![], position(0, "~42")),
        "the stream was forgotten"
    );
}

#[test]
fn a_provisional_position_is_recovered_in_the_stream_that_knows_its_epoch_and_in_no_other() {
    let born = |top, read: &[u64]| Place {
        provisional: "~42,~41".to_owned(),
        ..place(top, read)
    };
    let from_start = recovered("kept:1", position(0, "~41"), born(2, &[1, 2]));
    assert_eq!(from_start, (true, vec![1, 2], position(0, "e")));
    // A client that was subscribed when the stream began goes on to name the epoch that it was given.
    let later = recovered("kept:1", position(5, "~42"), born(7, &[6, 7]));
    assert_eq!(later, (true, vec![6, 7], position(5, "e")));
    let too_old = recovered("kept:1", position(0, "~40"), born(2, &[1, 2]));
    assert_eq!(too_old, (false, vec![], position(2, "e")));
    let known = recovered("cached:1", position(7, "~42"), born(7, &[7]));
    assert_eq!((known.0, known.1), (true, vec![]), "the client has the newest");
}

#[test]
fn a_seam_is_crossed_by_who_was_before_it_and_by_nobody_who_heard_what_it_leaves_out() {
    let over = || {
        let mut found = place(901, &[6, 900, 901]);
        found.publications[1].seam = Some(6);
        found
    };
    let crossed = recovered("kept:1", position(5, "e"), over());
    assert_eq!(crossed, (true, vec![6, 900, 901], position(5, "e")));
    let mut rest = over();
    rest.publications.remove(0);
    let before = recovered("kept:1", position(6, "e"), rest.clone());
    assert_eq!(before, (true, vec![900, 901], position(6, "e")));
    let lost = recovered("kept:1", position(7, "e"), rest);
    assert_eq!(lost, (false, vec![], position(901, "e")));
}

#[test]
fn in_a_cache_the_newest_is_all_there_is_to_recover() {
    let newest = recovered("cached:1", position(2, "e"), place(7, &[7]));
    assert_eq!((newest.0, newest.1), (true, vec![7]));
    let first = recovered("cached:1", position(0, ""), place(7, &[7]));
    assert_eq!((first.0, first.1), (true, vec![7]));
    let other = recovered("cached:1", position(7, "old"), place(7, &[7]));
    assert_eq!((other.0, other.1), (true, vec![7]));
    let known = recovered("cached:1", position(7, "e"), place(7, &[7]));
    assert_eq!((known.0, known.1), (true, vec![]));
    assert!(recovered("cached:1", position(7, "e"), place(7, &[])).0);
    assert!(!recovered("cached:1", position(6, "e"), place(7, &[])).0);
    assert!(!recovered("cached:1", position(0, "e"), place(0, &[])).0);
    assert!(
        !recovered("cached:1", position(6, "e"), place(7, &[6])).0,
        "not the newest"
    );
}

#[test]
fn only_what_is_needed_is_read() {
    let mut client = connected(rules(), "ada");
    let since = position(5, "e");
    let mut read = |wanted| client.come_back(wanted, place(5, &[])).0;
    assert_eq!(read(back("kept:1", since.clone())), Read::Since(since.clone()));
    assert_eq!(read(back("cached:1", since.clone())), Read::Latest);
    assert_eq!(
        read(back("tasks:1", since)),
        Read::Nothing,
        "it was not said to be recoverable"
    );
}

#[test]
fn a_client_that_would_rather_fail_than_miss_something_fails() {
    let mut client = connected(rules(), "ada");
    let strict = || command::Subscribe {
        reject_unrecovered: true,
        ..back("kept:1", position(5, "e"))
    };
    let (_, told) = client.come_back(strict(), place(7, &[7]));
    assert_eq!(told.expect_err("unrecovered").code, 112);
    assert!(!client.is_in("kept:1"));
    let (_, told) = client.come_back(strict(), place(6, &[6]));
    assert_eq!(told.unwrap().0.recovered, Some(true));
}

#[test]
fn the_next_difference_is_from_the_last_that_was_recovered() {
    let base = |found| {
        let mut client = connected(rules(), "ada");
        let wanted = command::Subscribe {
            delta: "fossil".into(),
            ..back("kept:1", position(5, "e"))
        };
        client.come_back(wanted, found).1.unwrap().1.delta
    };
    assert_eq!(base(place(6, &[6])), Some(Base::Last));
    assert_eq!(base(place(5, &[])), Some(Base::None));
    assert_eq!(base(place(7, &[7])), Some(Base::None), "unrecovered");
}

#[test]
fn a_filter_holds_for_what_was_missed_unless_that_would_break_the_differences() {
    let coloured = |offset, colour: &str| Publication {
        tags: [("colour".to_owned(), colour.to_owned())].into(),
        data: Bytes::from_static(b"{}"),
        ..publication(offset)
    };
    let offsets = |delta: &str| {
        let mut client = connected(rules(), "ada");
        let wanted = command::Subscribe {
            delta: delta.into(),
            filter: Some(filter::Node {
                key: "colour".into(),
                cmp: "eq".into(),
                val: "red".into(),
                ..filter::Node::default()
            }),
            ..back("kept:1", position(5, "e"))
        };
        let found = Place {
            publications: vec![coloured(6, "red"), coloured(7, "blue")],
            ..place(7, &[])
        };
        let (told, hears) = client.come_back(wanted, found).1.unwrap();
        assert_eq!(told.recovered, Some(true));
        assert_eq!(hears.filter.is_some(), delta.is_empty());
        told.publications.len()
    };
    assert_eq!(offsets(""), 1);
    assert_eq!(offsets("fossil"), 2);
}
