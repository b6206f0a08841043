//! The operators' door: metrics, health and numbers, for people and for Prometheus.
//!
//! It answers from what it is given and changes nothing, and it is on loopback unless told otherwise: nobody
//! has to prove who they are here.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    Health, Shutdown,
    health::Check,
    serve::{self, BindError, Limits},
};

/// Where the operators' door is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The address to listen on. Default `127.0.0.1:9100`.
    pub listen: SocketAddr,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9100)),
        }
    }
}

/// Where the answers come from.
#[derive(Clone)]
pub struct Answers {
    /// `/health/*`.
    pub health: Health,
    /// `/metrics`: the registry as OpenMetrics text.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// `/stats`: a JSON object.
    pub stats: Arc<dyn Fn() -> BoxFuture<'static, serde_json::Value> + Send + Sync>,
}

/// The open door; [`run`](Self::run) answers at it.
#[derive(Debug)]
pub struct Operators {
    listener: TcpListener,
    local_addr: SocketAddr,
    router: Router,
}

/// The content type of `/metrics`.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Operators are few: a scraper or two, a probe, a browser.
const LIMITS: Limits = Limits {
    max_connections: 64,
    ..Limits::DEFAULT
};

impl Operators {
    /// Opens the door.
    ///
    /// # Errors
    ///
    /// When the address cannot be listened on; see [`serve::bind`].
    pub fn bind(config: &Config, answers: Answers) -> Result<Self, BindError> {
        let listener = serve::bind("operators", config.listen)?;
        let local_addr = listener.local_addr().unwrap_or(config.listen);
        Ok(Self {
            listener,
            local_addr,
            router: router(answers),
        })
    }

    /// The address it listens on: with the real port, where the configuration said 0.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Answers until `shutdown` is requested, then returns; see [`serve::serve`].
    ///
    /// Give it a [`Shutdown`] of its own, requested when the services have ended, and it can still say
    /// `draining` and be scraped while they drain.
    pub async fn run(self, shutdown: Shutdown) {
        serve::serve(self.listener, self.router, LIMITS, shutdown).await;
    }
}

fn router(answers: Answers) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/health/redis", get(redis))
        .route("/stats", get(stats))
        .with_state(answers)
}

async fn metrics(State(answers): State<Answers>) -> Response {
    ([(header::CONTENT_TYPE, OPENMETRICS)], (answers.metrics)()).into_response()
}

async fn live() -> Response {
    // Whoever can answer is alive.
    Json(json!({ "status": "live" })).into_response()
}

async fn ready(State(answers): State<Answers>) -> Response {
    let readiness = answers.health.readiness();
    (status(readiness.is_serving()), Json(readiness)).into_response()
}

async fn redis(State(answers): State<Answers>) -> Response {
    let check = answers.health.check("redis");
    (status(!matches!(check, Check::Away { .. })), Json(check)).into_response()
}

async fn stats(State(answers): State<Answers>) -> Response {
    Json((answers.stats)().await).into_response()
}

fn status(well: bool) -> StatusCode {
    if well {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use hyper::Request;
    use tower::ServiceExt as _;

    use super::*;
    use crate::health;

    /// What `GET path` answers: status, content type, body.
    async fn get(health: &Health, path: &str) -> (u16, String, String) {
        let answers = Answers {
            health: health.clone(),
            metrics: Arc::new(|| "# EOF\n".to_owned()),
            stats: Arc::new(|| Box::pin(async { json!({ "local_connections": 3 }) })),
        };
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router(answers).oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let content_type = response.headers()[header::CONTENT_TYPE]
            .to_str()
            .unwrap()
            .to_owned();
        let body = to_bytes(response.into_body(), 1024).await.unwrap();
        (status, content_type, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn check(health: &Health, path: &str, status: u16, body: &str) {
        let json = "application/json".to_owned();
        assert_eq!(get(health, path).await, (status, json, body.to_owned()), "{path}");
    }

    #[tokio::test]
    async fn a_process_is_alive_before_it_is_ready_and_after() {
        let health = Health::new();
        check(&health, "/health/live", 200, r#"{"status":"live"}"#).await;
        check(&health, "/health/ready", 503, r#"{"status":"starting"}"#).await;
        health.ready();
        check(&health, "/health/ready", 200, r#"{"status":"ready"}"#).await;
        health.drain();
        check(&health, "/health/live", 200, r#"{"status":"live"}"#).await;
        check(&health, "/health/ready", 503, r#"{"status":"draining"}"#).await;
    }

    #[tokio::test]
    async fn redis_away_is_503_for_redis_and_200_for_the_balancer() {
        let health = Health::new();
        health.ready();
        check(&health, "/health/redis", 200, r#"{"status":"disabled"}"#).await;
        let redis = health.component("redis");
        redis.set(health::State::Away("connection refused".to_owned()));
        let away = r#"{"status":"away","reason":"connection refused"}"#;
        check(&health, "/health/redis", 503, away).await;
        let degraded = r#"{"status":"degraded","reasons":{"redis":"connection refused"}}"#;
        check(&health, "/health/ready", 200, degraded).await;
        redis.set(health::State::Up);
        check(&health, "/health/redis", 200, r#"{"status":"up"}"#).await;
    }

    #[tokio::test]
    async fn metrics_are_openmetrics_and_stats_are_json() {
        let health = Health::new();
        let metrics = (200, OPENMETRICS.to_owned(), "# EOF\n".to_owned());
        assert_eq!(get(&health, "/metrics").await, metrics);
        check(&health, "/stats", 200, r#"{"local_connections":3}"#).await;
    }

    #[test]
    fn the_door_is_on_loopback_unless_told_otherwise() {
        assert_eq!(Config::default().listen.to_string(), "127.0.0.1:9100");
    }
}
