//! Whether clients come back by themselves, and when those do that are nothing but a browser's `EventSource`.

use bytes::Bytes;
use tidings_protocol::CloseReason;

/// When they come back, in milliseconds: not all at once.
const RETRY: std::ops::Range<u32> = 2_000..8_000;

/// Whether the reason tells a client to come back by itself.
pub(crate) fn comes_back(reason: &CloseReason) -> bool {
    matches!(reason.code(), 3000..3500 | 4000..4500)
}

/// Tells an `EventSource` when to come back after the stream has ended (the HTML standard, section 9.2.6).
pub(crate) fn retry() -> Bytes {
    format!("retry: {}\n\n", rand::random_range(RETRY)).into()
}
