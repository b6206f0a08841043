//! Commands, by a pool of connections: nothing here waits longer than the command timeout.

use std::{sync::Arc, time::Duration};

use backon::{ExponentialBuilder, Retryable};
use deadpool_redis::{Connection, Manager, Pool, PoolError, Runtime, Timeouts};
use redis::{AsyncConnectionConfig, RedisError};
use tokio::time::{Instant, timeout_at};

use super::{Config, health::Health};
use crate::Error;

/// The most bytes of one pipeline, roughly. A long list of channels is sent in several.
const PIPELINE: usize = 1 << 20;

/// The most commands of one pipeline.
const PIPELINE_COMMANDS: usize = 512;

/// The pool and the rules by which it is used.
pub(super) struct Commands {
    pool: Pool,
    peer: Arc<str>,
    health: Arc<Health>,
    timeout: Duration,
    retries: ExponentialBuilder,
}

impl Commands {
    /// Connects to nothing yet.
    pub(super) fn new(config: &Config, peer: Arc<str>, health: Arc<Health>) -> Result<Self, Error> {
        let connection = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(config.connect_timeout))
            .set_response_timeout(Some(config.command_timeout));
        let manager = Manager::new_with_config(config.url.connection_info()?, connection)
            .map_err(|error| Error::from_redis(&peer, error))?;
        let pool = Pool::builder(manager)
            .max_size(config.pool_size.get())
            .timeouts(Timeouts {
                wait: Some(config.command_timeout),
                create: Some(config.connect_timeout),
                recycle: Some(config.command_timeout),
            })
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| Error::away(&peer, error))?;
        Ok(Self {
            pool,
            peer,
            health,
            timeout: config.command_timeout,
            retries: ExponentialBuilder::default()
                .with_min_delay(Duration::from_millis(20))
                .with_max_times(config.max_retries as usize)
                .with_jitter(),
        })
    }

    pub(super) fn pool(&self) -> Pool {
        self.pool.clone()
    }

    /// Publishes `message` to each of the Redis channels `names`; one result per name, in order. After a failure of
    /// the connection the rest is not tried.
    pub(super) async fn publish(&self, names: &[String], message: &[u8]) -> Vec<Result<(), Error>> {
        let mut results = Vec::with_capacity(names.len());
        let deadline = Instant::now() + self.timeout;
        let publishing = self.publish_all(names, message, &mut results);
        let failure = match timeout_at(deadline, publishing).await {
            Ok(Ok(())) => return results,
            Ok(Err(error)) => error,
            Err(_) => self.too_late(),
        };
        results.resize(names.len(), Err(failure));
        results
    }

    async fn publish_all(
        &self,
        names: &[String],
        message: &[u8],
        results: &mut Vec<Result<(), Error>>,
    ) -> Result<(), Error> {
        let mut connection = self.connection().await?;
        let commands = (PIPELINE / message.len().max(1)).clamp(1, PIPELINE_COMMANDS);
        for names in names.chunks(commands) {
            let mut pipeline = redis::Pipeline::with_capacity(names.len());
            for name in names {
                pipeline.cmd("PUBLISH").arg(name).arg(message);
            }
            let answers: Vec<Result<u64, RedisError>> = pipeline
                .ignore_errors()
                .query_async(&mut connection)
                .await
                .map_err(|error| Error::from_redis(&self.peer, error))?;
            results.extend(answers.into_iter().map(|answer| {
                answer
                    .map(drop)
                    .map_err(|error| Error::from_redis(&self.peer, error))
            }));
        }
        Ok(())
    }

    /// A connection that has just answered. Only this is retried: nothing has been sent yet.
    async fn connection(&self) -> Result<Connection, Error> {
        if let Some(reason) = self.health.known_away() {
            return Err(Error::Away { reason });
        }
        (|| self.pool.get())
            .retry(self.retries)
            .when(|error| matches!(error, PoolError::Backend(error) if error.is_io_error()))
            .await
            .map_err(|error| match error {
                PoolError::Backend(error) => Error::from_redis(&self.peer, error),
                PoolError::Timeout(_) => self.too_late(),
                error => Error::away(&self.peer, error),
            })
    }

    fn too_late(&self) -> Error {
        Error::away(&self.peer, format_args!("no answer within {:?}", self.timeout))
    }
}
