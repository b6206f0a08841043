//! What was read and what came meanwhile are one stream.

use proptest::prelude::*;

use super::*;
use crate::core::stream::tests::{at, delivery, history, publication};

fn offsets(publications: &[Publication]) -> Vec<u64> {
    let offset = |it: &Publication| it.position.as_ref().unwrap().offset;
    publications.iter().map(offset).collect()
}

#[test]
fn only_what_is_missing_is_read() {
    let (here, most) = (at(7, "e"), (300, 1000));
    let since =
        |position| missing(&Read::Since(position), &here, most).map(|query| (query.since, query.limit));
    assert_eq!(since(at(5, "e")), Some((Some(5), 300)));
    assert_eq!(since(at(5, "")), Some((Some(5), 300)));
    assert_eq!(since(at(7, "e")), None);
    assert_eq!(since(at(9, "")), None);
    assert_eq!(since(at(9, "e")), Some((Some(9), 0)), "is the stream that far?");
    assert_eq!(
        since(at(5, "f")),
        Some((Some(5), 0)),
        "is the stream another one by now?"
    );
    assert_eq!(
        since(at(7, "~41")),
        Some((Some(7), 300)),
        "of a client that was subscribed before it began"
    );
    let unborn = at(0, "~42");
    assert_eq!(missing(&Read::Since(at(0, "~41")), &unborn, most), None);
    assert_eq!(missing(&Read::Latest, &unborn, most), None);
    let query = missing(&Read::Since(at(5, "e")), &here, most).unwrap();
    assert_eq!(
        query.bytes.map(std::num::NonZero::get),
        Some(1000),
        "no more is read than may be given"
    );
}

proptest! {
    /// Wherever the members were when the read was asked for, wherever the stream was when it was read, and wherever the
    /// members are when the answer comes: the client gets all from where it was to where the members are, each once.
    #[test]
    fn a_recovery_joins_what_was_read_and_what_came_meanwhile(
        since in 0_u64..10, asked in 0_u64..10, read in 0_u64..10, answered in 0_u64..10, most in 1_usize..40,
    ) {
        let asked = since + asked;
        let (top, answered) = (asked + read, asked + answered);
        let mut history = history(since + 1, at(top, "e"));
        history.publications.truncate(most);
        let buffered: Vec<_> = (asked + 1..=answered).map(|offset| delivery(publication(offset, "e"))).collect();
        let joined = offsets(&join(since, &history, &buffered, &at(answered, "e")));
        let reached = since + history.publications.len() as u64;
        if reached >= asked.min(answered) {
            prop_assert_eq!(joined, (since + 1..=answered).collect::<Vec<_>>());
        } else {
            // What was cut short by its budget cannot be joined, which the session sees by the hole.
            prop_assert!(joined.windows(2).any(|pair| pair[0] + 1 != pair[1]) || joined.last() != Some(&answered));
        }
    }

    /// The newest publication always arrives: the members are never behind what was read here, because a client whose read
    /// is ahead waits for them.
    #[test]
    fn a_cache_recovery_finds_the_newest_publication(asked in 1_u64..10, read in 0_u64..10, more in 0_u64..10) {
        let top = asked + read;
        let answered = top + more;
        let history = history(top, at(top, "e"));
        let buffered: Vec<_> = (asked + 1..=answered).map(|offset| delivery(publication(offset, "e"))).collect();
        let last = buffered.last().map(|delivery| &delivery.publication);
        let newest = newest(&history, last, &at(answered, "e"));
        prop_assert_eq!(newest.map(|it| it.position), Some(Some(at(answered, "e"))));
    }
}
