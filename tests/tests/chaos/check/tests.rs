//! A checker that has never failed proves nothing: each invariant, kept and broken.

use tidings_tests::checker::{Stamp, numbered};
use tokio::time::Instant;

use super::*;
use crate::plan::{Process, World};

const NAME: &str = "tasks:0";

fn place(epoch: &str, offset: u64) -> Place {
    Place {
        epoch: epoch.to_owned(),
        offset,
    }
}

fn got(epoch: &str, offset: u64, publisher: u32, n: u32) -> Moment {
    Moment::Heard {
        at: place(epoch, offset),
        number: numbered(publisher, n),
    }
}

fn subscribed(epoch: &str, offset: u64, recovered: Option<bool>) -> Moment {
    Moment::Subscribed {
        at: place(epoch, offset),
        recovered,
    }
}

/// A client, to whom a second passes between any two moments, at the gateway `via`.
fn client(kind: Kind, via: usize, moments: &[Moment]) -> Seen {
    let begin = Instant::now();
    let stamps = (0..moments.len() as u64).map(|second| Stamp {
        at: begin + Duration::from_secs(second),
        via,
    });
    Seen {
        channel: 0,
        kind,
        history: History {
            client: "she".to_owned(),
            stamps: stamps.collect(),
            moments: moments.to_vec(),
        },
    }
}

/// What was acknowledged by fanout 1: epoch, offset, publisher, n.
type Acknowledged<'a> = (&'a str, u64, u32, u32);

/// The invariants that are broken in a world whose plan has this seed.
fn broken(
    plan: &Plan,
    acknowledged: &[Acknowledged<'_>],
    top: Place,
    kept: &[(u64, u32, u32)],
    clients: Vec<Seen>,
) -> Vec<&'static str> {
    let accepted = acknowledged
        .iter()
        .map(|&(epoch, offset, publisher, n)| Accepted {
            channel: 0,
            number: numbered(publisher, n),
            at: Some(place(epoch, offset)),
            fanout: Some(1),
            sent: Instant::now(),
        });
    let numbers = kept
        .iter()
        .map(|&(offset, publisher, n)| (offset, numbered(publisher, n)));
    let facts = Facts {
        failovers: 0,
        plan,
        channels: &[NAME.to_owned()],
        accepted: accepted.collect(),
        from_source: Vec::new(),
        kept: vec![Some(Kept {
            top,
            numbers: numbers.collect(),
        })],
        clients,
    };
    check(&facts).faults.into_keys().collect()
}

/// A plan without faults.
fn calm() -> Plan {
    Plan::of(1, World::Aof, 0)
}

/// A plan in which Redis may lose something once.
fn losing() -> Plan {
    let mut plan = Plan::of(1, World::Rdb, 1);
    plan.steps[0].fault = crate::plan::Fault::Restart;
    plan
}

#[test]
fn a_client_that_recovers_everything_breaks_nothing() {
    let acknowledged = [("e", 1, 0, 1), ("e", 2, 1, 1), ("e", 3, 0, 2)];
    let kept = [(1, 0, 1), (2, 1, 1), (3, 0, 2)];
    let moments = [
        subscribed("e", 0, None),
        got("e", 1, 0, 1),
        subscribed("e", 1, Some(true)),
        got("e", 2, 1, 1),
        got("e", 3, 0, 2),
    ];
    let clients = vec![client(Kind::Recover, 0, &moments), client(Kind::Sse, 1, &moments)];
    assert!(broken(&calm(), &acknowledged, place("e", 3), &kept, clients).is_empty());
}

#[test]
fn a_publisher_whose_events_change_places_is_seen_in_the_stream_and_at_the_client() {
    let acknowledged = [("e", 1, 0, 2), ("e", 2, 0, 1)];
    let kept = [(1, 0, 2), (2, 0, 1)];
    let moments = [subscribed("e", 0, None), got("e", 1, 0, 2), got("e", 2, 0, 1)];
    let clients = vec![client(Kind::Recover, 0, &moments)];
    assert_eq!(
        broken(&calm(), &acknowledged, place("e", 2), &kept, clients),
        ["order of a publisher", "order of delivery"]
    );
}

#[test]
fn a_publication_that_is_delivered_twice_is_seen() {
    let kept = [(1, 0, 1), (2, 0, 1)];
    let moments = [subscribed("e", 0, None), got("e", 1, 0, 1), got("e", 2, 0, 1)];
    let clients = vec![client(Kind::Recover, 0, &moments)];
    assert_eq!(
        broken(&calm(), &[("e", 1, 0, 1)], place("e", 2), &kept, clients),
        ["duplicates", "positions"]
    );
}

#[test]
fn a_hole_is_seen_though_a_notice_comes_afterwards_while_the_stream_has_it() {
    let kept = [(1, 0, 1), (2, 0, 2), (3, 0, 3)];
    let moments = [
        subscribed("e", 1, None),
        got("e", 3, 0, 3),
        Moment::Told,
        subscribed("e", 3, Some(true)),
    ];
    let clients = vec![client(Kind::Recover, 0, &moments)];
    assert_eq!(
        broken(&calm(), &[], place("e", 3), &kept, clients),
        ["a notice without a loss", "positions"]
    );
}

/// Numbers 6 and 7 were acknowledged and are gone; the stream goes on after a jump, in its epoch, which is always a fault.
fn after_a_loss(moments: &[Moment]) -> Vec<&'static str> {
    let acknowledged = [("e", 5, 0, 5), ("e", 6, 0, 6), ("e", 7, 0, 7), ("e", 100, 0, 8)];
    let kept = [(5, 0, 5), (100, 0, 8)];
    let clients = vec![client(Kind::Recover, 0, moments)];
    let mut broken = broken(&losing(), &acknowledged, place("e", 100), &kept, clients);
    let same_epoch = broken.iter().position(|it| *it == "a loss without a new epoch");
    broken.remove(same_epoch.expect("the epoch is the same"));
    broken
}

#[test]
fn a_loss_without_a_new_epoch_is_seen_though_nothing_follows_it() {
    let moments = [subscribed("e", 4, None), got("e", 5, 0, 5)];
    let clients = || vec![client(Kind::Recover, 0, &moments)];
    let acknowledged = [("e", 5, 0, 5), ("e", 6, 0, 6)];
    let kept = [(5, 0, 5)];
    assert_eq!(
        broken(&losing(), &acknowledged, place("e", 5), &kept, clients()),
        ["a loss without a new epoch"]
    );
}

#[test]
fn a_client_that_recovers_without_what_was_lost_and_is_not_told_is_seen() {
    let moments = [
        subscribed("e", 4, None),
        got("e", 5, 0, 5),
        subscribed("e", 5, Some(true)),
        got("e", 100, 0, 8),
    ];
    assert_eq!(after_a_loss(&moments), ["a loss that nobody was told of"]);
}

#[test]
fn a_client_may_be_told_of_a_loss_a_little_later_but_not_much() {
    let mut moments = vec![subscribed("e", 4, None), got("e", 5, 0, 5), got("e", 100, 0, 8)];
    moments.extend([Moment::Told, subscribed("e", 100, Some(false))]);
    assert!(after_a_loss(&moments).is_empty());
    let mut moments = vec![subscribed("e", 4, None), got("e", 5, 0, 5), got("e", 100, 0, 8)];
    moments.extend((0..12).map(|_| subscribed("e", 100, Some(true))));
    moments.extend([Moment::Told, subscribed("e", 100, Some(false))]);
    assert_eq!(after_a_loss(&moments), ["a loss that nobody was told of"]);
}

#[test]
fn two_notices_for_one_loss_are_seen_and_one_with_its_answer_is_not() {
    let told = [Moment::Told, subscribed("e", 100, Some(false))];
    let begin = [subscribed("e", 4, None), got("e", 5, 0, 5)];
    let once: Vec<_> = begin.iter().chain(&told).cloned().collect();
    assert!(after_a_loss(&once).is_empty());
    let twice: Vec<_> = begin.iter().chain(&told).chain(&told).cloned().collect();
    assert_eq!(after_a_loss(&twice), ["more notices than losses"]);
}

#[test]
fn a_loss_that_only_the_dead_knew_of_need_not_be_told() {
    let mut plan = losing();
    plan.steps.push(plan.steps[0]);
    plan.steps[1].fault = crate::plan::Fault::Kill(Process::Fanout(1));
    let acknowledged = [("e", 6, 0, 6)];
    let kept = [(5, 0, 5), (100, 0, 8)];
    let moments = [subscribed("e", 5, None), got("e", 100, 0, 8)];
    let deaf = client(Kind::Recover, 0, &moments);
    assert!(broken(&plan, &acknowledged, place("e", 100), &kept, vec![deaf.clone()]).is_empty());
    // The first gateway had delivered it to somebody.
    let knows = [
        subscribed("e", 5, None),
        got("e", 6, 0, 6),
        Moment::Told,
        subscribed("e", 100, Some(false)),
    ];
    let clients = vec![deaf, client(Kind::Recover, 0, &knows)];
    assert_eq!(
        broken(&plan, &acknowledged, place("e", 100), &kept, clients),
        ["a loss that nobody was told of", "a loss without a new epoch"]
    );
}

#[test]
fn an_epoch_that_changes_without_a_loss_is_seen() {
    let kept = [(1, 0, 1)];
    let moments = [
        subscribed("e", 0, None),
        got("e", 1, 0, 1),
        Moment::Told,
        subscribed("f", 1, Some(false)),
    ];
    let acknowledged = [("e", 1, 0, 1)];
    let clients = vec![client(Kind::Recover, 0, &moments)];
    assert_eq!(
        broken(&losing(), &acknowledged, place("f", 1), &kept, clients),
        ["a new epoch without a loss", "a notice without a loss"]
    );
}

#[test]
fn a_client_that_is_too_far_behind_may_be_told() {
    let kept: Vec<_> = (1..=400)
        .map(|offset| (offset, 0, u32::try_from(offset).unwrap()))
        .collect();
    let moments = |from| [subscribed("e", from, None), subscribed("e", 400, Some(false))];
    let look = |from| {
        let clients = vec![client(Kind::Recover, 0, &moments(from))];
        broken(&calm(), &[], place("e", 400), &kept, clients)
    };
    assert!(look(50).is_empty());
    assert_eq!(look(390), ["a notice without a loss"]);
}

#[test]
fn a_cache_that_does_not_have_the_newest_is_seen_and_may_repeat_it() {
    let kept = [(1, 0, 1), (2, 0, 2), (3, 0, 3)];
    let look = |moments: &[Moment]| {
        let clients = vec![client(Kind::Cache, 0, moments)];
        broken(&calm(), &[], place("e", 3), &kept, clients)
    };
    let well = [
        subscribed("e", 0, None),
        got("e", 1, 0, 1),
        subscribed("e", 3, Some(true)),
        got("e", 3, 0, 3),
        subscribed("e", 3, Some(true)),
        got("e", 3, 0, 3),
    ];
    assert!(look(&well).is_empty());
    assert_eq!(look(&well[..2]), ["cache"]);
    let told = [
        subscribed("e", 0, None),
        got("e", 1, 0, 1),
        subscribed("e", 3, Some(false)),
        got("e", 3, 0, 3),
    ];
    assert_eq!(look(&told), ["a notice without a loss"]);
}

#[test]
fn a_client_that_never_gets_anything_is_seen() {
    let clients = vec![client(Kind::Recover, 0, &[])];
    let faults = broken(&calm(), &[], place("e", 1), &[(1, 0, 1)], clients);
    assert_eq!(faults, ["deaf", "positions"]);
}

#[test]
fn offsets_that_jump_without_a_cause_are_seen() {
    let far = 1 << 36;
    let kept = [(1, 0, 1), (far + 1, 0, 2), (far + 2, 0, 3)];
    let moments = [
        subscribed("e", 0, None),
        got("e", 1, 0, 1),
        got("e", far + 1, 0, 2),
        got("e", far + 2, 0, 3),
    ];
    let look = |plan: &Plan| {
        let clients = vec![client(Kind::Recover, 0, &moments)];
        broken(plan, &[], place("e", far + 2), &kept, clients)
    };
    assert_eq!(look(&calm()), ["offset jumps without a cause"]);
    assert!(look(&losing()).is_empty());
}
