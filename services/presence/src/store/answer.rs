//! What a store answers, and how far walks through it have come.

use std::time::{Duration, SystemTime};

use tidings_broker::redis::KeyScan;
use tidings_core::{Channel, ClientInfo};

use super::Per;
use crate::member::{GatewayId, Lease, Member, MemberId};

/// What a batch of changes did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Members that were not there before.
    pub joined: Vec<MemberId>,
    /// Members that were there and no longer are.
    pub left: Vec<MemberId>,
    /// Members whose part of the store is unavailable: of these, all or some is not done, and they may be given again.
    pub failed: Vec<MemberId>,
    /// Something about members who left, or are to be given again, could not be taken back: only a sweep of the lease finds it.
    pub untidy: bool,
}

/// What one step of a sweep did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swept {
    /// The members that this call removed; nobody else is told about them.
    pub left: Vec<MemberId>,
    /// Some could not be removed, because their part of the store is unavailable.
    pub failed: bool,
    /// Nothing is left under the lease, and the lease itself is gone.
    pub done: bool,
}

/// A part of a channel's members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Ordered by client id; each with the gateway that holds the connection.
    pub members: Vec<(Member, GatewayId)>,
    /// Whether there are more after the last of them.
    pub more: bool,
    /// The store is older than the longest lease: every gateway has had time to report its members.
    pub complete: bool,
}

/// Whom the listeners of a channel have been told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// Those who were announced as coming, and not yet as leaving; with [`Per::User`], one client of each user.
    pub members: Vec<ClientInfo>,
    /// There are too many: none is named.
    pub large: bool,
    /// As in [`Page::complete`].
    pub complete: bool,
    /// Who is announced once.
    pub per: Per,
}

/// How many are in a channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections.
    pub clients: usize,
    /// Different users among them; all anonymous clients together are one.
    pub users: usize,
}

/// Where a user is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Whereabouts {
    /// Its members, ordered by channel and client; each with the gateway that holds the connection.
    pub places: Vec<(Member, GatewayId)>,
    /// There may be more than these.
    pub truncated: bool,
    /// When it was last there, as far as that is still kept; `None` while it is.
    pub last_seen: Option<SystemTime>,
}

/// How far a walk over everyone has come; the default is the beginning.
#[derive(Debug, Default)]
pub struct Scan {
    /// Those that are still to be walked; `None`: not begun.
    pub(super) leases: Option<Vec<Lease>>,
    pub(super) cursor: u64,
    pub(super) after: Option<MemberId>,
}

/// Which store it is that a gateway has attached to: another one after a store has lost everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch(pub u64);

/// What became of a lease that was to be renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewed {
    Lives,
    Ended,
    Outdated,
}

/// What a lease was that was to be ended again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedAgain {
    /// Live: nothing was done.
    Lives,
    /// Over and not swept yet.
    WasOver,
    /// Over, swept and forgotten: it is swept once more.
    WasSwept,
}

/// What there is to sweep.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// The leases that have ended.
    pub leases: Vec<Lease>,
    /// The length of the shortest lease that is live.
    pub shortest: Option<Duration>,
    /// The store, where it is time to [`scrub`](super::Store::scrub) it: it may have lost something when it became this one.
    pub unscrubbed: Option<Epoch>,
}

/// How far a scrub of a store has come.
#[derive(Debug)]
pub struct Scrub {
    pub(super) store: Epoch,
    pub(super) keys: KeyScan,
    /// Those that were found and are not done with.
    pub(super) pending: Vec<Vec<u8>>,
    /// Channels with members under leases from before, and the cursor of the walk through each.
    pub(super) channels: Vec<(Channel, u64)>,
}

impl Scrub {
    /// One from the beginning.
    #[must_use]
    pub fn new(store: Epoch) -> Self {
        Self {
            store,
            keys: KeyScan::default(),
            pending: Vec::new(),
            channels: Vec::new(),
        }
    }

    /// Which store it is of.
    #[must_use]
    pub fn store(&self) -> Epoch {
        self.store
    }
}
