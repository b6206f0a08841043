//! Who may do what in a channel: the namespace's options, and nothing else, decide.

use tidings_core::{Channel, Namespace};
use tidings_protocol::Error;

use crate::Rules;

/// A client that asks, in a channel.
pub(crate) struct Asker<'a> {
    pub(crate) rules: &'a Rules,
    /// Empty: anonymous.
    pub(crate) user: &'a str,
    pub(crate) subscribed: bool,
}

/// What is asked for, where a namespace's options alone grant it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    Publish,
    Presence,
    History,
}

/// What decides about a subscribe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Granted,
    Denied,
    /// The token that the client shows, and nothing else.
    Token,
    /// The user's backend.
    Backend,
}

impl<'a> Asker<'a> {
    /// The channel's options, if the client has the right there.
    pub(crate) fn check(&self, channel: &Channel, right: Right) -> Result<&'a Namespace, Error> {
        let namespace = self.namespace(channel)?;
        if right == Right::Presence && !namespace.presence {
            return Err(Error::NOT_AVAILABLE.because("the namespace keeps no presence"));
        }
        if right == Right::History && namespace.retention().is_none() {
            return Err(Error::NOT_AVAILABLE.because("the namespace keeps no history"));
        }
        if self.has(namespace, right) {
            return Ok(namespace);
        }
        Err(Error::PERMISSION_DENIED)
    }

    /// The channel's options, if its namespace is configured.
    pub(crate) fn namespace(&self, channel: &Channel) -> Result<&'a Namespace, Error> {
        self.rules.namespaces.of(channel).ok_or_else(|| unknown(channel))
    }

    /// Whether the options of the namespace give the right, if it exists there at all.
    pub(crate) fn has(&self, n: &Namespace, right: Right) -> bool {
        let (client, anonymous, subscriber) = match right {
            Right::Publish => (
                n.allow_publish_for_client,
                n.allow_publish_for_anonymous,
                n.allow_publish_for_subscriber,
            ),
            Right::Presence => (
                n.allow_presence_for_client,
                n.allow_presence_for_anonymous,
                n.allow_presence_for_subscriber,
            ),
            Right::History => (
                n.allow_history_for_client,
                n.allow_history_for_anonymous,
                n.allow_history_for_subscriber,
            ),
        };
        self.rules.insecure || self.is_among(client, anonymous) || (subscriber && self.subscribed)
    }

    /// What decides whether the client may subscribe. The order is Centrifugo's.
    pub(crate) fn subscribe(&self, channel: &Channel, namespace: &Namespace, with_token: bool) -> Verdict {
        let insecure = self.rules.insecure;
        if with_token {
            return Verdict::Token;
        }
        // `$` asks for a token of its own.
        if channel.as_str().starts_with('$') && !insecure {
            return Verdict::Denied;
        }
        let users = channel.as_str().rsplit_once('#').map(|(_, users)| users);
        if users.is_none() && namespace.subscribe_proxy_enabled && self.rules.backend.subscribe {
            return Verdict::Backend;
        }
        let by_options = match users {
            // `#` names the users who may, and no option lets anybody else in.
            Some(users) => namespace.allow_user_limited_channels && self.is_one_of(users),
            None => self.is_among(
                namespace.allow_subscribe_for_client,
                namespace.allow_subscribe_for_anonymous,
            ),
        };
        if by_options || insecure {
            Verdict::Granted
        } else {
            Verdict::Denied
        }
    }

    fn is_one_of(&self, users: &str) -> bool {
        !self.user.is_empty() && users.split(',').any(|user| user == self.user)
    }

    /// As in Centrifugo, "for anonymous" widens "for client"; alone it grants nothing.
    fn is_among(&self, client: bool, anonymous: bool) -> bool {
        client && (!self.user.is_empty() || anonymous)
    }
}

/// The channel's namespace is not configured.
pub(crate) fn unknown(channel: &Channel) -> Error {
    let name = channel.namespace().unwrap_or_default();
    Error::UNKNOWN_CHANNEL.because(format!("namespace {name:?} is not configured"))
}
