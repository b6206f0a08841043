//! The Redis that a platform provides, by the variables that platforms set.
//!
//! They override the file and are overridden by our own variables: `TIDINGS_REDIS__URL` counts before
//! `REDIS_TLS_URL`, that before `REDIS_URL`, and that before `REDIS_HOST` with its companions.

use std::{fmt::Display, str::FromStr, time::Duration};

use tidings_broker::redis::{Config, RedisUrl};
use tidings_runtime::config::Environment;

use crate::failure::Failure;

/// The variables that have a whole URL, the first before the second.
const URLS: [&str; 2] = ["REDIS_TLS_URL", "REDIS_URL"];
/// The variable that has a host, for others to complete.
const HOST: &str = "REDIS_HOST";

/// Applies the variables to what the file and our own variables said.
pub(crate) fn redis(
    configured: Option<Config>,
    environment: &Environment,
) -> Result<Option<Config>, Failure> {
    let url = if ours(environment, "url") || ours(environment, "sentinel.master") {
        None
    } else {
        url(environment)?
    };
    let mut config = match (configured, url) {
        (Some(config), Some(url)) => Config {
            url: Some(url),
            sentinel: None,
            ..config
        },
        (None, Some(url)) => Config::new(url),
        (Some(config), None) => config,
        (None, None) => return Ok(None),
    };
    if let Some(wait) = setting(environment, "connect_timeout")? {
        config.connect_timeout = Duration::from_millis(wait);
    }
    if let Some(wait) = setting(environment, "command_timeout")? {
        config.command_timeout = Duration::from_millis(wait);
    }
    if let Some(retries) = setting(environment, "max_retries")? {
        config.max_retries = retries;
    }
    Ok(Some(config))
}

fn url(environment: &Environment) -> Result<Option<RedisUrl>, Failure> {
    for name in URLS {
        if let Some(text) = environment.get(name) {
            return RedisUrl::parse(text)
                .map(Some)
                .map_err(|error| wrong(name, error));
        }
    }
    let Some(host) = environment.get(HOST) else {
        return Ok(None);
    };
    let port = match environment.get("REDIS_PORT") {
        // What Kubernetes sets for a service that is called `redis`: tcp://10.0.0.7:6379.
        Some(link) if link.starts_with("tcp://") => {
            let port = link.rsplit_once(':').map_or("", |(_, port)| port);
            number("REDIS_PORT", port)?
        }
        Some(port) => number("REDIS_PORT", port)?,
        None => 6379,
    };
    let db = environment
        .get("REDIS_DB")
        .map(|db| number("REDIS_DB", db))
        .transpose()?
        .unwrap_or(0);
    let username = environment.get("REDIS_USERNAME");
    let password = environment.get("REDIS_PASSWORD");
    RedisUrl::from_parts(host, port, username, password, db, false)
        .map(Some)
        .map_err(|error| wrong(HOST, error))
}

/// The number in the platform's variable for a key of `[redis]`, unless our own variable for it is set.
fn setting<T: FromStr>(environment: &Environment, key: &str) -> Result<Option<T>, Failure> {
    let variable = format!("REDIS_{}", key.to_ascii_uppercase());
    match environment.get(&variable) {
        Some(text) if !ours(environment, key) => number(&variable, text).map(Some),
        _ => Ok(None),
    }
}

/// Whether our own variable for a key of `[redis]`, or for all of `[redis]`, is set.
fn ours(environment: &Environment, key: &str) -> bool {
    environment.configures(&format!("redis.{key}"))
}

fn number<T: FromStr>(variable: &str, text: &str) -> Result<T, Failure> {
    let expected = match variable {
        "REDIS_PORT" => "a port, a whole number from 1 to 65535",
        "REDIS_CONNECT_TIMEOUT" | "REDIS_COMMAND_TIMEOUT" => "milliseconds, a whole number",
        _ => "a whole number from 0",
    };
    text.trim()
        .parse()
        .map_err(|_| wrong(variable, format!("expected {expected}")))
}

fn wrong(variable: &str, why: impl Display) -> Failure {
    Failure::usage(format!("environment variable {variable}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Config>, String> {
        let file = RedisUrl::parse("redis://from-the-file").unwrap();
        // As the loader leaves it: the file's, when the test says that there is one.
        let configured = variables.contains(&FILE).then(|| Config::new(file));
        redis(configured, &variables.iter().copied().collect()).map_err(|failure| match failure {
            Failure::Usage(message) => message,
            other => panic!("{other:?}"),
        })
    }

    const FILE: (&str, &str) = ("THERE_IS_A_FILE", "yes");

    fn check(variables: &[(&str, &str)], url: &str) {
        let config = read(variables).unwrap().expect("a Redis is configured");
        assert_eq!(config.place(), url, "{variables:?}");
    }

    #[test]
    fn without_variables_it_is_what_the_file_says() {
        assert!(read(&[]).unwrap().is_none());
        check(&[FILE], "redis://from-the-file");
        // A port alone is what Kubernetes sets for any service called redis: it says nothing to us.
        assert!(read(&[("REDIS_PORT", "tcp://10.0.0.7:6379")]).unwrap().is_none());
    }

    #[test]
    fn a_url_overrides_the_file_and_one_with_tls_overrides_both() {
        check(
            &[FILE, ("REDIS_URL", "redis://me:hunter2@cache/1")],
            "redis://me:***@cache/1",
        );
        check(
            &[("REDIS_URL", "redis://plain"), ("REDIS_TLS_URL", "rediss://safe")],
            "rediss://safe",
        );
        check(
            &[("REDIS_URL", "redis://url"), ("REDIS_HOST", "host")],
            "redis://url",
        );
    }

    #[test]
    fn our_own_variable_counts_before_the_platforms() {
        check(
            &[
                FILE,
                ("TIDINGS_REDIS__URL", "redis://from-the-file"),
                ("REDIS_URL", "redis://platform"),
            ],
            "redis://from-the-file",
        );
        for ours in [
            "tidings_redis__url",
            "TIDINGS_REDIS",
            "TIDINGS_REDIS__SENTINEL__MASTER",
        ] {
            check(
                &[FILE, (ours, "set"), ("REDIS_URL", "nonsense")],
                "redis://from-the-file",
            );
        }
        let ours = [
            FILE,
            ("TIDINGS_REDIS__MAX_RETRIES", "3"),
            ("REDIS_MAX_RETRIES", "nonsense"),
        ];
        assert_eq!(read(&ours).unwrap().unwrap().max_retries, 3);
    }

    #[test]
    fn a_host_and_its_companions_make_a_url() {
        check(&[("REDIS_HOST", "cache")], "redis://cache:6379/0");
        check(
            &[
                ("REDIS_HOST", "cache"),
                ("REDIS_PORT", "6380"),
                ("REDIS_USERNAME", "me"),
                ("REDIS_PASSWORD", "p@ss/word"),
                ("REDIS_DB", "2"),
            ],
            "redis://me:***@cache:6380/2",
        );
        check(
            &[("REDIS_HOST", "redis"), ("REDIS_PORT", "tcp://10.0.0.7:6380")],
            "redis://redis:6380/0",
        );
    }

    #[test]
    fn timeouts_are_milliseconds() {
        let config = read(&[
            ("REDIS_HOST", "cache"),
            ("REDIS_CONNECT_TIMEOUT", "1500"),
            ("REDIS_COMMAND_TIMEOUT", "250"),
            ("REDIS_MAX_RETRIES", "7"),
        ]);
        let config = config.unwrap().unwrap();
        assert_eq!(config.connect_timeout, Duration::from_millis(1500));
        assert_eq!(config.command_timeout, Duration::from_millis(250));
        assert_eq!(config.max_retries, 7);
    }

    #[test]
    fn a_bad_value_is_refused_by_its_variable_and_not_repeated() {
        let check = |variables: &[(&str, &str)], expected: &str| {
            let error = read(variables).unwrap_err();
            assert_eq!(error, format!("environment variable {expected}"));
        };
        check(
            &[("REDIS_URL", "hunter2:6379")],
            "REDIS_URL: the address of Redis does not begin with redis:// or, for TLS, rediss://",
        );
        check(
            &[("REDIS_HOST", "cache"), ("REDIS_PORT", "redis")],
            "REDIS_PORT: expected a port, a whole number from 1 to 65535",
        );
        check(
            &[("REDIS_HOST", "cache"), ("REDIS_DB", "-1")],
            "REDIS_DB: expected a whole number from 0",
        );
        check(
            &[("REDIS_HOST", "a b")],
            "REDIS_HOST: the address of Redis has no valid host; write redis://host:6379",
        );
        check(
            &[("REDIS_URL", "redis://cache"), ("REDIS_COMMAND_TIMEOUT", "1s")],
            "REDIS_COMMAND_TIMEOUT: expected milliseconds, a whole number",
        );
    }
}
