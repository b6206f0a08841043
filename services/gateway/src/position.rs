//! Positions in a stream: which of them are in the same stream, and what follows what.
//!
//! A stream to which nothing was ever published has a *provisional* epoch, which says only when it was asked for. So two
//! provisional positions of a channel are the same, whatever their epochs, and its first publication follows all of
//! them.

use tidings_broker::History;
use tidings_core::{Position, Publication};

/// Whether two positions of a channel are the same.
pub(crate) fn is_same(one: &Position, other: &Position) -> bool {
    one == other || (one.is_provisional() && other.is_provisional())
}

/// Whether a position was given in the stream that was read ([`History::is_of`]), or both are provisional: then nothing
/// was published yet, and any two provisional epochs are as good. A client that was subscribed before the first publication
/// names the provisional epoch with any offset.
pub(crate) fn is_of_or_both_provisional(at: &Position, history: &History) -> bool {
    (at.is_provisional() && history.top.is_provisional()) || history.is_of(at)
}

/// Whether a live publication is the next one for members who are at `at`.
pub(crate) fn follows(at: &Position, publication: &Publication) -> bool {
    let Some(position) = &publication.position else {
        return false;
    };
    let same = at.epoch == position.epoch || (at.is_provisional() && position.offset == 1);
    same && publication.follows() == Some(at.offset)
}

/// Whether what was read takes those who are at `at` to where the stream is, or as far as the read goes, leaving nothing
/// out.
pub(crate) fn connects(at: &Position, history: &History) -> bool {
    if !is_of_or_both_provisional(at, history) || at.offset > history.top.offset {
        return false;
    }
    match history.publications.first() {
        Some(first) => first.follows() == Some(at.offset),
        None => at.offset == history.top.offset,
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use bytes::Bytes;
    use tidings_core::Format;

    use super::*;

    fn at(offset: u64, epoch: &str) -> Position {
        Position {
            offset,
            epoch: epoch.to_owned(),
        }
    }

    fn publication(offset: u64) -> Publication {
        Publication {
            position: Some(at(offset, "e")),
            ..Publication::new(Bytes::from_static(b"1"), Format::Json, SystemTime::UNIX_EPOCH)
        }
    }

    fn read(first: u64, top: Position) -> History {
        History {
            publications: (first..=top.offset).map(publication).collect(),
            top,
            provisional: String::new(),
        }
    }

    #[test]
    fn only_what_leaves_nothing_out_connects() {
        assert!(connects(&at(4, "e"), &read(5, at(7, "e"))));
        assert!(connects(&at(7, "e"), &read(8, at(7, "e"))), "nothing was missed");
        assert!(!connects(&at(4, "e"), &read(6, at(7, "e"))), "trimmed");
        assert!(!connects(&at(4, "e"), &read(8, at(7, "e"))), "nothing is kept");
        assert!(!connects(&at(4, "f"), &read(5, at(7, "e"))), "another epoch");
        assert!(!connects(&at(9, "e"), &read(8, at(7, "e"))), "it went back");
    }

    #[test]
    fn a_publication_over_an_offset_jump_follows_what_is_before_it_and_nothing_else() {
        let over = |seam| Publication {
            seam: Some(seam),
            ..publication(900)
        };
        assert!(follows(&at(4, "e"), &over(4)));
        assert!(!follows(&at(4, "e"), &over(3)) && !follows(&at(4, "e"), &over(5)));
        let read = History {
            publications: vec![over(4)],
            ..read(901, at(900, "e"))
        };
        assert!(connects(&at(4, "e"), &read));
        assert!(!connects(&at(5, "e"), &read), "5 is lost");
    }

    #[test]
    fn provisional_positions_of_any_epoch_are_the_same_and_the_first_publication_follows_them() {
        let (yesterday, today) = (at(0, "~41"), at(0, "~42"));
        assert!(is_same(&yesterday, &today));
        assert!(!is_same(&yesterday, &at(0, "e")));
        assert!(connects(&yesterday, &read(1, today)));
        assert!(follows(&yesterday, &publication(1)));
        assert!(!follows(&yesterday, &publication(2)), "one is missing");
        assert!(
            !follows(&at(3, "~41"), &publication(4)),
            "no position is like that"
        );
    }

    #[test]
    fn a_provisional_position_connects_only_to_the_stream_that_knows_its_epoch() {
        let born = History {
            provisional: "~42,~41".to_owned(),
            ..read(1, at(2, "e"))
        };
        assert!(connects(&at(0, "~41"), &born) && connects(&at(0, "~42"), &born));
        assert!(!connects(&at(0, "~40"), &born) && !connects(&at(0, ""), &born));
        assert!(
            is_of_or_both_provisional(&at(2, "~41"), &born),
            "of a client that was subscribed then"
        );
    }
}
