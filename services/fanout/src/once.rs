//! By what a repeat of an event is known: whose it is, its source and its id. The last two are unique together
//! (CloudEvents 1.0, section 3.1), but anyone can guess them: the name of the API key keeps one backend from taking
//! the place of another's event before it is published. So a retry has to come with the key of the first try.

use aws_lc_rs::digest::{Context, SHA256};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use tidings_broker::Once;
use tidings_core::Event;

/// What sets these names apart from others that a channel's publishes may have.
const KIND: &str = "event:";
const ROUTE_KIND: &str = "route:";
const CALLER_KIND: &str = "caller:";

/// The name of an event's publish, the same in each of its channels. `key` is the name of the API key that it came
/// with; `None` where no key is asked for.
///
/// A digest, because a source and an id may be long, and every channel keeps the name. Collisions cannot be made:
/// nobody can name an event so that another one is taken for its repeat.
pub(crate) fn of(event: &Event, key: Option<&str>) -> Once {
    named(KIND, [key.unwrap_or_default(), &event.source, &event.id])
}

/// The same for a route that says itself what tells a repeat.
pub(crate) fn by_route(text: &str, key: Option<&str>) -> Once {
    named(ROUTE_KIND, [key.unwrap_or_default(), text])
}

/// The same for what a caller publishes without an event around it, by the key that it gave itself.
pub(crate) fn by_caller(text: &str, key: Option<&str>) -> Once {
    named(CALLER_KIND, [key.unwrap_or_default(), text])
}

fn named<const N: usize>(kind: &str, parts: [&str; N]) -> Once {
    let mut digest = Context::new(&SHA256);
    // The lengths keep apart where one ends and where the next begins. No key has an empty name.
    for part in parts {
        digest.update(&(part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    }
    let digest = BASE64_URL_SAFE_NO_PAD.encode(digest.finish());
    Once::new(format!("{kind}{digest}"))
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
            tags: BTreeMap::new(),
        }
    }

    #[test]
    fn an_event_is_known_again_by_source_and_id_whatever_else_it_says() {
        let of = |event| of(&event, None);
        let once = of(event("tasks", "e1", "1"));
        assert_eq!(once, of(event("tasks", "e1", "2")));
        for other in [
            ("tasks", "e2"),
            ("bills", "e1"),
            ("", "e1"),
            ("task", "se1"),
            ("", "taskse1"),
        ] {
            assert_ne!(once, of(event(other.0, other.1, "1")), "{other:?}");
        }
    }

    #[test]
    fn nobody_can_take_the_place_of_anothers_event() {
        let event = event("tasks", "e1", "1");
        assert_eq!(of(&event, Some("tasks")), of(&event, Some("tasks")));
        assert_ne!(of(&event, Some("tasks")), of(&event, Some("bills")));
        assert_ne!(of(&event, Some("tasks")), of(&event, None));
    }

    #[test]
    fn its_name_is_short_however_long_they_are() {
        let short = of(&event("", "e", ""), None);
        let long = of(
            &event(&"s".repeat(1024), &"i".repeat(255), ""),
            Some(&"k".repeat(99)),
        );
        assert_eq!((short.key.len(), long.key.len()), (49, 49));
    }
}
