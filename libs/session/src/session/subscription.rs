//! One subscription, from the wish to the end.
//!
//! A subscription is asked for, then joins (the owner has been told to [`Subscribe`](crate::Action::Subscribe), and the
//! bus has yet to confirm), then has entered. Most have nothing but that: what is rare is boxed, because a gateway
//! holds hundreds of thousands of them.

use std::time::Instant;

use bytes::Bytes;
use tidings_core::{ClientInfo, Filter, Payload, Position};
use tidings_protocol::{Error, command::Subscribe, reply::Subscribed};

use super::{expiry::Term, recovery};
use crate::{Base, Hears, Place, Read, Seen};

/// A channel that the client hears, or is about to.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) stage: Stage,
}

/// How far it has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// A token or the user's backend decides.
    Asked(Box<Asked>),
    /// The bus has yet to confirm.
    Joining(Box<Joining>),
    /// The client hears the channel.
    Entered(Entered),
}

/// A wish to hear a channel.
#[derive(Debug)]
pub(super) struct Asked {
    /// The command's id; 0: there was none.
    pub(super) id: u32,
    /// The client has not asked for it.
    pub(super) server_side: bool,
    pub(super) wish: Wish,
}

/// What a client wants of a channel, as far as it has been checked.
#[derive(Debug, Default)]
pub(super) struct Wish {
    pub(super) recover: Option<Position>,
    pub(super) reject_unrecovered: bool,
    pub(super) positioned: bool,
    pub(super) recoverable: bool,
    pub(super) join_leave: bool,
    pub(super) delta: bool,
    pub(super) filter: Option<Box<Filter>>,
}

/// What a client gets of a channel.
#[derive(Debug, Default)]
pub(super) struct Terms {
    pub(super) positioned: bool,
    pub(super) recoverable: bool,
    /// Coming back means the newest publication.
    pub(super) cache: bool,
    pub(super) delta: bool,
    /// It hears of others coming and going.
    pub(super) joins: bool,
    /// It is seen.
    pub(super) presence: bool,
    /// Others hear of it coming and going.
    pub(super) announced: bool,
    pub(super) filter: Option<Box<Filter>>,
    /// Where it was, if it comes back and may recover.
    pub(super) recover: Option<Position>,
    pub(super) reject_unrecovered: bool,
}

/// A subscription that waits for the bus.
#[derive(Debug)]
pub(super) struct Joining {
    /// The command's id; 0: there was none.
    pub(super) id: u32,
    pub(super) server_side: bool,
    pub(super) terms: Terms,
    pub(super) term: Option<Term>,
    pub(super) info: Bytes,
    pub(super) data: Payload,
    /// It was ended meanwhile, and fails with this.
    pub(super) ended: Option<Error>,
}

/// A subscription that lives.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) server_side: bool,
    pub(super) presence: bool,
    rare: Option<Box<Rare>>,
}

/// What few subscriptions have.
#[derive(Debug)]
struct Rare {
    term: Option<Term>,
    info: Bytes,
}

impl From<&Subscribe> for Wish {
    /// All of it but the filter, which has to be checked.
    fn from(subscribe: &Subscribe) -> Self {
        Self {
            recover: subscribe.recover.clone(),
            reject_unrecovered: subscribe.reject_unrecovered,
            positioned: subscribe.positioned,
            recoverable: subscribe.recoverable,
            join_leave: subscribe.join_leave,
            delta: !subscribe.delta.is_empty(),
            filter: None,
        }
    }
}

impl Wish {
    /// What a channel that the client has without asking can be wished to be. There is nobody to read differences, and
    /// nothing to reject.
    pub(super) fn of_server_side(subscribe: &Subscribe) -> Self {
        Self {
            reject_unrecovered: false,
            delta: false,
            ..Self::from(subscribe)
        }
    }
}

impl Terms {
    /// What has to be known of the stream.
    pub(super) fn read(&self) -> Read {
        match &self.recover {
            Some(_) if self.cache => Read::Latest,
            Some(since) => Read::Since(since.clone()),
            None if self.positioned => Read::Position,
            None => Read::Nothing,
        }
    }
}

impl Joining {
    /// What the client is told when it enters there.
    ///
    /// # Errors
    /// It cannot enter, and is told that.
    pub(super) fn said(&self, place: Place, now: Instant) -> Result<Subscribed, Error> {
        Ok(Subscribed {
            expires_in: self.term.as_ref().and_then(|term| term.told(now)),
            data: self.data.clone(),
            ..recovery::subscribed(&self.terms, place)?
        })
    }

    /// The bus has confirmed and the client, seen as `info`, was told so: what it hears from here on, of differences to
    /// `base`, and how it is seen.
    pub(super) fn enter(self, base: Base, mut info: ClientInfo) -> (Entered, Hears, Option<Seen>) {
        let Self {
            server_side,
            terms,
            term,
            info: chan_info,
            ..
        } = self;
        let hears = Hears {
            positioned: terms.positioned,
            joins: terms.joins,
            delta: terms.delta.then_some(base),
            filter: terms.filter,
        };
        info.chan_info = chan_info.clone();
        let seen = terms.presence.then_some(Seen {
            info,
            announced: terms.announced,
        });
        let mut entered = Entered {
            server_side,
            presence: terms.presence,
            rare: None,
        };
        entered.renew(term, chan_info);
        (entered, hears, seen)
    }
}

impl Entered {
    /// It goes on until then. Without a new info, it keeps the one it has.
    pub(super) fn renew(&mut self, term: Option<Term>, info: Bytes) {
        let info = if info.is_empty() { self.info() } else { info };
        self.rare = (term.is_some() || !info.is_empty()).then(|| Box::new(Rare { term, info }));
    }

    /// JSON that others in the channel see of the client; empty: none.
    pub(super) fn info(&self) -> Bytes {
        self.rare
            .as_ref()
            .map_or_else(Bytes::new, |rare| rare.info.clone())
    }

    pub(super) fn term(&self) -> Option<&Term> {
        self.rare.as_ref()?.term.as_ref()
    }
}

impl Subscription {
    /// The client hears the channel.
    pub(super) fn entered(&self) -> Option<&Entered> {
        match &self.stage {
            Stage::Entered(entered) => Some(entered),
            Stage::Asked(_) | Stage::Joining(_) => None,
        }
    }

    /// When it runs out, once it has entered.
    pub(super) fn term_mut(&mut self) -> Option<&mut Term> {
        match &mut self.stage {
            Stage::Entered(entered) => entered.rare.as_mut()?.term.as_mut(),
            Stage::Asked(_) | Stage::Joining(_) => None,
        }
    }

    /// Whether the owner has taken up interest for it, and has to be told when it ends; and whether it was seen.
    pub(super) fn held(&self) -> Option<bool> {
        match &self.stage {
            Stage::Asked(_) => None,
            Stage::Joining(_) => Some(false),
            Stage::Entered(entered) => Some(entered.presence),
        }
    }
}
