//! Who may do what in a channel: the namespace's options, and nothing else, decide.

use tidings_core::{Channel, Namespace};
use tidings_protocol::Error;

use crate::Rules;

/// A client that asks, in a channel.
pub(crate) struct Asker<'a> {
    pub(crate) rules: &'a Rules,
    pub(crate) user: &'a str,
    pub(crate) subscribed: bool,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Right {
    Subscribe,
    Publish,
    Presence,
    History,
}

impl<'a> Asker<'a> {
    /// The channel's options, if the client has the right there.
    pub(crate) fn check(&self, channel: &Channel, right: Right) -> Result<&'a Namespace, Error> {
        let Some(namespace) = self.rules.namespaces.of(channel) else {
            return Err(unknown(channel));
        };
        if matches!(right, Right::Presence) && !namespace.presence {
            return Err(Error::NOT_AVAILABLE.because("the namespace keeps no presence"));
        }
        if matches!(right, Right::History) && namespace.retention().is_none() {
            return Err(Error::NOT_AVAILABLE.because("the namespace keeps no history"));
        }
        if self.rules.insecure || self.has(namespace, channel, right) {
            return Ok(namespace);
        }
        Err(Error::PERMISSION_DENIED)
    }

    fn has(&self, namespace: &Namespace, channel: &Channel, right: Right) -> bool {
        // `$` asks for a token of its own and `#` names the users who may: neither can be granted by options.
        if matches!(right, Right::Subscribe) && channel.as_str().contains(['$', '#']) {
            return false;
        }
        let n = namespace;
        let (client, anonymous, subscriber) = match right {
            Right::Subscribe => (
                n.allow_subscribe_for_client,
                n.allow_subscribe_for_anonymous,
                false,
            ),
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
        // As in Centrifugo, "for anonymous" widens "for client"; alone it grants nothing.
        (client && (!self.user.is_empty() || anonymous)) || (subscriber && self.subscribed)
    }
}

/// The channel's namespace is not configured.
pub(crate) fn unknown(channel: &Channel) -> Error {
    let name = channel.namespace().unwrap_or_default();
    Error::UNKNOWN_CHANNEL.because(format!("namespace {name:?} is not configured"))
}
