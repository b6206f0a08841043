//! Somebody's coming or going, on its way to this node's subscribers that want to hear of it.

use std::sync::OnceLock;

use bytes::Bytes;
use tidings_core::{Channel, ClientInfo};
use tidings_protocol::Push;

use crate::wire::{LANGUAGES, Language};

/// What happened, shared by all cores that have subscribers of the channel, with a finished frame per language.
pub(crate) struct Notice {
    pub(crate) channel: Channel,
    info: ClientInfo,
    event: Event,
    frames: [OnceLock<Option<Bytes>>; LANGUAGES],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Join,
    Leave,
}

impl Notice {
    pub(crate) fn new(channel: Channel, info: ClientInfo, event: Event) -> Self {
        Self {
            channel,
            info,
            event,
            frames: Default::default(),
        }
    }

    /// The frame in a language; `None` where it has no word for it.
    pub(crate) fn frame(&self, language: Language) -> Option<&Bytes> {
        self.frames[language as usize]
            .get_or_init(|| {
                let push = match self.event {
                    Event::Join => Push::Join(&self.channel, &self.info),
                    Event::Leave => Push::Leave(&self.channel, &self.info),
                };
                language.write_push(push).and_then(Result::ok)
            })
            .as_ref()
    }

    /// About how many bytes it holds while it waits in an inbox.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.info.conn_info.len() + self.info.chan_info.len()
    }
}
