//! Who in this core wants what, and what waits to be written to each.
//!
//! A [`Hub`] answers "which of my connections hear this channel"; an [`Outbox`] holds the frames that one
//! connection still has to send. Both are plain data owned by one core: nothing is shared, nothing is locked,
//! nothing awaits. How nodes tell each other is another matter (`broker`), and neither knows the other.

mod hub;
mod outbox;

pub use hub::{Hub, Released};
pub use outbox::{Full, Outbox};
