//! The headers of a request that would become a WebSocket.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;
use tidings_websocket::handshake;

fuzz_target!(|headers: Vec<(u8, &[u8])>| {
    const NAMES: [&str; 5] = [
        "connection",
        "upgrade",
        "sec-websocket-version",
        "sec-websocket-key",
        "sec-websocket-protocol",
    ];
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name = HeaderName::from_static(NAMES[usize::from(name) % NAMES.len()]);
        if let Ok(value) = HeaderValue::from_bytes(value) {
            map.append(name, value);
        }
    }
    let _ = handshake::check(&Method::GET, &map);
    let _ = handshake::protocol(&map, &["centrifuge-json", "centrifuge-protobuf"]);
});
