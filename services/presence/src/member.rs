//! The vocabulary of presence: who is a member, of what, on whose word.

use std::{
    fmt,
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tidings_core::{Channel, ClientId, ClientInfo};

/// How long a lease may be asked for.
pub const LEASE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);

/// One run of one gateway process.
///
/// 1 to [`GatewayId::MAX_LEN`] bytes of ASCII letters, digits, `-`, `_`, `.` and `:`; so it can stand in a Redis
/// key with a hash tag, and `/` can follow it in a [`Lease`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayId(Arc<str>);

/// A text is no gateway id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "gateway id must be 1 to {} ASCII letters, digits, '-', '_', '.' or ':'",
    GatewayId::MAX_LEN
)]
pub struct BadGatewayId;

impl GatewayId {
    /// The longest id, in bytes.
    pub const MAX_LEN: usize = 128;

    /// Checks an id.
    ///
    /// # Errors
    /// When it is empty, too long, or has a character outside the alphabet.
    pub fn parse(id: &str) -> Result<Self, BadGatewayId> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        if (1..=Self::MAX_LEN).contains(&id.len()) && id.bytes().all(allowed) {
            Ok(Self(id.into()))
        } else {
            Err(BadGatewayId)
        }
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GatewayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A gateway's claim that its clients are alive: what it got when it attached.
///
/// Each attachment has a lease of its own, and each member is kept under the lease it was last written by. That
/// is what makes every race between an old attachment, a new one and a sweep harmless: whoever acts on a lease
/// touches only members that are still under it, and a lease that has ended never comes back to life.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lease {
    /// Whose it is.
    pub gateway: GatewayId,
    /// Grows with each attachment of the gateway.
    pub serial: u64,
}

impl Lease {
    /// Reads what [`Display`](fmt::Display) writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (gateway, serial) = text.rsplit_once('/')?;
        Some(Self {
            gateway: GatewayId::parse(gateway).ok()?,
            serial: serial.parse().ok()?,
        })
    }
}

/// `GATEWAY/SERIAL`, the serial with 16 digits.
impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:016}", self.gateway, self.serial)
    }
}

/// A client in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Where it is.
    pub channel: Channel,
    /// Who it is.
    pub info: ClientInfo,
    /// Since when, to the millisecond, by its gateway's clock.
    pub joined_at: SystemTime,
    /// Whether the channel's listeners hear of it coming and going.
    pub announced: bool,
}

/// What identifies a member.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId {
    /// Where it is.
    pub channel: Channel,
    /// The connection.
    pub client: ClientId,
}

impl Member {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> MemberId {
        MemberId {
            channel: self.channel.clone(),
            client: self.info.client,
        }
    }
}

/// What a gateway says has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A client came, or is still there, as this.
    Joined(Member),
    /// A client is there, and the channel's listeners know, of whom the store has lost all: should it not be there, it is
    /// written without being announced.
    Known(Member),
    /// A client went.
    Left(MemberId),
}

impl Change {
    /// Whom it is about.
    #[must_use]
    pub fn id(&self) -> MemberId {
        match self {
            Self::Joined(member) | Self::Known(member) => member.id(),
            Self::Left(id) => id.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_id_cannot_break_a_key_or_a_lease() {
        for good in ["g", "gateway-7.pod:3_b", &"x".repeat(128)] {
            assert!(GatewayId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a/b", "a b", "a{b", "a}b", "a\nb", "ü", &"x".repeat(129)] {
            assert_eq!(GatewayId::parse(bad), Err(BadGatewayId), "{bad}");
        }
    }

    #[test]
    fn a_lease_reads_what_it_writes_and_sorts_by_age_as_text_too() {
        let lease = |serial| Lease {
            gateway: GatewayId::parse("g1").unwrap(),
            serial,
        };
        assert_eq!(lease(7).to_string(), "g1/0000000000000007");
        assert_eq!(Lease::parse("g1/0000000000000007"), Some(lease(7)));
        assert!(lease(9).to_string() < lease(10).to_string());
        for bad in ["", "g1", "g1/", "/1", "g1/x", "g/1/2"] {
            assert_eq!(Lease::parse(bad), None, "{bad}");
        }
    }
}
