//! Which roles a process has.

/// The roles of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Roles {
    /// Holds clients' connections.
    pub(crate) gateway: bool,
    /// Takes events in.
    pub(crate) fanout: bool,
    /// Knows who is there.
    pub(crate) presence: bool,
}

impl Roles {
    /// A node that is complete.
    pub(crate) const ALL: Self = Self {
        gateway: true,
        fanout: true,
        presence: true,
    };
    pub(crate) const GATEWAY: Self = Self {
        gateway: true,
        ..Self::NONE
    };
    pub(crate) const FANOUT: Self = Self {
        fanout: true,
        ..Self::NONE
    };
    pub(crate) const PRESENCE: Self = Self {
        presence: true,
        ..Self::NONE
    };

    const NONE: Self = Self {
        gateway: false,
        fanout: false,
        presence: false,
    };

    /// Whether the process needs no other.
    pub(crate) fn all(self) -> bool {
        self == Self::ALL
    }

    /// Each of them by name.
    pub(crate) fn each(self) -> impl Iterator<Item = &'static str> {
        let roles = [
            (self.gateway, "gateway"),
            (self.fanout, "fanout"),
            (self.presence, "presence"),
        ];
        roles.into_iter().filter_map(|(has, name)| has.then_some(name))
    }

    /// The command that runs them.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::GATEWAY => "gateway",
            Self::FANOUT => "fanout",
            Self::PRESENCE => "presence",
            _ => "standalone",
        }
    }
}
