//! Which generation of a Redis it is: another one whenever what was acknowledged before may not be there any more.
//!
//! A process has one `run_id` for its life: another one means a restart, which may have lost what was not on disk yet, or a
//! failover, which may have lost what had not been replicated. A primary that became a replica and a primary again in one
//! life has another replication ID, and what it followed as the second one. With no second one the ID changed for want of
//! replicas, or for the first of them: nothing was lost. That is also what becomes of the former: an hour after its last
//! replica has gone, a primary forgets whom it followed. So a stream that has met `RUN-HISTORY` knows `RUN`, too.

use redis::{RedisError, aio::ConnectionLike};

/// The digits of an ID that count. There are 40.
const DIGITS: usize = 16;

/// Asks a Redis, in one round trip.
pub(super) async fn ask(connection: &mut impl ConnectionLike) -> Result<String, RedisError> {
    let mut questions = redis::Pipeline::with_capacity(2);
    questions.cmd("INFO").arg("server");
    questions.cmd("INFO").arg("replication");
    // Each error for itself: that of a whole pipeline does not say what Redis said.
    let answers: Vec<Result<String, RedisError>> = questions.ignore_errors().query_async(connection).await?;
    let sections = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(of(&sections.concat()))
}

/// The generation of a Redis with this `INFO`.
fn of(info: &str) -> String {
    let id = |name: &str| {
        let id = info
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        // Zeros: there is none, or the platform hides it.
        let id = id.map_or("", str::trim).trim_matches('0');
        &id[..id.len().min(DIGITS)]
    };
    let (run, history, followed) = (id("run_id"), id("master_replid"), id("master_replid2"));
    match (run.is_empty(), followed.is_empty()) {
        (true, _) => history.to_owned(),
        (false, true) => run.to_owned(),
        (false, false) => format!("{run}-{history}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: &str = "0000000000000000000000000000000000000000";

    fn generation(run: &str, history: &str, followed: &str) -> String {
        of(&format!(
            "# Server\r\nrun_id:{run}\r\n# Replication\r\nmaster_replid:{history}\r\nmaster_replid2:{followed}\r\n"
        ))
    }

    #[test]
    fn a_restart_and_a_failover_are_other_generations() {
        let primary = generation("aa", "11", NONE);
        assert_ne!(generation("bb", "11", NONE), primary, "restarted");
        assert_ne!(generation("cc", "22", "11"), primary, "a replica leads");
        assert_ne!(
            generation("aa", "33", "22"),
            primary,
            "it followed another meanwhile"
        );
    }

    #[test]
    fn a_first_replica_and_the_loss_of_the_last_are_not() {
        assert_eq!(generation("aa", "11", NONE), generation("aa", "22", NONE));
    }

    #[test]
    fn a_redis_that_hides_its_run_is_known_by_its_history() {
        assert_eq!(generation(NONE, "11", NONE), "11");
        assert_ne!(generation(NONE, "11", NONE), generation(NONE, "22", "11"));
    }
}
