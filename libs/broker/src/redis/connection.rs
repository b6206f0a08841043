//! Connections for whoever keeps something in the same Redis: one of the pool, or a whole Cluster that looks like one.

use std::{sync::Arc, time::Duration};

use deadpool_redis::PoolError;
use futures_util::FutureExt as _;
use redis::{
    Arg, Cmd, Pipeline, RedisError, RedisFuture, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};

use tokio::time::{Instant, timeout_at};

use super::{
    cluster::Cluster,
    commands::{Ask, Failure},
    health::Health,
    line::is_unknown,
    metrics::Kind,
    script::{By, Call},
    slots::slot,
    streams::Publish,
};

/// Where connections come from. Cheap to clone.
#[derive(Clone)]
pub struct Pool {
    pub(super) source: Source,
    health: Arc<Health>,
}

#[derive(Clone)]
pub(super) enum Source {
    One(deadpool_redis::Pool),
    Cluster(Arc<Cluster>),
}

/// Takes any command, script or pipeline.
///
/// On a Cluster each command goes to whoever has the slot of its key, which is its first argument or, of a script, the
/// first of its keys; what has no key goes to all, before the others of its pipeline. So the commands of a pipeline are in
/// order for each slot only, and there are no transactions.
pub struct Connection(Kept);

enum Kept {
    One(deadpool_redis::Connection),
    Cluster(Arc<Cluster>),
}

impl Pool {
    pub(super) fn one(pool: deadpool_redis::Pool, health: Arc<Health>) -> Self {
        let source = Source::One(pool);
        Self { source, health }
    }

    pub(super) fn cluster(cluster: Arc<Cluster>, health: Arc<Health>) -> Self {
        let source = Source::Cluster(cluster);
        Self { source, health }
    }

    /// Whether this Redis may be used: its nodes may speak another format.
    fn usable(&self) -> Result<(), RedisError> {
        match self.health.refused() {
            Some(reason) => Err(std::io::Error::other(reason).into()),
            None => Ok(()),
        }
    }

    /// A connection, as soon as there is one.
    ///
    /// # Errors
    /// When Redis cannot be reached, its nodes speak another format, or all connections are in use for too long.
    pub async fn get(&self) -> Result<Connection, PoolError> {
        self.usable()?;
        Ok(Connection(match &self.source {
            Source::One(pool) => Kept::One(pool.get().await?),
            Source::Cluster(cluster) => Kept::Cluster(cluster.clone()),
        }))
    }

    /// A connection that nobody else uses, out of the pool for good; `None` in a Cluster, where none leads to everything.
    ///
    /// # Errors
    /// As those of [`get`](Self::get).
    pub async fn take(&self) -> Result<Option<MultiplexedConnection>, PoolError> {
        self.usable()?;
        match &self.source {
            Source::One(pool) => Ok(Some(deadpool_redis::Connection::take(pool.get().await?))),
            Source::Cluster(_) => Ok(None),
        }
    }

    /// Sends commands in one exchange, and gives the answer to each. Those of a Cluster whose primary is unavailable fail
    /// alone, and all that have no answer after `timeout`. `script`: the code of the script that the `EVALSHA` among them
    /// call; it is sent to a node that does not know it.
    pub async fn each(
        &self,
        commands: &[Cmd],
        script: Option<&str>,
        timeout: Duration,
    ) -> Vec<Result<Value, RedisError>> {
        let deadline = Instant::now() + timeout;
        if let Err(error) = self.usable() {
            return vec![Err(error); commands.len()];
        }
        match &self.source {
            Source::One(pool) => {
                let exchange = each_of_one(pool, commands, script);
                let late = || Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
                match timeout_at(deadline, exchange).await.unwrap_or_else(|_| late()) {
                    Ok(answers) => answers,
                    Err(error) => vec![Err(error); commands.len()],
                }
            }
            Source::Cluster(cluster) => {
                let ask = Ask {
                    count: commands.len(),
                    deadline: Some(deadline),
                    ..Ask::one(Kind::Keep, mean_size(commands.iter()))
                };
                let command = |at: usize, call: Call<'_>| match (call.by, script) {
                    (By::Code, Some(code)) => with_code(&commands[at], code),
                    _ => commands[at].clone(),
                };
                let slot = |at: usize| slot(key(&commands[at]).unwrap_or_default());
                let answers = cluster.ask(ask, slot, command).await;
                answers.into_iter().map(|answer| answer.map_err(told)).collect()
            }
        }
    }

    /// The command by which this Redis carries a message to the subscribers of a channel.
    #[must_use]
    pub fn publish(&self) -> &'static str {
        match &self.source {
            Source::One(_) => Publish::Everywhere.command(),
            Source::Cluster(_) => Publish::InShard.command(),
        }
    }

    /// Whether a script may touch the keys of one slot only.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        matches!(self.source, Source::Cluster(_))
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match &mut self.0 {
            Kept::One(connection) => connection.req_packed_command(command),
            Kept::Cluster(cluster) => async {
                let answers = all(cluster, &[command]).await?;
                Ok(answers.into_iter().next().unwrap_or(Value::Nil))
            }
            .boxed(),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match &mut self.0 {
            Kept::One(connection) => connection.req_packed_commands(pipeline, offset, count),
            Kept::Cluster(cluster) => async move {
                let commands: Vec<&Cmd> = pipeline.cmd_iter().collect();
                let answers = all(cluster, &commands).await?;
                Ok(answers.into_iter().skip(offset).take(count).collect())
            }
            .boxed(),
        }
    }

    fn get_db(&self) -> i64 {
        match &self.0 {
            Kept::One(connection) => connection.get_db(),
            Kept::Cluster(_) => 0,
        }
    }
}

/// The answers of a Cluster to commands, or the first error.
async fn all(cluster: &Cluster, commands: &[&Cmd]) -> Result<Vec<Value>, RedisError> {
    let mut answers = vec![Value::Nil; commands.len()];
    let mut keyed = Vec::with_capacity(commands.len());
    for (index, command) in commands.iter().enumerate() {
        match key(command) {
            Some(key) => keyed.push((index, slot(key))),
            None => answers[index] = cluster.ask_all(Kind::Keep, command).await.map_err(told)?,
        }
    }
    let ask = Ask {
        count: keyed.len(),
        ..Ask::one(
            Kind::Keep,
            mean_size(keyed.iter().map(|(index, _)| commands[*index])),
        )
    };
    let found = cluster.ask(ask, |at| keyed[at].1, |at, _| commands[keyed[at].0].clone());
    for ((index, _), answer) in keyed.iter().zip(found.await) {
        answers[*index] = answer.map_err(told)?;
    }
    Ok(answers)
}

/// What says in which slot a command is at home.
fn key(command: &Cmd) -> Option<&[u8]> {
    let mut words = command.args_iter().map(|word| match word {
        Arg::Simple(word) => word,
        _ => &[],
    });
    let name = words.next()?.to_ascii_uppercase();
    match name.as_slice() {
        b"SCRIPT" | b"PING" | b"INFO" | b"TIME" => None,
        b"EVAL" | b"EVALSHA" => words.nth(2),
        _ => words.next(),
    }
}

/// The answers of one Redis. What calls a script that it does not know is sent again, with its code.
async fn each_of_one(
    pool: &deadpool_redis::Pool,
    commands: &[Cmd],
    script: Option<&str>,
) -> Result<Vec<Result<Value, RedisError>>, RedisError> {
    let mut connection = pool.get().await.map_err(no_connection)?;
    let mut answers = pipelined(&mut connection, commands.iter().cloned()).await?;
    let Some(code) = script else { return Ok(answers) };
    let unknown: Vec<usize> = (0..answers.len())
        .filter(|at| is_unknown(&answers[*at]))
        .collect();
    if !unknown.is_empty() {
        let again = unknown.iter().map(|at| with_code(&commands[*at], code));
        for (at, answer) in unknown.iter().zip(pipelined(&mut connection, again).await?) {
            answers[*at] = answer;
        }
    }
    Ok(answers)
}

pub(super) fn no_connection(error: PoolError) -> RedisError {
    match error {
        PoolError::Backend(error) => error,
        error => std::io::Error::new(std::io::ErrorKind::NotConnected, error).into(),
    }
}

async fn pipelined(
    connection: &mut deadpool_redis::Connection,
    commands: impl Iterator<Item = Cmd>,
) -> Result<Vec<Result<Value, RedisError>>, RedisError> {
    let mut pipeline = Pipeline::new();
    for command in commands {
        pipeline.add_command(command);
    }
    pipeline.ignore_errors().query_async(connection).await
}

/// A call of a script by its hash, as one with its code.
fn with_code(call: &Cmd, code: &str) -> Cmd {
    let mut with = redis::cmd("EVAL");
    with.arg(code);
    for word in call.args_iter().skip(2) {
        if let Arg::Simple(word) = word {
            with.arg(word);
        }
    }
    with
}

fn mean_size<'a>(commands: impl ExactSizeIterator<Item = &'a Cmd>) -> usize {
    let count = commands.len().max(1);
    commands.map(size).sum::<usize>() / count
}

fn size(command: &Cmd) -> usize {
    let words = command.args_iter();
    words
        .map(|word| {
            if let Arg::Simple(word) = word {
                word.len()
            } else {
                0
            }
        })
        .sum()
}

/// What Redis itself said, where it said something: a script that is not known is sent again for that.
fn told(failure: Failure) -> RedisError {
    let error = failure.error;
    failure
        .why
        .unwrap_or_else(|| std::io::Error::new(std::io::ErrorKind::NotConnected, error).into())
}
