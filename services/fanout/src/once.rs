//! By what a repeat of an event is known: its source and its id, which are unique together (CloudEvents 1.0, section 3.1).

use aws_lc_rs::digest::{Context, SHA256};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use tidings_broker::Once;
use tidings_core::Event;

/// What sets these names apart from others that a channel's publishes may have.
const KIND: &str = "event:";

/// The name of an event's publish, the same in each of its channels.
///
/// A digest, because a source and an id may be long, and every channel keeps the name. Collisions cannot be made:
/// nobody can name an event so that another one is taken for its repeat.
pub(crate) fn of(event: &Event) -> Once {
    let mut digest = Context::new(&SHA256);
    // The length keeps apart where the source ends and where the id begins.
    digest.update(&(event.source.len() as u64).to_be_bytes());
    digest.update(event.source.as_bytes());
    digest.update(event.id.as_bytes());
    let digest = BASE64_URL_SAFE_NO_PAD.encode(digest.finish());
    Once::new(format!("{KIND}{digest}"))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::UNIX_EPOCH};

    use bytes::Bytes;

    use super::*;

    fn event(source: &str, id: &str, data: &'static str) -> Event {
        Event {
            id: id.to_owned(),
            kind: "task.created".to_owned(),
            source: source.to_owned(),
            subject: None,
            time: UNIX_EPOCH,
            data_content_type: "application/json".to_owned(),
            data: Bytes::from_static(data.as_bytes()),
            attributes: BTreeMap::new(),
        }
    }

    #[test]
    fn an_event_is_known_again_by_source_and_id_whatever_else_it_says() {
        let once = of(&event("tasks", "e1", "1"));
        assert_eq!(once, of(&event("tasks", "e1", "2")));
        for other in [
            ("tasks", "e2"),
            ("bills", "e1"),
            ("", "e1"),
            ("task", "se1"),
            ("", "taskse1"),
        ] {
            assert_ne!(once, of(&event(other.0, other.1, "1")), "{other:?}");
        }
    }

    #[test]
    fn its_name_is_short_however_long_they_are() {
        let short = of(&event("", "e", ""));
        let long = of(&event(&"s".repeat(1024), &"i".repeat(255), ""));
        assert_eq!((short.key.len(), long.key.len()), (49, 49));
    }
}
