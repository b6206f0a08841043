//! What becomes of one publication, and of one answer.

use std::{num::NonZeroU32, time::Duration, time::SystemTime};

use prometheus_client::registry::Registry;
use tidings_core::{Format, Publication};
use tracing::Span;

use super::*;
use crate::{core::clock, metrics::Metrics};

pub(in crate::core) fn at(offset: u64, epoch: &str) -> Position {
    Position {
        offset,
        epoch: epoch.to_owned(),
    }
}

pub(in crate::core) fn publication(offset: u64, epoch: &str) -> Publication {
    Publication {
        position: Some(at(offset, epoch)),
        ..Publication::new(Bytes::from_static(b"1"), Format::Json, SystemTime::UNIX_EPOCH)
    }
}

pub(in crate::core) fn delivery(publication: Publication) -> Arc<Delivery> {
    let metrics = Arc::new(Metrics::register(&mut Registry::default()));
    let channel = Channel::parse("news").unwrap();
    Arc::new(Delivery::new(channel, publication, metrics, Span::none()))
}

pub(in crate::core) fn history(first: u64, top: Position) -> History {
    let publications = (first..=top.offset).map(|offset| publication(offset, &top.epoch));
    History {
        publications: publications.collect(),
        top,
        provisional: String::new(),
    }
}

fn stream(delivered: Option<Position>) -> Stream {
    let retention = Retention {
        size: NonZeroU32::new(10).unwrap(),
        ttl: Duration::from_secs(60),
    };
    Stream {
        delivered,
        ..Stream::new(1, retention, false, clock::now())
    }
}

/// What becomes of a live publication of this size.
fn next(stream: &mut Stream, position: &Position, size: usize) -> Next {
    let publication = Publication {
        data: vec![b'1'; size].into(),
        ..publication(position.offset, &position.epoch)
    };
    stream.receive(&delivery(publication), position)
}

/// The stream is read: what it means, and which offsets the members get then.
fn read(stream: &mut Stream, history: &History) -> (Found, Vec<u64>) {
    let read: Vec<_> = history.publications.iter().cloned().map(delivery).collect();
    let found = stream.answered(history, read);
    let mut offsets = Vec::new();
    while let Some(delivery) = stream.next() {
        offsets.push(delivery.publication.position.as_ref().unwrap().offset);
    }
    (found, offsets)
}

#[test]
fn the_next_publication_is_handed_out_and_a_duplicate_is_not() {
    let mut stream = stream(Some(at(4, "e")));
    assert_eq!(next(&mut stream, &at(5, "e"), 1), Next::HandOut);
    assert_eq!(next(&mut stream, &at(5, "e"), 1), Next::Nothing);
    assert_eq!(next(&mut stream, &at(2, "e"), 1), Next::Nothing);
    assert_eq!(stream.delivered, Some(at(5, "e")));
}

#[test]
fn a_gap_is_read_and_what_jumps_ahead_waits_with_all_that_follow() {
    let mut stream = stream(Some(at(4, "e")));
    assert_eq!(next(&mut stream, &at(6, "e"), 1), Next::Read);
    assert_eq!(next(&mut stream, &at(7, "e"), 1), Next::Nothing);
    assert_eq!(stream.delivered, Some(at(4, "e")), "they have not been delivered");
    assert_eq!(stream.question(300, 1000).since, Some(4));
    assert_eq!(next(&mut stream, &at(8, "e"), 1), Next::Nothing);
    let found = read(&mut stream, &history(5, at(7, "e")));
    assert_eq!(found, (Found::Connected, vec![5, 6, 7, 8]), "each once, in order");
    assert!(!stream.reads_again());
}

#[test]
fn a_gap_repair_that_is_cut_short_by_its_byte_budget_is_read_on() {
    let mut stream = stream(Some(at(4, "e")));
    stream.want_read();
    let query = stream.question(300, 1000);
    assert_eq!(query.bytes.map(NonZeroU32::get), Some(1000));
    let mut part = history(5, at(9, "e"));
    part.publications.truncate(2);
    assert_eq!(read(&mut stream, &part), (Found::Connected, vec![5, 6]));
    assert!(stream.reads_again(), "the rest is read next");
    assert_eq!(stream.question(300, 1000).since, Some(6));
}

#[test]
fn more_than_can_be_buffered_is_read_again() {
    let mut stream = stream(Some(at(4, "e")));
    assert_eq!(next(&mut stream, &at(6, "e"), BUFFER), Next::Read);
    assert_eq!(next(&mut stream, &at(7, "e"), 1), Next::Nothing);
    stream.question(300, 1000);
    assert_eq!(read(&mut stream, &history(5, at(6, "e"))).1, [5, 6]);
    assert!(stream.reads_again(), "7 did not fit");
}

#[test]
fn another_epoch_is_no_proof_of_loss_until_the_stream_says_so() {
    let mut stream = stream(Some(at(4, "e")));
    assert_eq!(next(&mut stream, &at(5, "f"), 1), Next::Read);
    stream.question(300, 1000);
    assert_eq!(next(&mut stream, &at(6, "f"), 1), Next::Nothing);
    let found = read(&mut stream, &history(9, at(5, "f")));
    assert_eq!(
        found,
        (Found::Lost, vec![6]),
        "5 is included in where the members are now"
    );
    assert_eq!(stream.delivered, Some(at(6, "f")));
}

#[test]
fn a_publication_of_an_epoch_that_the_stream_does_not_have_is_dropped() {
    let mut stream = stream(Some(at(4, "e")));
    assert_eq!(next(&mut stream, &at(9, "stale"), 1), Next::Read);
    stream.question(300, 1000);
    let found = read(&mut stream, &history(5, at(5, "e")));
    assert_eq!(found, (Found::Connected, vec![5]));
    assert!(!stream.reads_again());
    // One that came after the read began may be newer than it.
    assert_eq!(next(&mut stream, &at(9, "f"), 1), Next::Read);
    stream.question(300, 1000);
    assert_eq!(next(&mut stream, &at(10, "f"), 1), Next::Nothing);
    assert_eq!(
        read(&mut stream, &history(6, at(5, "e"))),
        (Found::Connected, vec![])
    );
    assert!(stream.reads_again());
}

#[test]
fn an_answer_that_is_older_than_what_was_received_is_outdated_and_changes_nothing() {
    let mut stream = stream(Some(at(4, "e")));
    assert_eq!(next(&mut stream, &at(7, "e"), 1), Next::Read);
    stream.question(300, 1000);
    assert_eq!(
        read(&mut stream, &history(5, at(5, "e"))),
        (Found::Outdated, vec![])
    );
    assert_eq!(stream.delivered, Some(at(4, "e")));
    stream.question(300, 1000);
    assert_eq!(read(&mut stream, &history(5, at(7, "e"))).1, [5, 6, 7]);
}

#[test]
fn a_failed_read_loses_nothing_that_was_buffered_and_nothing_that_was_known() {
    let mut stream = stream(Some(at(4, "e")));
    next(&mut stream, &at(6, "e"), 1);
    stream.question(300, 1000);
    stream.failed += 1; // and it is asked for again
    assert!(stream.is_unreadable());
    next(&mut stream, &at(7, "e"), 1);
    stream.question(300, 1000);
    assert_eq!(read(&mut stream, &history(5, at(7, "e"))).1, [5, 6, 7]);
    assert!(!stream.is_unreadable());
}

#[test]
fn where_nobody_knows_where_the_stream_is_its_next_publication_says_it() {
    let mut stream = stream(None);
    assert_eq!(next(&mut stream, &at(9, "e"), 1), Next::HandOut);
    assert_eq!(stream.delivered, Some(at(9, "e")));
}

#[test]
fn what_is_buffered_during_the_first_read_was_not_delivered_though_the_stream_is_further() {
    let mut first = stream(None);
    first.want_read();
    next(&mut first, &at(5, "e"), 1);
    first.question(300, 1000);
    assert_eq!(
        read(&mut first, &history(10, at(9, "e"))),
        (Found::Located, vec![5])
    );
    assert_eq!(first.delivered, Some(at(5, "e")));
    let mut late = stream(None);
    late.want_read();
    late.question(300, 1000);
    next(&mut late, &at(5, "e"), 1);
    assert_eq!(read(&mut late, &history(4, at(3, "e"))), (Found::Located, vec![]));
    assert!(late.reads_again(), "4 is missing");
}

#[test]
fn a_provisional_position_is_not_lost_when_its_epoch_changes_and_the_first_publication_follows_it() {
    let mut stream = stream(Some(at(0, "~41")));
    stream.want_read();
    stream.question(300, 1000);
    assert_eq!(
        read(&mut stream, &history(1, at(0, "~42"))),
        (Found::Connected, vec![])
    );
    assert_eq!(
        stream.delivered,
        Some(at(0, "~42")),
        "the newest is valid for longest"
    );
    assert_eq!(next(&mut stream, &at(1, "e"), 1), Next::HandOut);
    assert_eq!(stream.delivered, Some(at(1, "e")));
}

#[test]
fn publications_that_a_member_at_a_provisional_position_missed_are_read() {
    let mut stream = stream(Some(at(0, "~41")));
    assert_eq!(next(&mut stream, &at(2, "e"), 1), Next::Read);
    stream.question(300, 1000);
    let born = History {
        provisional: "~42,~41".to_owned(),
        ..history(1, at(2, "e"))
    };
    assert_eq!(read(&mut stream, &born), (Found::Connected, vec![1, 2]));
}
