//! What is posted to `/emulation`, in either encoding, and the commands in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidings_protocol::centrifuge::{emulation, json, protobuf};

fuzz_target!(|body: &[u8]| {
    if let Ok(request) = emulation::json(body) {
        json::commands(&request.data).for_each(drop);
    }
    if let Ok(request) = emulation::protobuf(body.to_vec().into()) {
        protobuf::commands(request.data).for_each(drop);
    }
});
