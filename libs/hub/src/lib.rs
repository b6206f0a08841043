//! Who in this core wants what: channels, members, outboxes. Plain data, no locks.
