//! The id that a browser's `EventSource` comes back with.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidings_protocol::plain::sse;

fuzz_target!(|text: &str| {
    if let Some(position) = sse::last_event_id(text) {
        let again = format!("{}:{}", position.epoch, position.offset);
        assert_eq!(sse::last_event_id(&again), Some(position));
    }
});
