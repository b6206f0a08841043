//! One connection of the pool for many callers at once: what they send at the same time travels together, and nobody has
//! to ask first whether the connection lives.
//!
//! The pool asks (a PING) each time it lends a connection, which would make two round trips of every publish. A line
//! keeps one on loan, and has it looked at only when there is reason to.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use deadpool_redis::{Connection, Pool, PoolError};
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value, aio::MultiplexedConnection};
use tokio::{sync::Mutex, time::Instant};

use super::script::By;

/// After how long without use a connection is asked again whether it lives: something on the way may have forgotten it.
const IDLE: Duration = Duration::from_secs(1);

/// A connection on loan from the pool, from its first use on.
#[derive(Default)]
pub(super) struct Line(Mutex<Option<Loan>>);

struct Loan {
    connection: Connection,
    failed: Arc<AtomicBool>,
    outages: u64,
    used: Instant,
}

/// A part in the line's connection.
pub(super) struct Share {
    connection: MultiplexedConnection,
    failed: Arc<AtomicBool>,
}

impl Line {
    /// A part in the connection, which is taken from the pool when there is none that can be trusted. Only one caller
    /// asks the pool; the others wait for what it gets. `outages`: how often Redis was away so far.
    pub(super) async fn share(&self, pool: &Pool, outages: u64) -> Result<Share, PoolError> {
        let mut loan = self.0.lock().await;
        if let Some(current) = &mut *loan
            && !current.failed.load(Relaxed)
            && current.outages == outages
            && current.used.elapsed() < IDLE
        {
            current.used = Instant::now();
            return Ok(current.share());
        }
        match loan.take() {
            Some(old) if old.failed.load(Relaxed) || old.outages != outages => {
                drop(Connection::take(old.connection));
            }
            // Back to the pool, which asks before it lends it again.
            idle => drop(idle),
        }
        let new = Loan {
            connection: pool.get().await?,
            failed: Arc::default(),
            outages,
            used: Instant::now(),
        };
        Ok(loan.insert(new).share())
    }
}

impl Loan {
    fn share(&self) -> Share {
        Share {
            connection: self.connection.as_ref().clone(),
            failed: self.failed.clone(),
        }
    }
}

impl Share {
    /// Says that the connection did not do what it should: nobody gets it any more.
    pub(super) fn fail(&self) {
        self.failed.store(true, Relaxed);
    }

    /// Asks for the answers to the commands `part`, in one round trip, or two when Redis does not know a script.
    pub(super) async fn ask(
        &self,
        part: Range<usize>,
        command: &impl Fn(usize, By) -> Cmd,
    ) -> Result<Vec<Result<Value, RedisError>>, RedisError> {
        let mut answers = self
            .pipeline(part.clone().map(|index| command(index, By::Hash)))
            .await?;
        let unknown: Vec<usize> = (0..answers.len())
            .filter(|at| is_unknown(&answers[*at]))
            .collect();
        if !unknown.is_empty() {
            let again = unknown.iter().map(|at| command(part.start + at, By::Code));
            for (at, answer) in unknown.iter().zip(self.pipeline(again).await?) {
                answers[*at] = answer;
            }
        }
        Ok(answers)
    }

    async fn pipeline(
        &self,
        commands: impl Iterator<Item = Cmd>,
    ) -> Result<Vec<Result<Value, RedisError>>, RedisError> {
        let mut pipeline = redis::Pipeline::new();
        for command in commands {
            pipeline.add_command(command);
        }
        let mut connection = self.connection.clone();
        pipeline.ignore_errors().query_async(&mut connection).await
    }
}

/// Whether nothing was done because Redis does not know the script.
fn is_unknown<T>(answer: &Result<T, RedisError>) -> bool {
    matches!(answer, Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript))
}
