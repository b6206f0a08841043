//! What a client that only listens says once.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidings_protocol::centrifuge::uni;

fuzz_target!(|request: &[u8]| {
    if let Ok(connect) = uni::connect(request) {
        assert!(!connect.data.data.contains(&b'\n'), "it would break a line");
    }
});
