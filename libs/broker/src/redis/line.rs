//! One connection of the pool for many callers at once: what they send at the same time travels together, and nobody has
//! to ask first whether the connection lives.
//!
//! The pool asks (a PING) each time it lends a connection, which would make two round trips of every publish. A line
//! keeps one on loan, and has it looked at only when there is reason to. Before it carries what is about streams it asks for
//! the generation of Redis, on each connection and again after each idle second: what is said of streams depends on it.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use deadpool_redis::{Connection, Pool, PoolError};
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value, aio::MultiplexedConnection};
use tokio::{sync::Mutex, time::Instant};

use super::{
    generation,
    script::{By, Call},
};

/// After how long without use a connection is probed before it is used: something on the way may have forgotten it.
const IDLE: Duration = Duration::from_secs(1);

/// For how long the generation of Redis counts as known, on a busy connection, too: the server may have followed another
/// meanwhile.
const FRESH: Duration = Duration::from_secs(1);

/// A connection borrowed from the pool, from its first use on.
#[derive(Default)]
pub(super) struct Line(Mutex<Option<Loan>>);

struct Loan {
    connection: Connection,
    state: Arc<State>,
    stamp: u64,
    used: Instant,
    /// The generation of Redis, and when it was asked for on this connection.
    generation: Option<(Arc<str>, Instant)>,
}

/// What the users of a connection tell each other.
struct State {
    failed: AtomicBool,
    /// When the last answer arrived, in milliseconds after `since`.
    answered: AtomicU64,
    since: Instant,
}

/// Why there is no share in a connection.
pub(super) enum Failure {
    /// The pool gave none.
    Pool(PoolError),
    /// Redis did not say which generation it is.
    Unknown(RedisError),
}

/// A share in the line's connection.
pub(super) struct Share {
    connection: MultiplexedConnection,
    state: Arc<State>,
    generation: Option<Arc<str>>,
}

impl Line {
    /// A share in the connection, which is taken from the pool when there is none that can be trusted. Only one caller
    /// asks the pool; the others wait for what it gets. `stamp`: another one whenever connections from before must not be used
    /// any more; `streams`: whether it is for what is about streams.
    pub(super) async fn share(&self, pool: &Pool, stamp: u64, streams: bool) -> Result<Share, Failure> {
        let mut line = self.0.lock().await;
        let mut loan = match line.take() {
            Some(loan) if loan.state.failed.load(Relaxed) || loan.stamp != stamp => {
                drop(Connection::take(loan.connection));
                Loan::new(pool, stamp).await?
            }
            Some(loan) if loan.used.elapsed() < IDLE => loan,
            idle => {
                // Back to the pool, which probes it before it lends it again.
                drop(idle);
                Loan::new(pool, stamp).await?
            }
        };
        let fresh = |(_, asked): &(_, Instant)| asked.elapsed() < FRESH;
        if streams && !loan.generation.as_ref().is_some_and(fresh) {
            let now = Instant::now();
            match generation::ask(&mut loan.connection).await {
                Ok(generation) => loan.generation = Some((generation.into(), now)),
                Err(error) => {
                    // It may lead to a primary that is one no more: the pool must not lend it again.
                    drop(Connection::take(loan.connection));
                    return Err(Failure::Unknown(error));
                }
            }
        }
        loan.used = Instant::now();
        Ok(line.insert(loan).share())
    }
}

impl Loan {
    async fn new(pool: &Pool, stamp: u64) -> Result<Self, Failure> {
        Ok(Self {
            connection: pool.get().await.map_err(Failure::Pool)?,
            state: Arc::new(State {
                failed: AtomicBool::new(false),
                answered: AtomicU64::new(0),
                since: Instant::now(),
            }),
            stamp,
            used: Instant::now(),
            generation: None,
        })
    }

    fn share(&self) -> Share {
        Share {
            connection: self.connection.as_ref().clone(),
            state: self.state.clone(),
            generation: self.generation.as_ref().map(|(generation, _)| generation.clone()),
        }
    }
}

impl Share {
    /// Says that the connection did not do what it should: nobody gets it any more.
    pub(super) fn fail(&self) {
        self.state.failed.store(true, Relaxed);
    }

    /// How long ago the last answer arrived on the connection, for any of its users, or it was made.
    pub(super) fn silence(&self) -> Duration {
        let answered = Duration::from_millis(self.state.answered.load(Relaxed));
        self.state.since.elapsed().saturating_sub(answered)
    }

    /// The generation of the Redis at the other end, where the line was asked for what is about streams.
    pub(super) fn generation(&self) -> Option<&Arc<str>> {
        self.generation.as_ref()
    }

    /// Asks for the answers to the commands `part`, in one round trip, or two when Redis does not know a script. `asking`: each
    /// is about a slot that is on its way to this node.
    pub(super) async fn ask(
        &self,
        part: Range<usize>,
        asking: bool,
        command: &impl Fn(usize, Call<'_>) -> Cmd,
    ) -> Result<Vec<Result<Value, RedisError>>, RedisError> {
        let call = |by| Call {
            by,
            generation: self.generation.as_deref().unwrap_or_default(),
            asking,
        };
        let mut answers = self
            .pipeline(asking, part.clone().map(|index| command(index, call(By::Hash))))
            .await?;
        // Each round makes one script known, which those behind it may be of, too; unless the command has no code to give.
        let mut sent_whole = None;
        loop {
            let unknown: Vec<usize> = (0..answers.len())
                .filter(|at| is_unknown(&answers[*at]))
                .collect();
            let first = unknown.first().copied();
            if first.is_none() || first == sent_whole {
                break;
            }
            sent_whole = first;
            let by = |nth| if nth == 0 { By::Code } else { By::Hash };
            let again = unknown.iter().enumerate();
            let again = again.map(|(nth, at)| command(part.start + at, call(by(nth))));
            for (at, answer) in unknown.iter().zip(self.pipeline(asking, again).await?) {
                answers[*at] = answer;
            }
        }
        Ok(answers)
    }

    async fn pipeline(
        &self,
        asking: bool,
        commands: impl Iterator<Item = Cmd>,
    ) -> Result<Vec<Result<Value, RedisError>>, RedisError> {
        let mut pipeline = redis::Pipeline::new();
        for command in commands {
            if asking {
                pipeline.cmd("ASKING");
            }
            pipeline.add_command(command);
        }
        let mut connection = self.connection.clone();
        let answers: Vec<_> = pipeline.ignore_errors().query_async(&mut connection).await?;
        let now = u64::try_from(self.state.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.state.answered.fetch_max(now, Relaxed);
        // Each ASKING has an answer, too, before that of its command.
        let each = if asking { 2 } else { 1 };
        Ok(answers.into_iter().skip(each - 1).step_by(each).collect())
    }
}

/// Whether nothing was done because Redis does not know the script.
pub(super) fn is_unknown<T>(answer: &Result<T, RedisError>) -> bool {
    matches!(answer, Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript))
}
