//! Differences between payloads that clients choose. That a patch gives the target is shown by the tests beside the code;
//! here it is that none is longer than the target, and that a patch of text is text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidings_protocol::delta;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (base, target) = input;
    if let Some(patch) = delta::fossil(base, target) {
        assert!(patch.len() < target.len());
        if std::str::from_utf8(target).is_ok() {
            assert!(std::str::from_utf8(&patch).is_ok());
        }
    }
});
