//! A frame of commands in Protobuf: what a client may send at any time.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidings_core::Format;
use tidings_protocol::{Request, centrifuge::protobuf};

fuzz_target!(|frame: &[u8]| {
    for command in protobuf::commands(frame.to_vec().into()) {
        let Ok(command) = command else { continue };
        let _ = command.size();
        if let Request::Publish { payload, .. } | Request::Rpc { payload, .. } = command.request {
            let breaks = payload.data.contains(&b'\n');
            assert!(payload.format == Format::Binary || !breaks, "it would break a line");
        }
    }
});
