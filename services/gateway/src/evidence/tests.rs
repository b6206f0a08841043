//! What a node knows of a stream only ever grows, or is replaced by an answer to a question that carried it.

use std::time::SystemTime;

use tidings_core::Format;

use super::*;

fn at(offset: u64, epoch: &str) -> Position {
    Position {
        offset,
        epoch: epoch.to_owned(),
    }
}

fn news() -> Channel {
    Channel::parse("news").unwrap()
}

fn receive(evidence: &Evidence, channel: &Channel, position: Position, seam: Option<u64>) {
    let publication = Publication {
        position: Some(position),
        seam,
        ..Publication::new("1".into(), Format::Json, SystemTime::UNIX_EPOCH)
    };
    evidence.received(channel, &publication);
}

fn known(evidence: &Evidence, channel: &Channel) -> Option<Position> {
    evidence.of(channel).map(|known| known.position)
}

fn answered(evidence: &Evidence, channel: &Channel, carried: Option<&Position>, top: &Position) -> bool {
    let carried = carried.cloned().map(Watermark::from);
    evidence.answered(channel, carried.as_ref(), top)
}

fn compared(evidence: &Evidence, channel: &Channel, carried: Option<&Position>, top: &Position) -> bool {
    let carried = carried.cloned().map(Watermark::from);
    evidence.compared(channel, carried.as_ref(), top)
}

/// A node with members, that has received this.
fn after(received: &[Position]) -> Evidence {
    let evidence = Evidence::new();
    evidence.open(&news());
    for position in received {
        receive(&evidence, &news(), position.clone(), None);
    }
    evidence
}

#[test]
fn evidence_within_an_epoch_only_grows() {
    let evidence = after(&[at(5, "e"), at(6, "e"), at(7, "e"), at(6, "e")]);
    assert_eq!(known(&evidence, &news()), Some(at(7, "e")));
    assert!(
        answered(&evidence, &news(), Some(&at(5, "e")), &at(6, "e")),
        "a late answer"
    );
    assert_eq!(known(&evidence, &news()), Some(at(7, "e")));
}

#[test]
fn evidence_before_a_gap_or_an_offset_jump_stands_until_the_stream_was_asked_about_it() {
    let evidence = after(&[at(5, "e"), at(7, "e"), at(8, "e")]);
    assert_eq!(known(&evidence, &news()), Some(at(5, "e")));
    assert!(answered(&evidence, &news(), Some(&at(5, "e")), &at(7, "e")));
    assert_eq!(
        known(&evidence, &news()),
        Some(at(8, "e")),
        "received while it was read"
    );
    // Redis went back to 6: a jump leaves out 7 and 8, which only this node knows to have been given.
    receive(&evidence, &news(), at(900, "e"), Some(6));
    receive(&evidence, &news(), at(901, "e"), None);
    assert_eq!(known(&evidence, &news()), Some(at(8, "e")));
    assert!(answered(&evidence, &news(), Some(&at(8, "e")), &at(901, "f")));
    assert_eq!(known(&evidence, &news()), Some(at(901, "f")));
}

#[test]
fn evidence_that_the_stream_lacks_is_asked_about() {
    let evidence = after(&[at(5, "e"), at(7, "e")]);
    assert!(answered(&evidence, &news(), Some(&at(5, "e")), &at(5, "e")));
    evidence.lacks(&news(), &at(7, "e"));
    assert_eq!(known(&evidence, &news()), Some(at(7, "e")));
    assert!(!answered(&evidence, &news(), Some(&at(7, "e")), &at(5, "f")));
    assert!(answered(&evidence, &news(), Some(&at(5, "e")), &at(5, "f")));
    assert_eq!(known(&evidence, &news()), Some(at(5, "f")));
}

#[test]
fn evidence_of_another_epoch_is_presented_beside_what_was_known_and_replaces_nothing() {
    let evidence = after(&[at(7, "e"), at(3, "f"), at(2, "f")]);
    let first = known(&evidence, &news());
    assert_eq!(first, Some(at(3, "f")), "the newer is asked about first");
    assert!(
        !answered(&evidence, &news(), first.as_ref(), &at(3, "f")),
        "nobody asked about 7"
    );
    let second = known(&evidence, &news());
    assert_eq!(second, Some(at(7, "e")));
    assert!(answered(&evidence, &news(), second.as_ref(), &at(4, "g")));
    assert_eq!(
        known(&evidence, &news()),
        first,
        "the stream has lost that meanwhile"
    );
    assert!(!answered(&evidence, &news(), first.as_ref(), &at(4, "g")));
    assert_eq!(known(&evidence, &news()), Some(at(4, "g")));
}

#[test]
fn a_late_answer_under_an_older_epoch_does_not_replace_newer_evidence() {
    let evidence = after(&[at(7, "e")]);
    assert!(answered(&evidence, &news(), Some(&at(7, "e")), &at(5, "f")));
    assert!(
        !answered(&evidence, &news(), None, &at(7, "e")),
        "asked before anything was known"
    );
    assert_eq!(known(&evidence, &news()), Some(at(5, "f")));
}

#[test]
fn a_provisional_position_is_no_evidence() {
    let evidence = after(&[]);
    assert!(answered(&evidence, &news(), None, &at(0, "~42")));
    assert_eq!(known(&evidence, &news()), None);
    receive(&evidence, &news(), at(1, "e"), None);
    assert_eq!(known(&evidence, &news()), Some(at(1, "e")));
}

#[tokio::test(start_paused = true)]
async fn evidence_outlives_the_last_member_for_a_while_and_is_compared_after_a_gap() {
    let evidence = after(&[at(7, "e")]);
    evidence.close(&news(), false);
    assert_eq!(known(&evidence, &news()), Some(at(7, "e")));
    assert!(evidence.take_doubted().is_empty());
    evidence.doubt();
    assert_eq!(evidence.take_doubted(), [news()]);
    evidence.unanswered(&news());
    assert_eq!(evidence.take_doubted(), [news()]);
    assert!(compared(&evidence, &news(), Some(&at(7, "e")), &at(7, "e")));
    assert!(evidence.take_doubted().is_empty());
    evidence.open(&news());
    assert_eq!(known(&evidence, &news()), Some(at(7, "e")), "members came back");
    evidence.close(&news(), false);
    tokio::time::advance(RETAINED).await;
    let other = Channel::parse("other").unwrap();
    for _ in 0..2 {
        // Any channel of the same shard sweeps; this one is.
        evidence.shard(&news()).lock().sweep(Instant::now());
        evidence.open(&other);
        evidence.close(&other, false);
    }
    assert_eq!(known(&evidence, &news()), None);
}

#[test]
fn evidence_without_members_is_compared_again_until_the_stream_was_asked_about_what_is_known() {
    let evidence = after(&[at(7, "a"), at(3, "b")]);
    evidence.close(&news(), false);
    evidence.doubt();
    assert_eq!(evidence.take_doubted(), [news()]);
    let rival = known(&evidence, &news());
    assert_eq!(rival, Some(at(3, "b")));
    assert!(!compared(&evidence, &news(), rival.as_ref(), &at(3, "b")));
    assert_eq!(evidence.take_doubted(), [news()], "nobody asked about 7");
    let known = known(&evidence, &news());
    assert_eq!(known, Some(at(7, "a")));
    assert!(compared(&evidence, &news(), known.as_ref(), &at(4, "c")));
    assert!(evidence.take_doubted().is_empty());
}

#[test]
fn a_gap_while_evidence_without_members_is_compared_makes_it_compared_once_more() {
    let evidence = after(&[at(7, "e")]);
    evidence.close(&news(), false);
    evidence.doubt();
    assert_eq!(evidence.take_doubted(), [news()]);
    evidence.doubt();
    assert!(compared(&evidence, &news(), Some(&at(7, "e")), &at(7, "e")));
    assert_eq!(evidence.take_doubted(), [news()]);
}

#[tokio::test(start_paused = true)]
async fn memory_of_channels_that_nobody_uses_is_bounded_and_given_back() {
    let evidence = Evidence::new();
    let names: Vec<_> = (0..50_000)
        .map(|number| Channel::parse(&format!("n:{number}")).unwrap())
        .collect();
    names.iter().for_each(|name| evidence.open(name));
    names.iter().for_each(|name| evidence.close(name, false));
    let entries = |evidence: &Evidence| -> (usize, usize) {
        let sizes = evidence.shards.iter().map(|shard| {
            let shard = shard.lock();
            (shard.entries.len(), shard.entries.capacity())
        });
        sizes.fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1))
    };
    let (kept, capacity) = entries(&evidence);
    assert_eq!(kept, 0, "nothing was ever published");
    assert!(capacity <= SHARDS * 128, "{capacity}");
    for name in &names {
        evidence.open(name);
        receive(&evidence, name, at(1, "e"), None);
        evidence.close(name, false);
    }
    let (kept, capacity) = entries(&evidence);
    assert_eq!(kept, SHARDS * RETAINED_CHANNELS);
    assert!(capacity <= SHARDS * RETAINED_CHANNELS * 4, "{capacity}");
}

#[test]
fn a_client_that_subscribes_and_unsubscribes_one_channel_again_and_again_removes_no_evidence_of_others() {
    let evidence = after(&[at(7, "e")]);
    evidence.close(&news(), false);
    let same_shard = |channel: &Channel| std::ptr::eq(evidence.shard(channel), evidence.shard(&news()));
    let other = (0..)
        .map(|number| Channel::parse(&format!("other:{number}")).unwrap())
        .find(same_shard)
        .unwrap();
    for _ in 0..=RETAINED_CHANNELS * 2 {
        evidence.open(&other);
        receive(&evidence, &other, at(1, "e"), None);
        evidence.close(&other, false);
    }
    assert_eq!(known(&evidence, &news()), Some(at(7, "e")));
    assert_eq!(known(&evidence, &other), Some(at(1, "e")));
    assert_eq!(evidence.shard(&news()).lock().retained.len(), 2);
}

#[test]
fn evidence_whose_last_member_leaves_while_the_stream_is_in_doubt_is_compared_without_members() {
    let evidence = after(&[at(7, "e")]);
    evidence.close(&news(), true);
    assert_eq!(evidence.take_doubted(), [news()]);
}

#[tokio::test(start_paused = true)]
async fn evidence_is_as_old_as_the_last_position_that_was_received() {
    let evidence = after(&[at(7, "e")]);
    let begin = Instant::now();
    let since = |evidence: &Evidence| evidence.of(&news()).unwrap().at - begin;
    let step = Duration::from_millis(5);
    tokio::time::advance(step).await;
    assert!(answered(&evidence, &news(), Some(&at(7, "e")), &at(7, "e")));
    assert_eq!(since(&evidence), Duration::ZERO, "it was only confirmed");
    receive(&evidence, &news(), at(8, "e"), None);
    assert_eq!(since(&evidence), step);
    tokio::time::advance(step).await;
    receive(&evidence, &news(), at(8, "e"), None);
    assert_eq!(since(&evidence), step, "it was received before");
}
