//! A session under test, with a clock that the test turns.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use tidings_core::{
    Channel, ClientId, Format, Namespace, Namespaces, Payload, Position, Publication, RecoveryMode,
};
use tidings_protocol::{Command, Error, Reply, Request, command, reply::Subscribed};

use crate::{
    Action, Answer, Backend, Expiry, Grant, Hears, Identity, Place, Refusal, RenewedBy, Rules, Session,
    Transport,
};

pub(super) struct Fixture {
    pub(super) session: Session,
    pub(super) now: Instant,
    pub(super) next_id: u32,
}

/// `tasks` is open to clients with a name, `quiet` keeps nothing and is open to all; of `sealed` nothing is allowed by
/// options, and `asked` is the backend's. `kept` recovers unasked, and `cached` the newest publication.
pub(super) fn rules() -> Rules {
    let quiet = Namespace {
        history_size: 0,
        history_ttl: Duration::ZERO,
        allow_recovery: false,
        allow_positioning: false,
        allowed_delta_types: Vec::new(),
        presence: false,
        join_leave: false,
        allow_tags_filter: false,
        ..Namespace::open("quiet")
    };
    let tasks = Namespace {
        allow_subscribe_for_anonymous: false,
        allow_publish_for_client: false,
        ..Namespace::open("tasks")
    };
    let sealed = Namespace {
        name: "sealed".into(),
        history_size: 10,
        history_ttl: Duration::from_secs(60),
        ..Namespace::default()
    };
    let asked = Namespace {
        subscribe_proxy_enabled: true,
        publish_proxy_enabled: true,
        sub_refresh_proxy_enabled: true,
        allow_user_limited_channels: true,
        name: "asked".into(),
        ..Namespace::default()
    };
    let kept = Namespace {
        force_recovery: true,
        ..Namespace::open("kept")
    };
    let cached = Namespace {
        force_recovery_mode: RecoveryMode::Cache,
        name: "cached".into(),
        ..kept.clone()
    };
    Rules {
        version: "test",
        ping_interval: Duration::from_secs(25),
        pong_timeout: Duration::from_secs(8),
        connect_timeout: Duration::from_secs(10),
        expired_grace: Duration::from_secs(25),
        channels: 3,
        history: 300,
        commands_per_second: 50,
        allow_anonymous: false,
        backend: Backend::default(),
        personal_namespace: None,
        insecure: false,
        namespaces: Namespaces::new(vec![quiet, tasks, sealed, asked, kept, cached]).unwrap(),
    }
}

/// The same, with a backend that decides everything, and no pings to be seen.
pub(super) fn with_backend() -> Rules {
    Rules {
        ping_interval: Duration::from_secs(100_000),
        backend: Backend {
            connect: true,
            refresh: true,
            subscribe: true,
            publish: true,
            sub_refresh: true,
            rpc: true,
        },
        ..rules()
    }
}

pub(super) fn open(rules: Rules) -> Fixture {
    reached_by(Transport::default(), rules)
}

#[expect(clippy::disallowed_methods, reason = "any instant will do to count from")]
pub(super) fn reached_by(transport: Transport, rules: Rules) -> Fixture {
    let now = Instant::now();
    Fixture {
        session: Session::open(Arc::new(rules), ClientId::random(), transport, 1.0, now),
        now,
        next_id: 1,
    }
}

pub(super) fn connected(rules: Rules, user: &str) -> Fixture {
    connected_as(identity(user), rules)
}

pub(super) fn connected_as(identity: Identity, rules: Rules) -> Fixture {
    let mut fixture = open(rules);
    fixture.send(connect("token"));
    fixture.authenticate(Ok(identity));
    fixture
}

pub(super) fn identity(user: &str) -> Identity {
    Identity {
        user: user.into(),
        ..Identity::anonymous()
    }
}

/// Someone who hears channels without asking.
pub(super) fn hearing(user: &str, names: &[&str]) -> Identity {
    Identity {
        channels: names
            .iter()
            .map(|name| (channel(name), Grant::default()))
            .collect(),
        ..identity(user)
    }
}

pub(super) fn expiry(seconds: u64, renewed_by: RenewedBy) -> Option<Expiry> {
    Some(Expiry {
        after: Duration::from_secs(seconds),
        renewed_by,
    })
}

pub(super) fn grant(seconds: u64, renewed_by: RenewedBy) -> Box<Grant> {
    Box::new(Grant {
        expiry: expiry(seconds, renewed_by),
        ..Grant::default()
    })
}

pub(super) fn connect(token: &str) -> Request {
    connect_naming(token, Vec::new())
}

pub(super) fn connect_naming(token: &str, subs: Vec<command::Subscribe>) -> Request {
    Request::Connect(Box::new(command::Connect {
        token: token.into(),
        subs,
        ..command::Connect::default()
    }))
}

pub(super) fn subscribe(name: &str) -> Request {
    Request::Subscribe(Box::new(wanting(name)))
}

pub(super) fn subscribe_with(name: &str, token: &str) -> Request {
    Request::Subscribe(Box::new(command::Subscribe {
        token: token.into(),
        ..wanting(name)
    }))
}

pub(super) fn wanting(name: &str) -> command::Subscribe {
    command::Subscribe {
        channel: name.into(),
        ..command::Subscribe::default()
    }
}

pub(super) fn unsubscribe(name: &str) -> Request {
    Request::Unsubscribe { channel: name.into() }
}

pub(super) fn publish(name: &str) -> Request {
    Request::Publish {
        channel: name.into(),
        payload: payload(),
    }
}

pub(super) fn payload() -> Payload {
    Payload::json(Bytes::from_static(b"1"))
}

pub(super) fn channel(name: &str) -> Channel {
    Channel::parse(name).unwrap()
}

pub(super) fn position(offset: u64, epoch: &str) -> Position {
    Position {
        offset,
        epoch: epoch.into(),
    }
}

/// A publication at an offset of the epoch `e`.
pub(super) fn publication(offset: u64) -> Publication {
    Publication {
        position: Some(position(offset, "e")),
        ..Publication::new(Bytes::from_static(b"1"), Format::Json, SystemTime::UNIX_EPOCH)
    }
}

/// Where the stream is at `top` of the epoch `e`, and what was read of it.
pub(super) fn place(top: u64, read: &[u64]) -> Place {
    Place {
        position: Some(position(top, "e")),
        publications: read.iter().map(|offset| publication(*offset)).collect(),
        provisional: String::new(),
    }
}

impl Fixture {
    /// Sends a command with the next id, or none for those that have none.
    pub(super) fn send(&mut self, request: Request) -> Vec<Action> {
        let id = if matches!(request, Request::Pong | Request::Send) {
            0
        } else {
            self.next_id
        };
        self.next_id += 1;
        let mut out = Vec::new();
        self.session.command(Command { id, request }, self.now, &mut out);
        out
    }

    pub(super) fn answer(&mut self, answer: Answer) -> Vec<Action> {
        let mut out = Vec::new();
        self.session.answer(answer, self.now, &mut out);
        out
    }

    /// Answers the first command.
    pub(super) fn authenticate(&mut self, result: Result<Identity, Refusal>) -> Vec<Action> {
        self.identify(1, result)
    }

    pub(super) fn identify(&mut self, id: u32, result: Result<Identity, Refusal>) -> Vec<Action> {
        let result = result.map(Box::new);
        self.answer(Answer::Authenticated { id, result })
    }

    pub(super) fn authorize(
        &mut self,
        id: u32,
        name: &str,
        result: Result<Box<Grant>, Refusal>,
    ) -> Vec<Action> {
        self.answer(Answer::Authorized {
            id,
            channel: channel(name),
            result,
        })
    }

    pub(super) fn confirm(&mut self, id: u32, name: &str) -> Vec<Action> {
        self.confirm_at(id, name, Ok(place(0, &[])))
    }

    pub(super) fn confirm_at(&mut self, id: u32, name: &str, result: Result<Place, Error>) -> Vec<Action> {
        self.answer(Answer::Subscribed {
            id,
            channel: channel(name),
            result,
        })
    }

    /// Subscribes, and is in the channel.
    pub(super) fn enter(&mut self, name: &str) -> Vec<Action> {
        let id = self.next_id;
        self.send(subscribe(name));
        self.confirm(id, name)
    }

    /// Subscribes with a token that gives `grant`, and is in the channel.
    pub(super) fn enter_by(&mut self, name: &str, grant: Box<Grant>) -> Vec<Action> {
        let id = self.next_id;
        self.send(subscribe_with(name, "t"));
        self.authorize(id, name, Ok(grant));
        self.confirm(id, name)
    }

    /// What the channel's owner was told to read, and what the client was told and hears when this was found.
    pub(super) fn come_back(
        &mut self,
        wanted: command::Subscribe,
        found: Place,
    ) -> (crate::Read, Result<(Subscribed, Hears), Error>) {
        let (id, name) = (self.next_id, wanted.channel.clone());
        let asked = self.send(Request::Subscribe(Box::new(wanted)));
        let [Action::Subscribe { read, .. }] = &asked[..] else {
            panic!("{asked:?}")
        };
        let mut told = self.confirm_at(id, &name, Ok(found)).into_iter();
        let result = match (told.next(), told.next(), told.next()) {
            (
                Some(Action::Reply(Reply::Subscribe { result, .. })),
                Some(Action::Enter { hears, .. }),
                None,
            ) => Ok((*result, hears)),
            (Some(Action::Leave { .. }), Some(Action::Reply(Reply::Error { error, .. })), None) => Err(error),
            other => panic!("{other:?}"),
        };
        (read.clone(), result)
    }

    pub(super) fn wait(&mut self, seconds: u64) -> Vec<Action> {
        self.now += Duration::from_secs(seconds);
        let mut out = Vec::new();
        self.session.tick(self.now, &mut out);
        out
    }

    /// What comes of something that is done from outside.
    pub(super) fn outside(&mut self, act: impl FnOnce(&mut Session, &mut Vec<Action>)) -> Vec<Action> {
        let mut out = Vec::new();
        act(&mut self.session, &mut out);
        out
    }

    pub(super) fn is_in(&self, name: &str) -> bool {
        self.session.is_subscribed(&channel(name))
    }
}

/// The code of the only reply, which is an error.
pub(super) fn error_code(actions: &[Action]) -> u32 {
    let mut replies = actions.iter().filter(|action| matches!(action, Action::Reply(_)));
    match (replies.next(), replies.next()) {
        (Some(Action::Reply(Reply::Error { error, .. })), None) => error.code,
        _ => panic!("expected one error, got {actions:?}"),
    }
}

pub(super) fn close_code(actions: &[Action]) -> u16 {
    match actions.last() {
        Some(Action::Close(reason)) => reason.code(),
        other => panic!("expected a close, got {other:?}"),
    }
}

pub(super) fn leave(name: &str, presence: bool) -> Action {
    Action::Leave {
        channel: channel(name),
        presence,
    }
}
