//! The checker itself: it must find what it is for.

use tidings_tests::checker::{Checker, Epochs, History, Moment, Place};

fn at(offset: u64) -> Place {
    Place {
        epoch: "e".to_owned(),
        offset,
    }
}

fn heard(offset: u64) -> Moment {
    Moment::Heard {
        at: at(offset),
        number: offset * 10,
    }
}

fn subscribed(offset: u64, recovered: Option<bool>) -> Moment {
    Moment::Subscribed {
        at: at(offset),
        recovered,
    }
}

/// What is wrong with a client that went through this, of a stream that is at 4.
fn faults(moments: &[Moment]) -> String {
    faults_in(&[1, 2, 3, 4], moments)
}

/// The same for a stream with these offsets.
fn faults_in(offsets: &[u64], moments: &[Moment]) -> String {
    let mut checker = Checker::default();
    for offset in offsets {
        checker.acknowledged(&at(*offset), offset * 10);
    }
    checker.kept(
        "e",
        &offsets.iter().map(|offset| (*offset, offset * 10)).collect(),
    );
    let history = History {
        client: "she".to_owned(),
        moments: moments.to_vec(),
        ..History::default()
    };
    checker.look(&history, &at(4));
    checker.verdict().err().unwrap_or_default()
}

#[test]
fn a_client_that_heard_everything_once_and_in_order_is_well() {
    assert_eq!(faults(&[subscribed(1, None), heard(2), heard(3), heard(4)]), "");
    assert_eq!(
        faults(&[
            subscribed(1, None),
            heard(2),
            subscribed(2, Some(true)),
            heard(3),
            heard(4)
        ]),
        ""
    );
}

#[test]
fn a_hole_is_excused_only_by_word_of_it() {
    assert!(faults(&[subscribed(1, None), heard(2), heard(4)]).contains("came after"));
    assert!(
        faults(&[subscribed(1, None), heard(2), subscribed(4, Some(true))])
            .contains("said to have recovered")
    );
    assert!(faults(&[subscribed(1, None), heard(2), subscribed(4, None)]).contains("without a word"));
    assert_eq!(
        faults(&[subscribed(1, None), heard(2), subscribed(4, Some(false))]),
        ""
    );
    assert_eq!(
        faults(&[subscribed(1, None), heard(2), Moment::Told, subscribed(4, None)]),
        ""
    );
}

#[test]
fn offsets_that_were_never_given_are_no_hole() {
    assert_eq!(
        faults_in(&[1, 2, 4], &[subscribed(1, None), heard(2), heard(4)]),
        ""
    );
    let mut checker = Checker::default();
    checker.acknowledged(&at(3), 30);
    let history = History {
        client: "she".to_owned(),
        moments: vec![subscribed(2, None), heard(4)],
        ..History::default()
    };
    checker.look(&history, &at(4));
    let faults = checker.verdict().unwrap_err();
    assert!(
        faults.contains("without"),
        "what was acknowledged is missed, also where it is lost: {faults}"
    );
}

#[test]
fn what_was_acknowledged_and_is_not_there_is_found() {
    let mut checker = Checker::default();
    checker.acknowledged(&at(2), 20);
    checker.acknowledged(&at(5), 50);
    checker.kept("e", &[(3, 30), (4, 40)].into());
    let faults = checker.verdict().unwrap_err();
    assert!(faults.contains("50 was acknowledged"), "{faults}");
    assert!(
        !faults.contains("20 was acknowledged"),
        "it is older than all that is kept: {faults}"
    );
}

#[test]
fn what_comes_twice_or_late_or_not_at_all_is_found() {
    assert!(faults(&[subscribed(3, None), heard(4), heard(4)]).contains("came after"));
    assert!(faults(&[subscribed(2, None), heard(4), heard(3)]).contains("came after"));
    assert!(faults(&[subscribed(2, None), heard(3)]).contains("it ends at"));
    assert!(faults(&[heard(4)]).contains("before any subscription"));
}

#[test]
fn another_number_than_the_acknowledged_one_is_found() {
    let other = Moment::Heard { at: at(4), number: 7 };
    assert!(faults(&[subscribed(3, None), other]).contains("was acknowledged"));
}

#[test]
fn a_place_that_was_given_twice_and_a_number_that_is_there_twice_are_found() {
    let mut checker = Checker::default();
    checker.acknowledged(&at(1), 10);
    checker.acknowledged(&at(1), 11);
    checker.kept("e", &[(1, 12), (2, 12)].into());
    let faults = checker.verdict().unwrap_err();
    for fault in [
        "was given to 10 and to 11",
        "was acknowledged at",
        "is in the stream at 1 and at 2",
    ] {
        assert!(faults.contains(fault), "{faults}");
    }
}

/// A client that subscribed before the first publication, and received these numbers, each at its own offset.
fn early(numbers: &[u64]) -> History {
    let place = |offset| Place {
        epoch: "~1.a".to_owned(),
        offset,
    };
    let subscribed = Moment::Subscribed {
        at: place(0),
        recovered: None,
    };
    let received = numbers.iter().map(|&number| Moment::Heard {
        at: place(number),
        number,
    });
    History {
        moments: [subscribed].into_iter().chain(received).collect(),
        ..History::default()
    }
}

/// Publications 1 to 4 were acknowledged in `lost`, whose last two are gone: `found` goes on from the others with 5.
#[test]
fn a_client_from_before_the_first_publication_is_in_the_epoch_of_what_it_received_last() {
    let place = |epoch: &str, offset| Place {
        epoch: epoch.to_owned(),
        offset,
    };
    let kept = [1, 2, 5].map(|number| (place("found", number), number));
    let of_a_publisher = [1, 2, 3, 4].map(|number| (place("lost", number), number));
    let of_a_source = [3, 4].map(|number| (place("lost", number), number));
    let resolved = |told: &[(Place, u64)], numbers: &[u64]| {
        let epochs = Epochs::new(told.iter().cloned(), kept.clone());
        match early(numbers).resolved(&epochs).moments.last() {
            Some(Moment::Heard { at, .. }) => at.epoch.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(resolved(&of_a_publisher, &[1, 2]), "lost");
    assert_eq!(resolved(&of_a_publisher, &[1, 2, 5]), "found");
    assert_eq!(resolved(&of_a_source, &[1, 2]), "found");
    assert_eq!(resolved(&of_a_source, &[1, 2, 3, 4]), "lost");
}

#[test]
fn a_client_that_was_notified_is_where_the_stream_is_only_once_it_has_subscribed_again() {
    let place = |epoch: &str, offset| Place {
        epoch: epoch.to_owned(),
        offset,
    };
    let mut checker = Checker::default();
    for offset in [1, 2] {
        checker.acknowledged(&place("lost", offset), offset);
    }
    checker.kept("found", &[(1, 11), (2, 12)].into());
    let top = place("found", 2);
    let mut history = early(&[1, 2]);
    assert!(!checker.is_there(&history, &top), "it is at 2 of another epoch");
    history.moments.push(Moment::Told);
    assert!(!checker.is_there(&history, &top));
    history.moments.push(Moment::Subscribed {
        at: top.clone(),
        recovered: Some(false),
    });
    assert!(checker.is_there(&history, &top));
}
