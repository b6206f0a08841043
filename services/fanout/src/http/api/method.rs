//! The methods by their names.

use tidings_auth::Method as Scope;

/// What can be asked for, alone or in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Publish,
    Broadcast,
    Subscribe,
    Unsubscribe,
    Disconnect,
    Refresh,
    Presence,
    PresenceStats,
    History,
    HistoryRemove,
    Info,
    Channels,
    Rpc,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    One(Method),
    Batch,
    /// The API has it, but we do not.
    NotOffered(&'static str),
}

const METHODS: [(&str, &str, Name); 14] = [
    ("publish", "POST /api/publish", Name::One(Method::Publish)),
    ("broadcast", "POST /api/broadcast", Name::One(Method::Broadcast)),
    ("subscribe", "POST /api/subscribe", Name::One(Method::Subscribe)),
    (
        "unsubscribe",
        "POST /api/unsubscribe",
        Name::One(Method::Unsubscribe),
    ),
    (
        "disconnect",
        "POST /api/disconnect",
        Name::One(Method::Disconnect),
    ),
    ("refresh", "POST /api/refresh", Name::One(Method::Refresh)),
    ("presence", "POST /api/presence", Name::One(Method::Presence)),
    (
        "presence_stats",
        "POST /api/presence_stats",
        Name::One(Method::PresenceStats),
    ),
    ("history", "POST /api/history", Name::One(Method::History)),
    (
        "history_remove",
        "POST /api/history_remove",
        Name::One(Method::HistoryRemove),
    ),
    ("info", "POST /api/info", Name::One(Method::Info)),
    ("channels", "POST /api/channels", Name::One(Method::Channels)),
    ("rpc", "POST /api/rpc", Name::One(Method::Rpc)),
    ("batch", "POST /api/batch", Name::Batch),
];

const NOT_OFFERED: [&str; 26] = [
    "block_user",
    "cancel_push",
    "connections",
    "delete_user_status",
    "device_list",
    "device_register",
    "device_remove",
    "device_topic_list",
    "device_topic_update",
    "device_update",
    "get_user_status",
    "invalidate_user_tokens",
    "map_clear",
    "map_publish",
    "map_read_state",
    "map_read_stream",
    "map_remove",
    "map_stats",
    "revoke_token",
    "send_push_notification",
    "shared_poll_publish",
    "unblock_user",
    "update_push_status",
    "update_user_status",
    "user_topic_list",
    "user_topic_update",
];

impl Name {
    pub(super) fn parse(name: &str) -> Option<Self> {
        let known = METHODS.iter().find(|(known, ..)| *known == name);
        let not_offered = || NOT_OFFERED.iter().find(|other| **other == name);
        known
            .map(|(.., what)| *what)
            .or_else(|| not_offered().map(|name| Self::NotOffered(name)))
    }

    /// What its spans are called.
    pub(super) fn route(self) -> &'static str {
        let known = METHODS.iter().find(|(.., what)| *what == self);
        known.map_or("POST /api", |(_, route, _)| route)
    }
}

impl Method {
    /// What it asks for, in the word that scopes have for it.
    pub(super) fn scope(self) -> Option<Scope> {
        Some(match self {
            Self::Publish | Self::Broadcast => Scope::Publish,
            Self::Subscribe => Scope::Subscribe,
            Self::Unsubscribe => Scope::Unsubscribe,
            Self::Disconnect => Scope::Disconnect,
            Self::Refresh => Scope::Refresh,
            Self::Presence | Self::PresenceStats => Scope::Presence,
            Self::History => Scope::History,
            Self::HistoryRemove => Scope::HistoryRemove,
            Self::Info => Scope::Info,
            Self::Channels => Scope::Channels,
            Self::Rpc => return None,
        })
    }

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        let known = METHODS.iter().find(|(.., what)| *what == Name::One(self));
        known.map_or("", |(name, ..)| name)
    }
}
