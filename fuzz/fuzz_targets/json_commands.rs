//! A frame of commands in JSON: what a client may send at any time.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidings_core::Format;
use tidings_protocol::{Request, centrifuge::json};

fuzz_target!(|frame: &[u8]| {
    for command in json::commands(frame) {
        let Ok(command) = command else { continue };
        let _ = command.size();
        if let Request::Publish { payload, .. } | Request::Rpc { payload, .. } = command.request {
            assert_eq!(payload.format, Format::Json);
            assert!(!payload.data.contains(&b'\n'), "it would break a line");
        }
    }
});
