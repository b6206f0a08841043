//! The processes that a Redis is made of, one by one: which generations they are, and which keys they have.

use std::{collections::HashSet, future::Future, time::Duration};

use futures_util::future::join_all;
use redis::RedisError;
use tokio::time::timeout;

use super::{
    connection::{Pool, Source, no_connection},
    generation,
};

/// How far a walk over all keys has come; the default is the beginning.
#[derive(Debug, Default)]
pub struct KeyScan {
    /// Whose keys have all been given.
    done: HashSet<String>,
    /// Whose are being given, and the cursor there.
    at: Option<(String, u64)>,
}

/// A process, and how to connect to it.
type Primary = (String, deadpool_redis::Pool);

impl Pool {
    /// Which generation each process is that answers in time: another one than before may have lost what it had acknowledged.
    /// What does not answer, may not be asked, or hides its IDs, is left out.
    pub async fn generations(&self, most: Duration) -> Vec<String> {
        let answered = self
            .ask_generations(most)
            .await
            .into_iter()
            .filter_map(Result::ok);
        // That there is none says nothing: it is the same before and after a restart.
        answered.filter(|generation| !generation.is_empty()).collect()
    }

    /// Whether every process answers in time.
    pub async fn is_whole(&self, most: Duration) -> bool {
        self.ask_generations(most).await.iter().all(Result::is_ok)
    }

    /// The generation of each process, empty where it hides its IDs.
    async fn ask_generations(&self, most: Duration) -> Vec<Result<String, RedisError>> {
        let asked = self.primaries().into_iter().map(async |(_, pool)| {
            in_time(most, async {
                let mut connection = pool.get().await.map_err(no_connection)?;
                generation::ask(&mut connection).await
            })
            .await
        });
        join_all(asked).await
    }

    /// Some more of the keys that match a pattern (as of `SCAN`), about as many as are found among `count`; `None` after the
    /// last. A key that is there all the time is given at least once, unless its slot moves meanwhile.
    ///
    /// # Errors
    /// When a process does not answer in time; may be called again.
    pub async fn scan(
        &self,
        scan: &mut KeyScan,
        pattern: &str,
        count: usize,
        most: Duration,
    ) -> Result<Option<Vec<Vec<u8>>>, RedisError> {
        let primaries = self.primaries();
        let current = scan.at.as_ref().map(|(name, _)| name);
        let next = primaries
            .iter()
            .find(|(name, _)| Some(name) == current)
            .or_else(|| primaries.iter().find(|(name, _)| !scan.done.contains(name)));
        let Some((name, pool)) = next else {
            return Ok(None);
        };
        let cursor = match &scan.at {
            Some((at, cursor)) if at == name => *cursor,
            _ => 0,
        };
        let mut question = redis::cmd("SCAN");
        question.arg(cursor).arg("MATCH").arg(pattern);
        question.arg("COUNT").arg(count);
        let (cursor, keys): (u64, Vec<Vec<u8>>) = in_time(most, async {
            let mut connection = pool.get().await.map_err(no_connection)?;
            question.query_async(&mut connection).await
        })
        .await?;
        scan.at = Some((name.clone(), cursor)).filter(|_| cursor != 0);
        if cursor == 0 {
            scan.done.insert(name.clone());
        }
        Ok(Some(keys))
    }

    /// Every process that is in charge of something, as far as is known.
    fn primaries(&self) -> Vec<Primary> {
        match &self.source {
            Source::One(pool) => vec![(String::new(), pool.clone())],
            Source::Cluster(cluster) => {
                let slots = cluster.topology.slots();
                let of = |address| {
                    let node = cluster.node(address).ok()?;
                    Some((address.to_string(), node.commands.pool()))
                };
                slots.primaries().into_iter().filter_map(of).collect()
            }
        }
    }
}

async fn in_time<T>(
    most: Duration,
    question: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, RedisError> {
    let late = |_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
    timeout(most, question).await.unwrap_or_else(late)
}
