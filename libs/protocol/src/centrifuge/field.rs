//! Fields that mean more than they say, in either encoding.

use std::time::Duration;

/// A bit of a subscribe's `flag`: it shall fail with error 112 if what was missed cannot be had.
const REJECT_UNRECOVERED: i64 = 2;

/// The most seconds that an SDK is told to wait before it refreshes a token.
const LONGEST_TTL: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What a subscribe's `flag` says of recovery. Its other bits are of no concern here: 1, which every SDK sets, offers to
/// hear channels by numbers.
pub(super) fn rejects_unrecovered(flag: i64) -> bool {
    flag & REJECT_UNRECOVERED != 0
}

/// `ttl`: when something that expires has to be refreshed, in seconds. An SDK that is told 0 would not come back.
pub(super) fn ttl(expires_in: Duration) -> u32 {
    seconds(expires_in.min(LONGEST_TTL)).max(1)
}

/// Whole seconds.
pub(super) fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}
