//! `tidings doctor`: can the outbox be reached, is it as it has to be, and is anything in it?

use futures_util::future::{Either, select};
use std::pin::pin;
use tidings_broker::redis::{Finding, Verdict};
use tokio_postgres::Client;

use super::{
    Config,
    place::{Place, Wire},
    table::{Error, Name, Table, in_time},
};

/// The oldest version that has all that is used, as the server numbers it.
const VERSION: i32 = 130_000;

/// Looks at a source's outbox without changing anything.
pub async fn examine(config: &Config) -> Vec<Finding> {
    let fail = |text: String| vec![Finding::new(Verdict::Fail, text)];
    let place = match Place::new(config) {
        Ok(place) => place,
        Err((key, why)) => return fail(format!("`source.{key}` {why}")),
    };
    match place.connect().await {
        Ok((client, wire)) => driven(config, &place, client, wire).await,
        Err(why) => fail(format!(
            "it cannot be reached ({why}); start it, or correct `source.postgres.url`"
        )),
    }
}

/// Looks for as long as the session lasts.
async fn driven(config: &Config, place: &Place, client: Client, wire: Wire) -> Vec<Finding> {
    let mut findings = vec![Finding::new(Verdict::Ok, format!("{} is reached", place.name()))];
    let looked = {
        let look = pin!(look(config, &client));
        match select(look, pin!(wire)).await {
            Either::Left((looked, _)) => looked,
            Either::Right((_, look)) => look.await,
        }
    };
    match looked {
        Ok(found) => findings.extend(found),
        Err(Error::Unfit(why)) => findings.push(Finding::new(Verdict::Fail, why)),
        Err(Error::Late) => findings.push(Finding::new(Verdict::Fail, "it does not answer in time")),
        Err(Error::Server(why)) => findings.push(Finding::new(Verdict::Fail, place.said(&why))),
    }
    findings
}

async fn look(config: &Config, client: &Client) -> Result<Vec<Finding>, Error> {
    let name = Name::parse(&config.table).map_err(Error::Unfit)?;
    let version = "SELECT current_setting('server_version_num')::int, current_setting('server_version'), pg_is_in_recovery()";
    let version = in_time(client.query_one(version, &[])).await?;
    let (number, text, standby): (i32, String, bool) = (version.get(0), version.get(1), version.get(2));
    let mut findings = vec![if number < VERSION {
        Finding::new(
            Verdict::Fail,
            format!("it is PostgreSQL {text}; 13 is the oldest that can be used, upgrade it"),
        )
    } else {
        Finding::new(Verdict::Ok, format!("it is PostgreSQL {text}"))
    }];
    if standby {
        findings.push(Finding::new(
            Verdict::Fail,
            "it is a standby, of which nothing can be deleted; name its primary in `source.postgres.url`",
        ));
    }
    Table::find(client, &name).await?;
    findings.push(Finding::new(
        Verdict::Ok,
        format!("the table {name} is as it has to be, and the user may do all that is needed"),
    ));
    let triggers = "SELECT count(*) FILTER (WHERE tgtype & 3 = 3), count(*) FILTER (WHERE tgtype & 3 = 0) FROM pg_trigger \
                    WHERE tgrelid = to_regclass($1) AND NOT tgisinternal AND tgenabled <> 'D' AND tgtype & 4 = 4";
    let triggers = in_time(client.query_one(triggers, &[&name.to_string()])).await?;
    let (before, after): (i64, i64) = (triggers.get(0), triggers.get(1));
    if before == 0 {
        findings.push(Finding::new(
            Verdict::Warn,
            "it has no trigger that lets transactions insert into a partition one after the other: unless they take turns \
             by themselves, its rows may be published out of order; see docs/sources.md",
        ));
    }
    if after == 0 {
        findings.push(Finding::new(
            Verdict::Warn,
            format!(
                "it has no trigger that notifies: rows are found within {}, when the node looks for them",
                humantime::format_duration(config.poll)
            ),
        ));
    }
    let rows =
        format!("SELECT count(*) FROM (SELECT FROM {name} WHERE failed_at IS NOT NULL LIMIT 1000) AS failed");
    let failed: i64 = in_time(client.query_one(&rows, &[])).await?.get(0);
    if failed > 0 {
        findings.push(Finding::new(
            Verdict::Warn,
            format!(
                "{failed} rows or more were set aside; `failure` says why, and what to do with them is in docs/sources.md"
            ),
        ));
    }
    Ok(findings)
}
