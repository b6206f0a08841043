//! The channels that a client hears without asking: it is connected once it hears them all, or not at all.

use std::{collections::BTreeMap, mem, time::Instant};

use tidings_core::{Channel, Payload};
use tidings_protocol::{CloseReason, Error, Reply, reply::Connected};

use super::{
    Actions, Only, Opening, Session, State,
    channels::base,
    expiry::Term,
    identity::Known,
    subscription::{Asked, Stage, Wish},
};
use crate::{
    Action, Grant, Identity, Place, Rules, Transport,
    permission::{Asker, Verdict, unknown},
};

/// A client that is known, and waits for the bus to confirm its channels.
#[derive(Debug)]
pub(super) struct Entering {
    /// The command's id.
    id: u32,
    pub(super) since: Instant,
    pub(super) known: Known,
    data: Payload,
    transport: Transport,
    waiting: usize,
    /// Those that the bus has confirmed.
    places: Vec<(Channel, Place)>,
}

/// Channels in the order in which they are entered, each once.
type Unasked = BTreeMap<Channel, (Grant, Wish)>;

impl Session {
    /// Subscribes a client to everything that it hears without asking.
    pub(super) fn enter(&mut self, id: u32, identity: Identity, now: Instant, out: &mut Actions) {
        let State::Opened(opening) = &mut self.state else {
            return;
        };
        let term = Term::start(identity.expiry, &self.rules, now);
        if term.as_ref().is_some_and(|term| term.is_past(now)) {
            return self.refuse(id, Error::EXPIRED, now, out);
        }
        let known = Known::new(&identity, term);
        let transport = mem::take(&mut opening.transport);
        let only = self.only.as_deref_mut();
        let channels = match unasked(&self.rules, identity.channels, opening, &known.user, only) {
            Ok(channels) => channels,
            Err(reason) => return self.close(reason, out),
        };
        if let Some(channel) = channels.keys().find(|it| self.rules.namespaces.of(it).is_none()) {
            let error = unknown(channel);
            return self.refuse(id, error, now, out);
        }
        self.state = State::Entering(Box::new(Entering {
            id,
            since: now,
            known,
            data: identity.data,
            transport,
            waiting: channels.len(),
            places: Vec::with_capacity(channels.len()),
        }));
        match u32::try_from(channels.len()) {
            Ok(answers @ 1..) => self.turn.begin_alone(answers),
            _ => return self.entered(now, out),
        }
        for (channel, (grant, wish)) in channels {
            let asked = Asked {
                id,
                server_side: true,
                wish,
            };
            self.join(channel, asked, grant, now, out);
        }
    }

    /// The bus has answered about a channel of a client that enters.
    pub(super) fn confirmed(
        &mut self,
        channel: Channel,
        result: Result<Place, Error>,
        now: Instant,
        out: &mut Actions,
    ) {
        let State::Entering(entering) = &mut self.state else {
            return;
        };
        match result {
            Err(error) => {
                let id = entering.id;
                self.refuse(id, error, now, out);
            }
            Ok(place) => {
                entering.places.push((channel, place));
                entering.waiting = entering.waiting.saturating_sub(1);
                if entering.waiting == 0 {
                    self.entered(now, out);
                }
            }
        }
    }

    /// The bus has confirmed every channel.
    fn entered(&mut self, now: Instant, out: &mut Actions) {
        let State::Entering(entering) = &mut self.state else {
            return;
        };
        let (id, places) = (entering.id, mem::take(&mut entering.places));
        let mut subs = Vec::with_capacity(places.len());
        for (channel, place) in places {
            let subscription = self.subscriptions.get(&channel);
            if let Some(Stage::Joining(joining)) = subscription.map(|it| &it.stage) {
                if joining.ended.is_some() {
                    self.leave(channel, out); // taken back meanwhile
                    continue;
                }
                match joining.said(place, now) {
                    Ok(said) => subs.push((channel, said)),
                    Err(error) => return self.refuse(id, error, now, out),
                }
            }
        }
        let State::Entering(entering) = mem::replace(&mut self.state, State::Closed) else {
            return;
        };
        let Entering {
            known,
            data,
            transport,
            ..
        } = *entering;
        let entered: Vec<_> = subs
            .iter()
            .map(|(channel, said)| (channel.clone(), base(said)))
            .collect();
        let result = Connected {
            client: self.client,
            version: self.rules.version,
            expires_in: known.term.as_ref().and_then(|term| term.told(now)),
            ping_interval: self.rules.ping_interval,
            data,
            subs,
            pong: self.heartbeat.demands_pongs(),
            session: transport.session,
            node: transport.node,
        };
        self.state = State::Known(known);
        out.push(Action::Reply(Reply::Connect {
            id,
            result: Box::new(result),
        }));
        for (channel, base) in entered {
            self.enter_channel(channel, base, out);
        }
    }
}

/// What a client hears without asking: the channels of its identity; its own; and those that it names as it connects, if
/// anybody like it could subscribe to them. Named or not, it may have been in each of them before.
fn unasked(
    rules: &Rules,
    identity: Vec<(Channel, Grant)>,
    opening: &Opening,
    user: &str,
    only: Option<&mut Only>,
) -> Result<Unasked, CloseReason> {
    let mut granted = identity.into_iter().chain(personal(rules, user));
    if let Some(only) = only {
        // It will ask, and hears nothing else.
        only.grant = granted
            .find(|(channel, _)| *channel == only.channel)
            .map(|(_, grant)| grant);
        return Ok(Unasked::new());
    }
    let mut channels = Unasked::new();
    for (channel, grant) in granted {
        channels.entry(channel).or_insert((grant, Wish::default()));
    }
    for sub in &opening.subs {
        let known = channels.get_mut(sub.channel.as_str());
        if let Some((_, wish)) = known {
            *wish = Wish::of_server_side(sub);
        } else if !opening.by_backend {
            let channel = Channel::parse(&sub.channel).map_err(|_| CloseReason::BadRequest)?;
            let asker = Asker {
                rules,
                user,
                subscribed: false,
            };
            let namespace = asker.namespace(&channel).map_err(|_| CloseReason::BadRequest)?;
            if asker.subscribe(&channel, namespace, false) == Verdict::Granted {
                channels.insert(channel, (Grant::default(), Wish::of_server_side(sub)));
            }
        }
    }
    if channels.len() > rules.channels {
        return Err(CloseReason::ChannelLimit);
    }
    Ok(channels)
}

/// The channel of a user's own. A user whose name cannot be part of a channel's has none: nobody could publish to it. Nor
/// has one whose name would let others in, because it reads as a list of users.
fn personal(rules: &Rules, user: &str) -> Option<(Channel, Grant)> {
    let alone = !user.is_empty() && !user.contains(['#', ',']);
    let namespace = rules.personal_namespace.as_ref().filter(|_| alone)?;
    let name = match namespace.as_str() {
        "" => format!("#{user}"),
        namespace => format!("{namespace}:#{user}"),
    };
    Some((Channel::parse(&name).ok()?, Grant::default()))
}
