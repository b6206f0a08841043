//! How the client comes to hear a channel, and stops.

use std::{mem, time::Instant};

use tidings_core::{Channel, Filter};
use tidings_protocol::{
    CloseReason, Command, Error, Reply, Request,
    command::Subscribe,
    reply::{Subscribed, UnsubscribeReason},
};

use super::{
    Actions, Session, State, Subscriptions, fail,
    requests::parse,
    subscription::{Asked, Joining, Stage, Subscription, Wish},
    terms,
};
use crate::{
    Action, Base, Evidence, Grant, Place, Refusal,
    permission::{Asker, Verdict},
};

/// The way of writing differences that is offered.
const FOSSIL: &str = "fossil";

impl Session {
    pub(super) fn subscribe(&mut self, id: u32, subscribe: Subscribe, now: Instant, out: &mut Actions) {
        let readable = subscribe.delta.is_empty() || subscribe.delta == FOSSIL;
        if subscribe.channel.is_empty() || !readable {
            return self.close(CloseReason::BadRequest, out);
        }
        let (channel, wish, verdict) = match self.may_subscribe(&subscribe) {
            Ok(checked) => checked,
            Err(error) => return fail(out, id, error),
        };
        let asked = Asked {
            id,
            server_side: false,
            wish,
        };
        let by = match verdict {
            Verdict::Denied => return fail(out, id, Error::PERMISSION_DENIED),
            Verdict::Granted => {
                self.turn.begin_subscribe();
                let grant = self.granted_by_identity(&channel).cloned().unwrap_or_default();
                return self.join(channel, asked, grant, now, out);
            }
            Verdict::Token => Evidence::Token(subscribe.token),
            Verdict::Backend => Evidence::Backend(subscribe.data),
        };
        self.turn.begin_subscribe();
        let stage = Stage::Asked(Box::new(asked));
        self.subscriptions.insert(channel.clone(), Subscription { stage });
        out.push(Action::Authorize {
            id,
            channel,
            info: self.info(),
            by,
        });
    }

    fn may_subscribe(&self, subscribe: &Subscribe) -> Result<(Channel, Wish, Verdict), Error> {
        let channel = parse(&subscribe.channel)?;
        if self.subscriptions.contains_key(&channel) {
            return Err(Error::ALREADY_SUBSCRIBED);
        }
        if self.subscriptions.len() >= self.rules.channels {
            let most = self.rules.channels;
            return Err(Error::LIMIT_EXCEEDED.because(format!("at most {most} channels per connection")));
        }
        let asker = self.asker(&channel);
        let namespace = asker.namespace(&channel)?;
        let mut wish = Wish::from(subscribe);
        if let Some(node) = &subscribe.filter {
            if !namespace.allow_tags_filter {
                return Err(Error::BAD_REQUEST.because("the namespace allows no filters"));
            }
            let filter = Filter::new(node.clone()).map_err(|why| Error::BAD_REQUEST.because(why))?;
            wish.filter = Some(Box::new(filter));
        }
        let with_token = !subscribe.token.is_empty();
        let verdict = match self.granted_by_identity(&channel) {
            Some(_) if !with_token => Verdict::Granted,
            _ => asker.subscribe(&channel, namespace, with_token),
        };
        Ok((channel, wish, verdict))
    }

    /// How the identity of a client that hears one channel lets it in there, if it does.
    fn granted_by_identity(&self, channel: &Channel) -> Option<&Grant> {
        let only = self.only.as_ref().filter(|only| only.channel == *channel)?;
        only.grant.as_ref()
    }

    /// The token was checked, or the backend has decided.
    pub(super) fn authorized(
        &mut self,
        id: u32,
        channel: Channel,
        result: Result<Box<Grant>, Refusal>,
        now: Instant,
        out: &mut Actions,
    ) {
        let Some(asked) = self.take_asked(&channel, |asked| asked.id == id) else {
            return; // the client did not wait for it
        };
        match result {
            Ok(grant) if grant.expiry.is_some_and(|expiry| expiry.after.is_zero()) => {
                fail(out, id, Error::EXPIRED);
            }
            Ok(grant) => {
                self.turn.begin_subscribe();
                self.join(channel, asked, *grant, now, out);
            }
            Err(Refusal::Mismatch) => self.close(CloseReason::InvalidToken, out),
            Err(refusal) => self.refused(id, refusal, out),
        }
    }

    /// Lets the client in, as soon as the bus confirms. The namespace is configured.
    pub(super) fn join(
        &mut self,
        channel: Channel,
        asked: Asked,
        grant: Grant,
        now: Instant,
        out: &mut Actions,
    ) {
        let Some(namespace) = self.rules.namespaces.of(&channel) else {
            return;
        };
        let asker = Asker {
            subscribed: true,
            ..self.asker(&channel)
        };
        let Asked {
            id,
            server_side,
            wish,
        } = asked;
        let terms = terms::granted(wish, &grant.overrides, namespace, &asker);
        let read = terms.read();
        let joining = Joining {
            id,
            server_side,
            terms,
            term: self.term_in(&channel, grant.expiry, now),
            info: grant.info,
            data: grant.data,
            ended: None,
        };
        let stage = Stage::Joining(Box::new(joining));
        self.subscriptions.insert(channel.clone(), Subscription { stage });
        out.push(Action::Subscribe { id, channel, read });
    }

    /// The bus has answered.
    pub(super) fn subscribed(
        &mut self,
        channel: Channel,
        result: Result<Place, Error>,
        now: Instant,
        out: &mut Actions,
    ) {
        let subscription = self.subscriptions.get(&channel);
        let Some(Stage::Joining(joining)) = subscription.map(|it| &it.stage) else {
            return;
        };
        if matches!(self.state, State::Entering(_)) {
            return self.confirmed(channel, result, now, out);
        }
        let id = joining.id;
        let said = match &joining.ended {
            Some(why) => Err(why.clone()),
            None => result.and_then(|place| joining.said(place, now)),
        };
        match said {
            Ok(said) if id == 0 => self.tell_subscribed(channel, said, out),
            Ok(said) => {
                let base = base(&said);
                out.push(Action::Reply(Reply::Subscribe {
                    id,
                    result: Box::new(said),
                }));
                self.enter_channel(channel, base, out);
            }
            Err(error) => {
                self.leave(channel, out);
                // A client that has not asked never hears of it.
                if id != 0 {
                    fail(out, id, error);
                }
            }
        }
    }

    /// From here on the client hears the channel; it has been told.
    pub(super) fn enter_channel(&mut self, channel: Channel, base: Base, out: &mut Actions) {
        let Some(Subscription {
            stage: Stage::Joining(joining),
        }) = self.subscriptions.remove(&channel)
        else {
            return;
        };
        let (entered, hears, presence) = joining.enter(base, self.info());
        if let Some(term) = entered.term() {
            self.expires_at(term.deadline());
        }
        let stage = Stage::Entered(entered);
        self.subscriptions.insert(channel.clone(), Subscription { stage });
        out.push(Action::Enter {
            channel,
            hears,
            presence,
        });
    }

    pub(super) fn unsubscribe(&mut self, id: u32, name: &str, out: &mut Actions) {
        // No channel of that name, or none of ours: the client is not subscribed, which is what it wants.
        if let Ok(channel) = Channel::parse(name) {
            // Should it want the channel again by now, this must not keep it from that: the error is temporary.
            self.end(channel, Error::INTERNAL.because("unsubscribed meanwhile"), out);
        }
        out.push(Action::Reply(Reply::Unsubscribe { id }));
    }

    /// Ends a subscription, however far it has come. One that was not answered yet fails with `why`.
    pub(super) fn end(&mut self, channel: Channel, why: Error, out: &mut Actions) {
        if let Some(asked) = self.take_asked(&channel, |_| true) {
            return fail(out, asked.id, why);
        }
        match self.subscriptions.get_mut(&channel).map(|it| &mut it.stage) {
            Some(Stage::Entered(_)) => self.leave(channel, out),
            // The owner answers it in any case, and is told to leave then.
            Some(Stage::Joining(joining)) => joining.ended = Some(why),
            Some(Stage::Asked(_)) | None => {}
        }
    }

    fn take_asked(&mut self, channel: &Channel, wanted: impl FnOnce(&Asked) -> bool) -> Option<Asked> {
        match &self.subscriptions.get(channel)?.stage {
            Stage::Asked(asked) if wanted(asked) => {}
            _ => return None,
        }
        match self.subscriptions.remove(channel)?.stage {
            Stage::Asked(asked) => Some(*asked),
            Stage::Joining(_) | Stage::Entered(_) => None,
        }
    }

    /// A subscription cannot go on as it is, so that the client has to begin it anew. It does that by itself: for a
    /// channel that it has asked for as it is told, for the others by connecting again.
    pub(super) fn lose(
        &mut self,
        channel: &Channel,
        reason: UnsubscribeReason,
        close: CloseReason,
        out: &mut Actions,
    ) {
        let entered = self.subscriptions.get(channel).and_then(|it| it.entered());
        let Some(entered) = entered else {
            return;
        };
        if entered.server_side || self.only.is_some() {
            return self.close(close, out);
        }
        out.push(Action::Reply(Reply::Unsubscribed {
            channel: channel.clone(),
            reason,
        }));
        self.leave(channel.clone(), out);
    }

    pub(super) fn leave(&mut self, channel: Channel, out: &mut Actions) {
        if let Some(presence) = self.subscriptions.remove(&channel).and_then(|it| it.held()) {
            out.push(Action::Leave { channel, presence });
        }
    }

    pub(super) fn leave_all(&mut self, out: &mut Actions) {
        for (channel, subscription) in mem::take(&mut self.subscriptions) {
            if let Some(presence) = subscription.held() {
                out.push(Action::Leave { channel, presence });
            }
        }
    }
}

/// What the next difference is from.
pub(super) fn base(said: &Subscribed) -> Base {
    if said.publications.is_empty() {
        Base::None
    } else {
        Base::Last
    }
}

/// Whether a command undoes one that is being decided about, so that it need not wait for that.
pub(super) fn cancels(subscriptions: &Subscriptions, command: &Command) -> bool {
    match &command.request {
        Request::Unsubscribe { channel } => subscriptions
            .get(channel.as_str())
            .is_some_and(|it| matches!(it.stage, Stage::Asked(_))),
        _ => false,
    }
}
