//! Commands, by the connections of a pool: nothing here waits longer than the command timeout.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use backon::{ExponentialBuilder, Retryable};
use deadpool_redis::{Hook, HookError, Manager, Pool, PoolError, Runtime, Timeouts};
use parking_lot::Mutex;
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::time::{Instant, timeout_at};

use super::{
    Config,
    health::Health,
    line::{self, Line, Share},
    metrics::Kind,
    peer::Peer,
    place::Place,
    script::Call,
    sentinel::{self, Sentinels},
    slots::Address,
    suspected::Suspected,
};
use crate::{
    Error,
    error::{is_busy, is_temporary},
};

/// The most bytes of one pipeline, roughly. A long list of channels is sent in several.
const PIPELINE: usize = 1 << 20;

/// The most commands of one pipeline.
const PIPELINE_COMMANDS: usize = 512;

/// Connections on which parts of streams are read.
const HISTORIES: usize = 2;

/// The connections that the bus keeps for itself, beyond those that the configuration allows others: for what is published,
/// for positions, and for parts of streams, so that a large answer holds up nothing else; and in a Cluster, one for all others.
const LINES: usize = 3 + HISTORIES;

/// What is asked: so many commands that go together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    /// What for.
    pub(super) kind: Kind,
    pub(super) count: usize,
    /// The size of each, roughly.
    pub(super) bytes: usize,
    /// Whether it is about streams, for which the generation of Redis has to be known.
    pub(super) streams: bool,
    /// When the caller wants its answer, if that is before the command timeout.
    pub(super) deadline: Option<Instant>,
    /// Whether it is about slots that are on their way to the node.
    pub(super) asking: bool,
}

impl Ask {
    /// One command of this size that is about no stream.
    pub(super) fn one(kind: Kind, bytes: usize) -> Self {
        Self {
            kind,
            count: 1,
            bytes,
            streams: false,
            deadline: None,
            asking: false,
        }
    }
}

/// Why a command has no answer, or a bad one.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) error: Error,
    /// It certainly did nothing.
    pub(super) undone: bool,
    /// What Redis said, if it said something.
    pub(super) why: Option<RedisError>,
    /// Where else, or when, a Cluster would do it.
    pub(super) redirect: Option<Redirect>,
}

/// What a node of a Cluster says that does not do what it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Redirect {
    /// Another has the slot, at this address if that can be understood.
    Moved(Option<Address>),
    /// Another will have the slot, and has this part of it.
    Ask(Option<Address>),
    /// Part of it is here, part is there.
    Later,
}

impl Failure {
    /// Redis has answered: trying again would not help.
    pub(super) fn done(error: Error) -> Self {
        Self {
            undone: false,
            ..Self::undone(error)
        }
    }

    pub(super) fn undone(error: Error) -> Self {
        Self {
            error,
            undone: true,
            why: None,
            redirect: None,
        }
    }
}

impl Redirect {
    /// What `error` says, which the node at `answered` gave.
    pub(super) fn of(error: &RedisError, answered: &Address) -> Option<Self> {
        let ErrorKind::Server(kind) = error.kind() else {
            return None;
        };
        let to = || Address::of_redirect(error, answered);
        match kind {
            ServerErrorKind::Moved => Some(Self::Moved(to())),
            ServerErrorKind::Ask => Some(Self::Ask(to())),
            ServerErrorKind::TryAgain => Some(Self::Later),
            _ => None,
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

/// The pool and the rules by which it is used.
pub(super) struct Commands {
    pool: Pool,
    publishing: Line,
    reading: Line,
    histories: [Line; HISTORIES],
    /// How often a part of a stream was read.
    read: AtomicUsize,
    keeping: Line,
    /// Who knows where the primary is, where that can change.
    sentinels: Option<Arc<Sentinels>>,
    /// Where the node is; of no account where there is only one.
    address: Address,
    peer: Peer,
    health: Arc<Health>,
    timeout: Duration,
    retries: ExponentialBuilder,
    /// The last generation of Redis that a connection led to, and whom to tell of another.
    generation: Mutex<Option<Arc<str>>>,
    suspected: Arc<Suspected>,
}

impl Commands {
    /// Connects to nothing yet.
    pub(super) fn new(
        config: &Config,
        place: &Place,
        peer: Peer,
        health: Arc<Health>,
        suspected: Arc<Suspected>,
    ) -> Result<Self, Error> {
        let manager =
            Manager::new_with_config(place.info(), place.connection()).map_err(|error| peer.error(&error))?;
        let mut pool = Pool::builder(manager);
        if let Some(sentinels) = place.sentinels().cloned() {
            pool = pool.post_create(Hook::async_fn(|connection, _| {
                Box::pin(async {
                    let checked = sentinel::expect_primary(connection).await;
                    checked.map_err(HookError::Backend)
                })
            }));
            let connect_timeout = config.connect_timeout;
            pool = pool.pre_recycle(Hook::sync_fn(move |_, metrics| {
                // It may have been on its way to the former primary for as long as that when it was created.
                let begun = metrics
                    .created
                    .checked_sub(connect_timeout)
                    .unwrap_or(metrics.created);
                let is_former = sentinels.switched_since(begun);
                let former = || HookError::message("it leads to a former primary");
                if is_former { Err(former()) } else { Ok(()) }
            }));
        }
        let pool = pool
            .max_size(config.pool_size.get().saturating_add(LINES))
            .timeouts(Timeouts {
                wait: Some(config.command_timeout),
                create: Some(config.connect_timeout),
                recycle: Some(config.command_timeout),
            })
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| peer.away(error))?;
        Ok(Self {
            pool,
            publishing: Line::default(),
            reading: Line::default(),
            histories: Default::default(),
            read: AtomicUsize::default(),
            keeping: Line::default(),
            sentinels: place.sentinels().cloned(),
            address: place.address(),
            peer,
            health,
            timeout: config.command_timeout,
            retries: ExponentialBuilder::default()
                .with_min_delay(Duration::from_millis(20))
                .with_max_times(config.max_retries as usize)
                .with_jitter(),
            generation: Mutex::default(),
            suspected,
        })
    }

    /// Whether the node is known to be away.
    pub(super) fn is_away(&self) -> bool {
        self.health.known_away(self.peer.name()).is_some()
    }

    pub(super) fn pool(&self) -> Pool {
        self.pool.clone()
    }

    /// Sends commands pipelined, and returns the answer to each, in order. After a failure of the connection the rest is not
    /// tried. A script that Redis does not know by its hash is sent again, by its code.
    pub(super) async fn ask(
        &self,
        ask: Ask,
        command: impl Fn(usize, Call<'_>) -> Cmd,
    ) -> Vec<Result<Value, Failure>> {
        let begin = Instant::now();
        let latest = begin + self.timeout;
        let deadline = ask.deadline.map_or(latest, |deadline| deadline.min(latest));
        let share = timeout_at(deadline, self.share(ask)).await;
        let answers = match share.unwrap_or_else(|_| Err(self.too_late())) {
            Ok(share) => self.send(&share, ask, deadline, command).await,
            Err(error) => vec![Err(Failure::undone(error)); ask.count],
        };
        self.health.metrics.answered(ask.kind, &answers, begin.elapsed());
        answers
    }

    async fn send(
        &self,
        share: &Share,
        Ask {
            count, bytes, asking, ..
        }: Ask,
        deadline: Instant,
        command: impl Fn(usize, Call<'_>) -> Cmd,
    ) -> Vec<Result<Value, Failure>> {
        let mut answers = Vec::with_capacity(count);
        let sending = async {
            let size = (PIPELINE / bytes.max(1)).clamp(1, PIPELINE_COMMANDS);
            for first in (0..count).step_by(size) {
                let part = first..count.min(first + size);
                answers.extend(share.ask(part, asking, &command).await?);
            }
            Ok(())
        };
        let mut is_dead = false;
        let failure = match timeout_at(deadline, sending).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => {
                is_dead = true;
                Some(self.peer.error(&error))
            }
            Err(_) => {
                // A connection that answers others is slow, not dead.
                is_dead = share.silence() >= self.timeout;
                Some(self.too_late())
            }
        };
        let understood = answers
            .into_iter()
            .map(|answer| answer.map_err(|error| self.failure(&error)));
        let mut answers: Vec<_> = understood.collect();
        // A replica that was the primary answers, too, but not as it should.
        let is_away = |failure: &Failure| {
            let is_busy = failure.why.as_ref().is_some_and(is_busy);
            failure.redirect.is_none() && !is_busy && matches!(failure.error, Error::Away { .. })
        };
        if is_dead
            || answers
                .iter()
                .filter_map(|answer| answer.as_ref().err())
                .any(is_away)
        {
            share.fail();
        }
        if let Some(error) = failure {
            let failure = Failure {
                undone: false,
                ..Failure::undone(error)
            };
            answers.resize(count, Err(failure));
        }
        answers
    }

    fn failure(&self, error: &RedisError) -> Failure {
        Failure {
            why: Some(error.clone()),
            redirect: Redirect::of(error, &self.address),
            ..Failure::undone(self.peer.error(error))
        }
    }

    /// A part in a line's connection. Only this is retried: nothing has been sent yet.
    async fn share(&self, Ask { kind, streams, .. }: Ask) -> Result<Share, Error> {
        let node = self.peer.name();
        if let Some(reason) = self.health.known_away(node) {
            return Err(Error::Away { reason });
        }
        let switches = self
            .sentinels
            .as_ref()
            .map_or(0, |sentinels| sentinels.switches());
        let stamp = self.health.outages(node) + switches;
        let line = match kind {
            Kind::Publish => &self.publishing,
            Kind::Read => &self.reading,
            Kind::History => &self.histories[self.read.fetch_add(1, Relaxed) % HISTORIES],
            Kind::Keep => &self.keeping,
        };
        let share = (|| line.share(&self.pool, stamp, streams))
            .retry(self.retries)
            .when(|failure| match failure {
                line::Failure::Pool(PoolError::Backend(error)) => error.is_io_error(),
                line::Failure::Pool(_) => false,
                line::Failure::Unknown(error) => is_temporary(error),
            })
            .await
            .map_err(|failure| match failure {
                line::Failure::Pool(PoolError::Backend(error)) | line::Failure::Unknown(error) => {
                    self.peer.error(&error)
                }
                line::Failure::Pool(PoolError::Timeout(_)) => self.too_late(),
                line::Failure::Pool(error) => self.peer.away(error),
            })?;
        if let Some(generation) = share.generation() {
            self.compare(generation);
        }
        Ok(share)
    }

    /// Another generation than the last that was seen may have lost something.
    fn compare(&self, generation: &Arc<str>) {
        let mut last = self.generation.lock();
        if last.as_ref() != Some(generation) {
            *last = Some(generation.clone());
            self.suspected.raise();
        }
    }

    fn too_late(&self) -> Error {
        self.peer
            .away(format_args!("no answer within {:?}", self.timeout))
    }
}
