//! Whatever clients, the user's backend, the bus and the clock do, in whatever order, some things always hold.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tidings_core::{Channel, Position};
use tidings_protocol::{CloseReason, Command, Error, Reply, Request, command, reply::UnsubscribeReason};

use super::fixture::*;
use crate::{Action, Answer, Grant, Refusal, Renewal, RenewedBy};

/// Something that happens.
#[derive(Debug, Clone)]
enum Event {
    Command(Request),
    /// One of the questions that are open is answered, this well.
    Answered(usize, Outcome),
    Waited(u64),
    Subscribed(&'static str),
    Unsubscribed(&'static str, bool),
    Insufficient(&'static str),
    Refreshed(Option<u64>),
    Closed,
}

#[derive(Debug, Clone)]
enum Outcome {
    Good,
    For(u64, RenewedBy),
    Missed(Vec<u64>),
    Refused(Refusal),
}

const NAMES: [&str; 6] = ["quiet:1", "tasks:1", "asked:1", "kept:1", "$tasks:1", "nowhere:1"];

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&NAMES[..])
}

fn refusal() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        4 => Just(Refusal::Expired),
        4 => Just(Refusal::Unavailable),
        4 => Just(Refusal::Error(Error::PERMISSION_DENIED)),
        4 => Just(Refusal::Error(Error::INTERNAL)),
        1 => Just(Refusal::Invalid),
        1 => Just(Refusal::Mismatch),
        1 => Just(Refusal::Close(CloseReason::PermissionDenied)),
    ]
}

fn renewed_by() -> impl Strategy<Value = RenewedBy> {
    prop_oneof![Just(RenewedBy::Client), Just(RenewedBy::Backend)]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        5 => Just(Outcome::Good),
        3 => (0..200_u64, renewed_by()).prop_map(|(seconds, by)| Outcome::For(seconds, by)),
        2 => prop::collection::vec(0..9_u64, 0..4).prop_map(Outcome::Missed),
        2 => refusal().prop_map(Outcome::Refused),
    ]
}

fn subscribing() -> impl Strategy<Value = Request> {
    let position = prop::option::of((0..9_u64).prop_map(|offset| position(offset, "e")));
    (
        name(),
        prop::bool::ANY,
        position,
        prop::bool::ANY,
        prop::bool::ANY,
    )
        .prop_map(
            |(name, with_token, recover, wishes, strict): (_, _, Option<Position>, _, _)| {
                Request::Subscribe(Box::new(command::Subscribe {
                    token: if with_token { "t".into() } else { String::new() },
                    recover,
                    recoverable: wishes,
                    join_leave: wishes,
                    delta: if wishes { "fossil".into() } else { String::new() },
                    reject_unrecovered: strict,
                    ..wanting(name)
                }))
            },
        )
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        8 => subscribing(),
        4 => name().prop_map(unsubscribe),
        2 => name().prop_map(publish),
        2 => (name(), prop::bool::ANY).prop_map(|(name, with_token)| Request::SubRefresh {
            channel: name.into(),
            token: if with_token { "t".into() } else { String::new() },
        }),
        1 => name().prop_map(|name| Request::Presence { channel: name.into() }),
        1 => name().prop_map(|name| Request::History(command::History {
            channel: name.into(),
            limit: -1,
            ..command::History::default()
        })),
        1 => Just(Request::Rpc { method: String::new(), payload: payload() }),
        1 => Just(Request::Refresh { token: "t".into() }),
        1 => Just(Request::NotOffered),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        10 => request().prop_map(Event::Command),
        20 => (0..8_usize, outcome()).prop_map(|(which, outcome)| Event::Answered(which, outcome)),
        2 => (0..80_u64).prop_map(Event::Waited),
        2 => name().prop_map(Event::Subscribed),
        2 => (name(), prop::bool::ANY).prop_map(|(name, again)| Event::Unsubscribed(name, again)),
        1 => name().prop_map(Event::Insufficient),
        1 => prop::option::of(1..200_u64).prop_map(Event::Refreshed),
        1 => prop_oneof![19 => Just(Event::Waited(0)), 1 => Just(Event::Closed)],
    ]
}

/// What the session has asked for and said, and what must be true of it.
#[derive(Default)]
struct Owner {
    questions: Vec<Action>,
    /// Channels taken up and not given back; true: entered.
    held: BTreeMap<Channel, bool>,
    unanswered: BTreeSet<u32>,
    /// How often the backend said by itself how long the connection is good for.
    refreshed: usize,
    closed: bool,
}

impl Owner {
    fn take(&mut self, actions: Vec<Action>) {
        for action in actions {
            assert!(!self.closed, "{action:?} after the end");
            match action {
                Action::Reply(reply) => self.reply(&reply),
                Action::Subscribe { ref channel, .. } => {
                    let before = self.held.insert(channel.clone(), false);
                    assert_eq!(before, None, "{channel} was not left");
                    self.questions.push(action);
                }
                Action::Enter { channel, .. } => {
                    let before = self.held.insert(channel, true);
                    assert_eq!(before, Some(false), "it was not taken up, or entered before");
                }
                Action::Leave { channel, presence } => {
                    let entered = self.held.remove(&channel).expect("it was taken up");
                    assert!(entered || !presence, "nobody has seen it");
                }
                Action::Close(_) => {
                    assert!(self.held.is_empty(), "given back: {:?}", self.held);
                    self.closed = true;
                }
                question => self.ask(question),
            }
        }
    }

    fn ask(&mut self, question: Action) {
        if let Action::Reauthorize { channel, .. } = &question {
            assert_eq!(self.held.get(channel), Some(&true), "it goes on only if it is");
        }
        if matches!(question, Action::Renew { .. }) {
            let same = |it: &&Action| matches!(it, Action::Renew { .. });
            let open = self.questions.iter().filter(same).count();
            assert!(
                open <= self.refreshed,
                "one question at a time, and those that were overtaken"
            );
        }
        self.questions.push(question);
    }

    fn reply(&mut self, reply: &Reply) {
        let id = match reply {
            Reply::Error { id, .. }
            | Reply::Connect { id, .. }
            | Reply::Subscribe { id, .. }
            | Reply::Unsubscribe { id }
            | Reply::Publish { id }
            | Reply::Presence { id, .. }
            | Reply::PresenceStats { id, .. }
            | Reply::History { id, .. }
            | Reply::Rpc { id, .. }
            | Reply::Refresh { id, .. }
            | Reply::SubRefresh { id, .. } => *id,
            Reply::Unsubscribed { channel, .. } => {
                return assert_eq!(
                    self.held.get(channel),
                    Some(&true),
                    "it was told of a channel it is in"
                );
            }
            _ => return,
        };
        assert!(
            self.unanswered.remove(&id),
            "{id} was answered before, or not asked"
        );
    }

    /// Answers one of the open questions.
    fn answer(&mut self, which: usize, outcome: &Outcome) -> Option<Answer> {
        if self.questions.is_empty() {
            return None;
        }
        let question = self.questions.remove(which % self.questions.len());
        let refusal = match outcome {
            Outcome::Refused(refusal) => Some(refusal.clone()),
            _ => None,
        };
        let error = refusal.as_ref().map(|_| Error::INTERNAL);
        let granted = || match (&refusal, outcome) {
            (Some(refusal), _) => Err(refusal.clone()),
            (None, Outcome::For(seconds, by)) => Ok(grant(*seconds, *by)),
            _ => Ok(Box::default()),
        };
        Some(match question {
            Action::Authenticate { id, .. } | Action::Refresh { id, .. } => Answer::Authenticated {
                id,
                result: granted().map(|grant| {
                    Box::new(crate::Identity {
                        expiry: grant.expiry,
                        ..identity("ada")
                    })
                }),
            },
            Action::Renew { .. } => Answer::Renewed {
                result: granted().map(|grant| Renewal {
                    expires_in: grant.expiry.map(|it| it.after),
                    info: None,
                }),
            },
            Action::Authorize { id, channel, .. } | Action::Reauthorize { id, channel, .. } => {
                let result = granted();
                Answer::Authorized { id, channel, result }
            }
            Action::Subscribe { id, channel, .. } => {
                let missed = match outcome {
                    Outcome::Missed(offsets) => offsets.as_slice(),
                    _ => &[],
                };
                let result = error.map_or_else(|| Ok(place(missed.len() as u64, missed)), Err);
                Answer::Subscribed { id, channel, result }
            }
            Action::Publish { id, .. } => Answer::Published {
                id,
                result: granted().map(|_| ()),
            },
            Action::Presence { id, .. } => Answer::Presence {
                id,
                result: Ok(Vec::new()),
            },
            Action::History { id, .. } => Answer::History {
                id,
                result: Ok((Vec::new(), position(0, "e"))),
            },
            Action::Rpc { id, .. } => Answer::Rpc {
                id,
                result: granted().map(|_| payload()),
            },
            other => panic!("{other:?} is no question"),
        })
    }
}

fn happen(client: &mut Fixture, owner: &mut Owner, event: Event) -> Vec<Action> {
    let now = client.now;
    match event {
        Event::Command(request) => {
            if !client.session.is_closed() {
                owner.unanswered.insert(client.next_id);
            }
            client.send(request)
        }
        Event::Answered(which, outcome) => match owner.answer(which, &outcome) {
            Some(answer) => client.answer(answer),
            None => Vec::new(),
        },
        Event::Waited(seconds) => client.wait(seconds),
        Event::Subscribed(name) => client.outside(|session, out| {
            session.subscribe_from_server(channel(name), Grant::default(), None, now, out);
        }),
        Event::Unsubscribed(name, again) => client.outside(|session, out| {
            let reason = if again {
                UnsubscribeReason::INSUFFICIENT_STATE
            } else {
                UnsubscribeReason::SERVER
            };
            session.unsubscribe_from_server(&channel(name), reason, out);
        }),
        Event::Insufficient(name) => client.outside(|session, out| session.insufficient(&channel(name), out)),
        Event::Refreshed(seconds) => client.outside(|session, out| {
            owner.refreshed += 1;
            let expires_in = seconds.map(std::time::Duration::from_secs);
            let renewal = Renewal {
                expires_in,
                info: None,
            };
            session.refresh_from_server(renewal, now, out);
        }),
        Event::Closed => client.outside(|session, out| session.close(CloseReason::Shutdown, out)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn channels_are_given_back_once_commands_answered_once_and_nothing_follows_the_end(
        events in prop::collection::vec(event(), 0..80),
    ) {
        let rules = crate::Rules { commands_per_second: 1000, ..with_backend() };
        let mut client = open(rules);
        let mut owner = Owner::default();
        owner.unanswered.insert(1);
        owner.take(client.send(connect("t")));
        for event in events {
            let actions = happen(&mut client, &mut owner, event);
            owner.take(actions);
            for (channel, entered) in &owner.held {
                prop_assert_eq!(client.session.is_subscribed(channel), *entered);
            }
        }
        // Once every question is answered, so is every command; a refused client is no more spoken to.
        while let Some(answer) = owner.answer(0, &Outcome::Good) {
            let actions = client.answer(answer);
            owner.take(actions);
        }
        prop_assert!(client.session.user().is_none() || owner.unanswered.is_empty(), "{:?}", owner.unanswered);
        let last = client.outside(|session, out| session.close(CloseReason::Shutdown, out));
        owner.take(last);
        prop_assert!(owner.closed && owner.held.is_empty());
    }

    #[test]
    fn what_is_due_is_done_so_that_the_clock_moves_on(
        events in prop::collection::vec(event(), 0..80),
    ) {
        let mut client = connected(with_backend(), "ada");
        let mut owner = Owner::default();
        for event in events {
            let id = client.next_id;
            let actions = happen(&mut client, &mut owner, event);
            owner.unanswered.insert(id);
            owner.questions.extend(actions.into_iter().filter(|it| !matches!(
                it,
                Action::Reply(_) | Action::Enter { .. } | Action::Leave { .. } | Action::Close(_)
            )));
            // Ticking at the deadline makes the next one come later, within a few steps.
            for step in 0.. {
                let Some(at) = client.session.deadline().filter(|at| *at <= client.now) else { break };
                prop_assert!(step < 4, "{at:?} stays due");
                client.wait(0);
            }
        }
    }
}

#[test]
fn commands_of_one_id_are_answered_each() {
    let mut client = connected(rules(), "ada");
    let mut out = Vec::new();
    for request in [subscribe("quiet:1"), subscribe("quiet:2")] {
        client
            .session
            .command(Command { id: 7, request }, client.now, &mut out);
    }
    out.extend(client.confirm(7, "quiet:2"));
    out.extend(client.confirm(7, "quiet:1"));
    let replies = out
        .iter()
        .filter(|it| matches!(it, Action::Reply(Reply::Subscribe { id: 7, .. })));
    assert_eq!(replies.count(), 2);
}
