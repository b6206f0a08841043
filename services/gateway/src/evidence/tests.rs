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
    assert_eq!(evidence.of(&news()), Some(at(7, "e")));
    assert!(
        evidence.answered(&news(), Some(&at(5, "e")), &at(6, "e")),
        "a late answer"
    );
    assert_eq!(evidence.of(&news()), Some(at(7, "e")));
}

#[test]
fn evidence_before_a_gap_or_an_offset_jump_stands_until_the_stream_was_asked_about_it() {
    let evidence = after(&[at(5, "e"), at(7, "e"), at(8, "e")]);
    assert_eq!(evidence.of(&news()), Some(at(5, "e")));
    assert!(evidence.answered(&news(), Some(&at(5, "e")), &at(7, "e")));
    assert_eq!(
        evidence.of(&news()),
        Some(at(8, "e")),
        "received while it was read"
    );
    // Redis went back to 6: a jump leaves out 7 and 8, which only this node knows to have been given.
    receive(&evidence, &news(), at(900, "e"), Some(6));
    receive(&evidence, &news(), at(901, "e"), None);
    assert_eq!(evidence.of(&news()), Some(at(8, "e")));
    assert!(evidence.answered(&news(), Some(&at(8, "e")), &at(901, "f")));
    assert_eq!(evidence.of(&news()), Some(at(901, "f")));
}

#[test]
fn evidence_that_the_stream_lacks_is_asked_about() {
    let evidence = after(&[at(5, "e"), at(7, "e")]);
    assert!(evidence.answered(&news(), Some(&at(5, "e")), &at(5, "e")));
    evidence.lacks(&news(), &at(7, "e"));
    assert_eq!(evidence.of(&news()), Some(at(7, "e")));
    assert!(!evidence.answered(&news(), Some(&at(7, "e")), &at(5, "f")));
    assert!(evidence.answered(&news(), Some(&at(5, "e")), &at(5, "f")));
    assert_eq!(evidence.of(&news()), Some(at(5, "f")));
}

#[test]
fn evidence_of_another_epoch_is_presented_beside_what_was_known_and_replaces_nothing() {
    let evidence = after(&[at(7, "e"), at(3, "f"), at(2, "f")]);
    let first = evidence.of(&news());
    assert_eq!(first, Some(at(3, "f")), "the newer is asked about first");
    assert!(
        !evidence.answered(&news(), first.as_ref(), &at(3, "f")),
        "nobody asked about 7"
    );
    let second = evidence.of(&news());
    assert_eq!(second, Some(at(7, "e")));
    assert!(evidence.answered(&news(), second.as_ref(), &at(4, "g")));
    assert_eq!(evidence.of(&news()), first, "the stream has lost that meanwhile");
    assert!(!evidence.answered(&news(), first.as_ref(), &at(4, "g")));
    assert_eq!(evidence.of(&news()), Some(at(4, "g")));
}

#[test]
fn a_late_answer_under_an_older_epoch_does_not_replace_newer_evidence() {
    let evidence = after(&[at(7, "e")]);
    assert!(evidence.answered(&news(), Some(&at(7, "e")), &at(5, "f")));
    assert!(
        !evidence.answered(&news(), None, &at(7, "e")),
        "asked before anything was known"
    );
    assert_eq!(evidence.of(&news()), Some(at(5, "f")));
}

#[test]
fn a_provisional_position_is_no_evidence() {
    let evidence = after(&[]);
    assert!(evidence.answered(&news(), None, &at(0, "~42")));
    assert_eq!(evidence.of(&news()), None);
    receive(&evidence, &news(), at(1, "e"), None);
    assert_eq!(evidence.of(&news()), Some(at(1, "e")));
}

#[tokio::test(start_paused = true)]
async fn evidence_outlives_the_last_member_for_a_while_and_is_compared_after_a_gap() {
    let evidence = after(&[at(7, "e")]);
    evidence.close(&news());
    assert_eq!(evidence.of(&news()), Some(at(7, "e")));
    assert!(evidence.take_doubted().is_empty());
    evidence.doubt();
    assert_eq!(evidence.take_doubted(), [news()]);
    evidence.unanswered(&news());
    assert_eq!(evidence.take_doubted(), [news()]);
    assert!(evidence.compared(&news(), Some(&at(7, "e")), &at(7, "e")));
    assert!(evidence.take_doubted().is_empty());
    evidence.open(&news());
    assert_eq!(evidence.of(&news()), Some(at(7, "e")), "members came back");
    evidence.close(&news());
    tokio::time::advance(RETAINED).await;
    let other = Channel::parse("other").unwrap();
    for _ in 0..2 {
        // Any channel of the same shard sweeps; this one is.
        evidence.shard(&news()).lock().sweep(Instant::now());
        evidence.open(&other);
        evidence.close(&other);
    }
    assert_eq!(evidence.of(&news()), None);
}

#[test]
fn evidence_without_members_is_compared_again_until_the_stream_was_asked_about_what_is_known() {
    let evidence = after(&[at(7, "a"), at(3, "b")]);
    evidence.close(&news());
    evidence.doubt();
    assert_eq!(evidence.take_doubted(), [news()]);
    let rival = evidence.of(&news());
    assert_eq!(rival, Some(at(3, "b")));
    assert!(!evidence.compared(&news(), rival.as_ref(), &at(3, "b")));
    assert_eq!(evidence.take_doubted(), [news()], "nobody asked about 7");
    let known = evidence.of(&news());
    assert_eq!(known, Some(at(7, "a")));
    assert!(evidence.compared(&news(), known.as_ref(), &at(4, "c")));
    assert!(evidence.take_doubted().is_empty());
}

#[test]
fn a_gap_while_evidence_without_members_is_compared_makes_it_compared_once_more() {
    let evidence = after(&[at(7, "e")]);
    evidence.close(&news());
    evidence.doubt();
    assert_eq!(evidence.take_doubted(), [news()]);
    evidence.doubt();
    assert!(evidence.compared(&news(), Some(&at(7, "e")), &at(7, "e")));
    assert_eq!(evidence.take_doubted(), [news()]);
}

#[tokio::test(start_paused = true)]
async fn memory_of_channels_that_nobody_uses_is_bounded_and_given_back() {
    let evidence = Evidence::new();
    let names: Vec<_> = (0..50_000)
        .map(|number| Channel::parse(&format!("n:{number}")).unwrap())
        .collect();
    names.iter().for_each(|name| evidence.open(name));
    names.iter().for_each(|name| evidence.close(name));
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
        evidence.close(name);
    }
    let (kept, capacity) = entries(&evidence);
    assert_eq!(kept, SHARDS * RETAINED_CHANNELS);
    assert!(capacity <= SHARDS * RETAINED_CHANNELS * 4, "{capacity}");
}

#[test]
fn a_client_that_subscribes_and_unsubscribes_one_channel_again_and_again_removes_no_evidence_of_others() {
    let evidence = after(&[at(7, "e")]);
    evidence.close(&news());
    let same_shard = |channel: &Channel| std::ptr::eq(evidence.shard(channel), evidence.shard(&news()));
    let other = (0..)
        .map(|number| Channel::parse(&format!("other:{number}")).unwrap())
        .find(same_shard)
        .unwrap();
    for _ in 0..=RETAINED_CHANNELS * 2 {
        evidence.open(&other);
        receive(&evidence, &other, at(1, "e"), None);
        evidence.close(&other);
    }
    assert_eq!(evidence.of(&news()), Some(at(7, "e")));
    assert_eq!(evidence.of(&other), Some(at(1, "e")));
    assert_eq!(evidence.shard(&news()).lock().retained.len(), 2);
}
