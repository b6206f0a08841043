//! Commands, by the connections of a pool: nothing here waits longer than the command timeout.

use std::{sync::Arc, time::Duration};

use backon::{ExponentialBuilder, Retryable};
use deadpool_redis::{Hook, HookError, Manager, Pool, PoolError, Runtime, Timeouts};
use parking_lot::Mutex;
use redis::{Cmd, Value};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{
    Config,
    health::Health,
    line::{self, Line, Share},
    metrics::Kind,
    peer::Peer,
    place::Place,
    script::Call,
    sentinel,
};
use crate::{Error, error::is_temporary};

/// The most bytes of one pipeline, roughly. A long list of channels is sent in several.
const PIPELINE: usize = 1 << 20;

/// The most commands of one pipeline.
const PIPELINE_COMMANDS: usize = 512;

/// The connections that the bus keeps for itself, beyond those that the configuration allows others: one for what is
/// published and one for what is read, so that a large answer holds up no publication.
const LINES: usize = 2;

/// Why a command has no answer, or a bad one.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) error: Error,
    /// It certainly did nothing.
    pub(super) undone: bool,
}

impl Failure {
    pub(super) fn undone(error: Error) -> Self {
        Self { error, undone: true }
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
    pub(super) publishing: Line,
    pub(super) reading: Line,
    peer: Peer,
    health: Arc<Health>,
    timeout: Duration,
    retries: ExponentialBuilder,
    /// The last generation of Redis that a connection led to, and whom to tell of another.
    generation: Mutex<Option<Arc<str>>>,
    suspicion: Arc<Notify>,
}

impl Commands {
    /// Connects to nothing yet.
    pub(super) fn new(
        config: &Config,
        place: &Place,
        peer: Peer,
        health: Arc<Health>,
        suspicion: Arc<Notify>,
    ) -> Result<Self, Error> {
        let manager =
            Manager::new_with_config(place.info(), place.connection()).map_err(|error| peer.error(&error))?;
        let mut pool = Pool::builder(manager);
        if place.sentinels().is_some() {
            pool = pool.post_create(Hook::async_fn(|connection, _| {
                Box::pin(async {
                    let checked = sentinel::expect_primary(connection).await;
                    checked.map_err(HookError::Backend)
                })
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
            peer,
            health,
            timeout: config.command_timeout,
            retries: ExponentialBuilder::default()
                .with_min_delay(Duration::from_millis(20))
                .with_max_times(config.max_retries as usize)
                .with_jitter(),
            generation: Mutex::default(),
            suspicion,
        })
    }

    /// How long a command may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn pool(&self) -> Pool {
        self.pool.clone()
    }

    /// Sends `count` commands of about `bytes` each, pipelined, and returns the answer to each, in order. After a failure
    /// of the connection the rest is not tried. A script that Redis does not know by its hash is sent again, by its code.
    /// `streams`: whether it is about streams, for which the generation of Redis has to be known; `deadline`: when the
    /// caller wants its answer, if that is before the command timeout.
    pub(super) async fn ask(
        &self,
        line: &Line,
        count: usize,
        bytes: usize,
        streams: bool,
        deadline: Option<Instant>,
        command: impl Fn(usize, Call<'_>) -> Cmd,
    ) -> Vec<Result<Value, Failure>> {
        let begin = Instant::now();
        let latest = begin + self.timeout;
        let deadline = deadline.map_or(latest, |deadline| deadline.min(latest));
        let share = timeout_at(deadline, self.share(line, streams)).await;
        let share = match share.unwrap_or_else(|_| Err(self.too_late())) {
            Ok(share) => share,
            Err(error) => {
                let answers = vec![Err(Failure::undone(error)); count];
                self.count(line, &answers, begin);
                return answers;
            }
        };
        let mut answers = Vec::with_capacity(count);
        let asking = async {
            let size = (PIPELINE / bytes.max(1)).clamp(1, PIPELINE_COMMANDS);
            for first in (0..count).step_by(size) {
                answers.extend(share.ask(first..count.min(first + size), &command).await?);
            }
            Ok(())
        };
        let failure = match timeout_at(deadline, asking).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(self.peer.error(&error)),
            Err(_) => Some(self.too_late()),
        };
        // A replica that was the primary answers, too, but not as it should.
        if failure.is_some()
            || answers
                .iter()
                .filter_map(|answer| answer.as_ref().err())
                .any(is_temporary)
        {
            share.fail();
        }
        let mut answers: Vec<_> = answers
            .into_iter()
            .map(|answer| answer.map_err(|error| Failure::undone(self.peer.error(&error))))
            .collect();
        if let Some(error) = failure {
            answers.resize(count, Err(Failure { error, undone: false }));
        }
        self.count(line, &answers, begin);
        answers
    }

    fn count(&self, line: &Line, answers: &[Result<Value, Failure>], begin: Instant) {
        let reads = std::ptr::eq(line, &raw const self.reading);
        let kind = if reads { Kind::Read } else { Kind::Publish };
        self.health.metrics.answered(kind, answers, begin.elapsed());
    }

    /// The same for one command.
    pub(super) async fn ask_one(
        &self,
        line: &Line,
        bytes: usize,
        streams: bool,
        command: impl Fn(Call<'_>) -> Cmd,
    ) -> Result<Value, Error> {
        let command = |_, call: Call<'_>| command(call);
        let mut answers = self.ask(line, 1, bytes, streams, None, command).await;
        Ok(answers.pop().expect("there is an answer to each command")?)
    }

    /// A part in a line's connection. Only this is retried: nothing has been sent yet.
    async fn share(&self, line: &Line, streams: bool) -> Result<Share, Error> {
        if let Some(reason) = self.health.known_away() {
            return Err(Error::Away { reason });
        }
        let outages = self.health.outages();
        let share = (|| line.share(&self.pool, outages, streams))
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
            self.suspicion.notify_one();
        }
    }

    fn too_late(&self) -> Error {
        self.peer
            .away(format_args!("no answer within {:?}", self.timeout))
    }
}
