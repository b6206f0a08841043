//! What the client hears and does in channels.

use std::{mem, time::Instant};

use tidings_core::{Channel, ClientInfo};
use tidings_protocol::{
    CloseReason, Error, Reply,
    command::{History, Subscribe},
};

use super::{Actions, Session, State, Subscription, fail};
use crate::{
    Action, Query,
    permission::{Asker, Right},
};

impl Session {
    pub(super) fn subscribe(&mut self, id: u32, subscribe: &Subscribe, out: &mut Actions) {
        if subscribe.channel.is_empty() {
            return self.close(CloseReason::BadRequest, out);
        }
        let (channel, presence) = match self.may_subscribe(&subscribe.channel) {
            Ok(granted) => granted,
            Err(error) => return fail(out, id, error),
        };
        self.subscriptions.insert(
            channel.clone(),
            Subscription {
                entered: false,
                presence,
            },
        );
        self.turn.begin_subscribe();
        out.push(Action::Subscribe {
            id,
            channel,
            read: crate::Read::Nothing,
        });
    }

    fn may_subscribe(&self, name: &str) -> Result<(Channel, bool), Error> {
        let channel = parse(name)?;
        if self.subscriptions.contains_key(&channel) {
            return Err(Error::ALREADY_SUBSCRIBED);
        }
        if self.subscriptions.len() >= self.rules.channels {
            let most = self.rules.channels;
            return Err(Error::LIMIT_EXCEEDED.because(format!("at most {most} channels per connection")));
        }
        let presence = self.asker(&channel).check(&channel, Right::Subscribe)?.presence;
        Ok((channel, presence))
    }

    pub(super) fn subscribed(
        &mut self,
        id: u32,
        channel: Channel,
        result: Result<crate::Place, Error>,
        now: Instant,
        out: &mut Actions,
    ) {
        match (&mut self.state, result) {
            (State::Entering { waiting, .. }, Ok(_)) => {
                *waiting -= 1;
                if *waiting == 0 {
                    self.entered(now, out);
                }
            }
            (State::Entering { .. }, Err(error)) => self.refuse(id, error, now, out),
            (_, Ok(_)) => {
                out.push(Action::Reply(Reply::Subscribe {
                    id,
                    result: Box::default(),
                }));
                self.enter_channel(channel, out);
            }
            (_, Err(error)) => {
                self.leave(channel, out);
                fail(out, id, error);
            }
        }
    }

    /// From here on the client hears the channel; it has been told.
    pub(super) fn enter_channel(&mut self, channel: Channel, out: &mut Actions) {
        let Some(subscription) = self.subscriptions.get_mut(&channel) else {
            return;
        };
        subscription.entered = true;
        let presence = subscription.presence.then(|| crate::Seen {
            info: self.info(),
            announced: false,
        });
        out.push(Action::Enter {
            channel,
            hears: crate::Hears::default(),
            presence,
        });
    }

    pub(super) fn unsubscribe(&mut self, id: u32, name: &str, out: &mut Actions) {
        // No channel of that name, or none of ours: the client is not subscribed, which is what it wants.
        if let Ok(channel) = Channel::parse(name) {
            self.leave(channel, out);
        }
        out.push(Action::Reply(Reply::Unsubscribe { id }));
    }

    pub(super) fn history(&mut self, id: u32, history: History, out: &mut Actions) {
        let History {
            channel,
            limit,
            since,
            reverse,
        } = history;
        let most = self.rules.history;
        // A negative limit asks for all: as many as one answer has.
        let limit = u32::try_from(limit).unwrap_or(most).min(most);
        let may = self.check(&channel, Right::History);
        let query = Query {
            limit,
            since,
            reverse,
        };
        self.ask(id, may, out, |id, channel, _| Action::History {
            id,
            channel,
            query,
        });
    }

    pub(super) fn check(&self, name: &str, right: Right) -> Result<Channel, Error> {
        let channel = parse(name)?;
        self.asker(&channel).check(&channel, right)?;
        Ok(channel)
    }

    /// Starts work that nothing else overtakes, or says why not.
    pub(super) fn ask(
        &mut self,
        id: u32,
        may: Result<Channel, Error>,
        out: &mut Actions,
        action: impl FnOnce(u32, Channel, ClientInfo) -> Action,
    ) {
        match may {
            Ok(channel) => {
                self.turn.begin_alone(1);
                out.push(action(id, channel, self.info()));
            }
            Err(error) => fail(out, id, error),
        }
    }

    fn leave(&mut self, channel: Channel, out: &mut Actions) {
        if let Some(subscription) = self.subscriptions.remove(&channel) {
            out.push(Action::Leave {
                channel,
                presence: subscription.entered && subscription.presence,
            });
        }
    }

    pub(super) fn leave_all(&mut self, out: &mut Actions) {
        for (channel, subscription) in mem::take(&mut self.subscriptions) {
            out.push(Action::Leave {
                channel,
                presence: subscription.entered && subscription.presence,
            });
        }
    }

    fn asker(&self, channel: &Channel) -> Asker<'_> {
        Asker {
            rules: &self.rules,
            user: self.user().map_or("", |user| user),
            subscribed: self.is_subscribed(channel),
        }
    }
}

fn parse(name: &str) -> Result<Channel, Error> {
    Channel::parse(name).map_err(|why| Error::BAD_REQUEST.because(why))
}
