//! Carrying out what a session asks for.

use std::time::Instant;

use bytes::Bytes;
use tidings_core::{ClientInfo, Publication};
use tidings_protocol::{CloseReason, Error, Reply};
use tidings_session::{Action, Answer};

use super::{Core, questions::Candidate};
use crate::{inbox::Address, presence, wire::Said};

/// What stands around a member, or a publication, in an answer: its ids and the names of its fields, about.
const MEMBER: usize = 128;

impl Core {
    /// Carries out a session's actions in order, and what follows from them.
    pub(super) fn carry_out(&mut self, key: usize, mut actions: Vec<Action>, now: Instant) {
        while !actions.is_empty() {
            let mut more = Vec::new();
            for action in actions {
                self.act(key, action, now, &mut more);
            }
            actions = more;
        }
        self.reschedule(key);
        self.answer_ready(now);
    }

    /// Answers subscribes to channels that this core listens to already. Only now, so that what follows from an action does
    /// not overtake those after it; and in one loop, because answers lead to actions, and those to more of them.
    fn answer_ready(&mut self, now: Instant) {
        if std::mem::replace(&mut self.answering, true) {
            return;
        }
        while let Some((channel, waiting)) = self.ready.pop_front() {
            self.confirmed(&channel, waiting, now);
        }
        self.answering = false;
    }

    fn act(&mut self, key: usize, action: Action, now: Instant, more: &mut Vec<Action>) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let from = Address {
            key,
            client: connection.session.client(),
        };
        match action {
            Action::Reply(reply) => self.reply(key, &reply, more),
            Action::Authenticate { id, connect } => self.authenticate(from, id, *connect, now, more),
            Action::Refresh { id, token } => self.check(from, id, token, now, more),
            Action::Renew { info } => self.renew(from, &info),
            Action::Authorize {
                id,
                channel,
                info,
                by,
            } => {
                self.authorize(
                    Candidate {
                        from,
                        id,
                        channel,
                        info,
                    },
                    by,
                    now,
                    more,
                );
            }
            Action::Reauthorize {
                id,
                channel,
                info,
                by,
            } => {
                self.reauthorize(
                    Candidate {
                        from,
                        id,
                        channel,
                        info,
                    },
                    by,
                    now,
                    more,
                );
            }
            Action::Rpc {
                id,
                method,
                payload,
                info,
            } => self.rpc(from, id, method, payload, &info),
            Action::Subscribe { id, channel, read } => self.subscribe(from, id, channel, read),
            Action::Enter {
                channel,
                hears,
                presence,
            } => self.enter(key, &channel, hears, presence, more),
            Action::Leave { channel, presence } => self.leave(from, &channel, presence, now, more),
            Action::Publish {
                id,
                channel,
                payload,
                info,
                proxied,
            } => self.publish(
                Candidate {
                    from,
                    id,
                    channel,
                    info,
                },
                payload,
                proxied,
            ),
            Action::Presence { id, channel } => {
                let members = self.node.members.clone();
                self.work(from, async move {
                    Answer::Presence {
                        id,
                        result: members.list(&channel).await.map_err(|error| away(&error)),
                    }
                });
            }
            Action::PresenceStats { id, channel } => {
                let members = self.node.members.clone();
                self.work(from, async move {
                    Answer::PresenceStats {
                        id,
                        result: members.stats(&channel).await.map_err(|error| away(&error)),
                    }
                });
            }
            Action::History { id, channel, query } => {
                let node = self.node.clone();
                self.work(from, async move {
                    Answer::History {
                        id,
                        result: node.history(&channel, query).await,
                    }
                });
            }
            Action::Close(reason) => self.end(key, &reason, now),
        }
    }

    fn reply(&mut self, key: usize, reply: &Reply, more: &mut Vec<Action>) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        // Some answers grow with the channel. One that would fill the outbox would close the client.
        if let Some(id) = too_large(reply, self.node.outbox / 2) {
            let error = Error::LIMIT_EXCEEDED.because("the answer is too large; ask for less");
            return self.reply(key, &Reply::Error { id, error }, more);
        }
        self.node.metrics.replied(reply);
        match connection.wire.reply(reply) {
            Said::Frame(frame) => self.push(key, frame, more),
            Said::Nothing => {}
            Said::Close(reason) => connection.session.close(reason, more),
        }
    }

    /// Slow work is done.
    pub(super) fn completed(&mut self, from: Address, answer: Answer, now: Instant) {
        let mut actions = Vec::new();
        self.answer(from, answer, now, &mut actions);
        self.carry_out(from.key, actions, now);
    }

    /// Tells the session.
    pub(super) fn answer(&mut self, from: Address, answer: Answer, now: Instant, more: &mut Vec<Action>) {
        let Some(connection) = self.connections.get_mut(from.key) else {
            return;
        };
        if connection.session.client() == from.client {
            let answer = connection.admit(answer, &self.node.users);
            connection.session.answer(answer, now, more);
        }
    }

    /// Queues a frame for one connection. One that cannot take it is closed, alone.
    pub(super) fn push(&mut self, key: usize, frame: Bytes, more: &mut Vec<Action>) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        match connection.push(frame, self.node.outbox) {
            Ok(()) => self.touch(key),
            Err(tidings_hub::Full) => connection.session.close(CloseReason::Slow, more),
        }
    }

    pub(super) fn work(&self, from: Address, work: impl Future<Output = Answer> + Send + 'static) {
        self.node.work(&self.inbox, from, work);
    }
}

/// Whether an answer is larger than `most` bytes, about: to which command.
fn too_large(reply: &Reply, most: usize) -> Option<u32> {
    let (id, size) = match reply {
        Reply::Presence { id, members } => {
            let size =
                |info: &ClientInfo| MEMBER + info.user.len() + info.conn_info.len() + info.chan_info.len();
            (id, members.iter().map(size).sum::<usize>())
        }
        Reply::History { id, publications, .. } => (id, sizes(publications)),
        _ => return None,
    };
    (size > most).then_some(*id)
}

/// Bytes of publications, about.
pub(super) fn sizes(publications: &[Publication]) -> usize {
    let tags =
        |it: &Publication| -> usize { it.tags.iter().map(|(key, value)| key.len() + value.len()).sum() };
    let info = |it: &Publication| {
        it.info
            .as_ref()
            .map_or(0, |info| info.conn_info.len() + info.chan_info.len())
    };
    let size = |it: &Publication| MEMBER + it.data.len() + tags(it) + info(it);
    publications.iter().map(size).sum()
}

/// Presence could not answer. Unless they are too many, the client may ask again.
fn away(error: &presence::Error) -> Error {
    tracing::debug!(%error, "presence did not answer a client");
    match error {
        presence::Error::TooMany { .. } => Error::LIMIT_EXCEEDED.because(error),
        _ => Error::INTERNAL,
    }
}
