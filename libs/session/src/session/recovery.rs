//! Whether a client that comes back gets what it missed: everything, or word that this cannot be.

use tidings_core::{Position, Publication};
use tidings_protocol::{Error, reply::Subscribed};

use super::subscription::Terms;
use crate::Place;

/// What a client is told that enters at `place`.
///
/// # Errors
/// A stream that should be watched cannot be read just now, which the client tries again; or what it missed is gone, and
/// it would rather not be subscribed then.
pub(super) fn subscribed(terms: &Terms, place: Place) -> Result<Subscribed, Error> {
    let mut result = Subscribed {
        recoverable: terms.recoverable,
        delta: terms.delta,
        ..Subscribed::default()
    };
    if !terms.positioned {
        return Ok(result);
    }
    // A client that wants to know when it misses something, even if nothing but its own wish makes it so, is not served
    // by a subscription that cannot know.
    let Some(top) = place.position.clone() else {
        return Err(Error::INTERNAL.because("the channel's stream cannot be read"));
    };
    let Some(since) = &terms.recover else {
        result.position = Some(top);
        return Ok(result);
    };
    let same = place.is_of(since);
    let missed = if terms.cache {
        let has = same && !since.epoch.is_empty() && since.offset == top.offset;
        latest(has, &top, place.publications)
    } else if same {
        all_since(since, &top, place.publications)
    } else {
        None
    };
    result.recovered = Some(missed.is_some());
    match missed {
        Some(publications) => {
            // It advances publication by publication from where it was.
            result.position = Some(Position {
                offset: since.offset,
                epoch: top.epoch,
            });
            result.publications = publications;
        }
        None if terms.reject_unrecovered => return Err(Error::UNRECOVERABLE_POSITION),
        None => result.position = Some(top),
    }
    if let Some(filter) = &terms.filter {
        result.publications.retain(|it| filter.matches(&it.tags));
    }
    Ok(result)
}

/// All publications from the one after `since`, an offset of the same stream, to `top`, if that is what was read. Never
/// some of them.
fn all_since(since: &Position, top: &Position, read: Vec<Publication>) -> Option<Vec<Publication>> {
    let mut reached = since.offset;
    for publication in &read {
        let next = publication.position.as_ref()?;
        if next.epoch != top.epoch || publication.follows() != Some(reached) {
            return None;
        }
        reached = next.offset;
    }
    (reached == top.offset).then_some(read)
}

/// The newest publication, unless the client `has` it.
fn latest(has: bool, top: &Position, read: Vec<Publication>) -> Option<Vec<Publication>> {
    match read.into_iter().next_back() {
        Some(newest) if newest.position.as_ref() == Some(top) => {
            Some(if has { Vec::new() } else { vec![newest] })
        }
        Some(_) => None,
        None => (has && top.offset > 0).then(Vec::new),
    }
}
