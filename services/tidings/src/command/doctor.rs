//! `tidings doctor`: probes everything configured, and says what to do about what is wrong.

use std::time::{Duration, SystemTime};

use tidings_broker::{
    Broker,
    redis::{self, Finding, Verdict},
};
use tidings_fanout::source::{self, Origin};

use super::Global;
use crate::{
    config::{Config, SUBSCRIPTION_TOKEN, TOKEN},
    failure::{Failure, one_line},
    grpc,
    roles::Roles,
};

/// How long one thing may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Probe everything configured (Redis, presence, the keys of tokens) and say what to do about what is wrong.
///
/// Each line is OK, WARN (it works, and somebody should know) or FAIL; the exit code is 1 when something fails. Redis is
/// asked as a node would ask it, and every command that a node uses is tried. What has to be written goes to one key that is
/// removed again.
#[derive(Debug, clap::Args)]
#[command(after_long_help = format!("A user of its own in Redis needs:\n  ~tidings:* &tidings:* {}", redis::PERMISSIONS))]
pub(crate) struct Doctor;

impl Doctor {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let config = Config::load(&global.source()?)?;
        let mut failed = 0;
        let mut say = |about: &str, findings: Vec<Finding>| {
            for Finding { verdict, text } in findings {
                println!("{verdict:<4}  {about}: {text}");
                failed += usize::from(verdict == Verdict::Fail);
            }
        };
        say("configuration", roles(&config));
        match &config.redis {
            Some(redis) => say("redis", redis::examine(redis).await),
            None => say(
                "redis",
                vec![ok("none is configured: one node, with the embedded broker")],
            ),
        }
        if let Some(url) = &config.presence.url {
            say("presence", vec![presence(url).await]);
        }
        for source in &config.source {
            let about = format!("source {}", source.name);
            say(&about, examine_source(source, &config).await);
        }
        say("keys", keys(&config).await?);
        match failed {
            0 => Ok(()),
            1 => Err(Failure::runtime("one thing does not work")),
            count => Err(Failure::runtime(format!("{count} things do not work"))),
        }
    }
}

/// For which commands the configuration suffices.
fn roles(config: &Config) -> Vec<Finding> {
    let roles = [Roles::ALL, Roles::GATEWAY, Roles::FANOUT, Roles::PRESENCE];
    let able: Vec<_> = roles
        .into_iter()
        .filter(|roles| config.require(*roles).is_ok())
        .map(|roles| format!("`tidings {}`", roles.name()))
        .collect();
    if able.is_empty() {
        let text = "it is valid, and suffices for no role but `tidings dev`; `tidings config check` says why";
        return vec![Finding::new(Verdict::Warn, text)];
    }
    vec![ok(format!("it is valid, and suffices for {}", able.join(", ")))]
}

async fn presence(url: &str) -> Finding {
    let connecting = async {
        let endpoint = grpc::endpoint(url)?;
        let connected = endpoint.connect().await;
        connected.map(drop).map_err(|error| one_line(&error.into()))
    };
    match tokio::time::timeout(PATIENCE, connecting).await {
        Ok(Ok(())) => ok(format!("{url} is reached")),
        Ok(Err(why)) => Finding::new(
            Verdict::Fail,
            format!(
                "{url} cannot be reached ({why}); start `tidings presence` there, or correct `presence.url`"
            ),
        ),
        Err(_) => Finding::new(
            Verdict::Fail,
            format!("{url} does not answer; is something between that swallows connections?"),
        ),
    }
}

/// A source is asked as a node would ask it: by its own address, or in the node's Redis.
async fn examine_source(source: &source::Config, config: &Config) -> Vec<Finding> {
    let failed = |why: String| vec![Finding::new(Verdict::Fail, why)];
    match source.origin() {
        Ok(Origin::Redis(stream)) => match config.redis.as_ref().map(Broker::redis).transpose() {
            Ok(broker) => {
                let pool = broker.as_ref().and_then(Broker::redis_pool);
                source::redis::examine(stream, pool.as_ref()).await
            }
            Err(error) => failed(error.to_string()),
        },
        Ok(Origin::Postgres(outbox)) => source::postgres::examine(outbox).await,
        Err(error) => failed(error.to_string()),
    }
}

/// Whether clients' tokens can be checked.
async fn keys(config: &Config) -> Result<Vec<Finding>, Failure> {
    let mut findings = Vec::new();
    let verifiers = [
        (TOKEN, config.verifier()?),
        (SUBSCRIPTION_TOKEN, config.subscription_verifier()?),
    ];
    for (table, verifier) in verifiers {
        let Some(verifier) = verifier else { continue };
        findings.push(match verifier.fetch(SystemTime::now()).await {
            Ok(()) => ok(format!("the keys of `{table}` are at hand")),
            Err(error) => Finding::new(
                Verdict::Fail,
                format!(
                    "the keys of `{table}` cannot be had ({}); correct `{table}.jwks_url`, or what it names",
                    one_line(&error.into())
                ),
            ),
        });
    }
    if findings.is_empty() {
        findings.push(ok("no keys of clients' tokens are configured"));
    }
    Ok(findings)
}

fn ok(text: impl Into<String>) -> Finding {
    Finding::new(Verdict::Ok, text)
}
