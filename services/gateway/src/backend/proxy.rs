//! The way to the backend for one kind of question: whose turn it is, how long it may take, and what goes along.

use std::{net::IpAddr, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use tidings_telemetry::trace;
use tokio::sync::Semaphore;
use tracing::{Instrument as _, field};

use super::{
    config::{self, Checked},
    failure::Failure,
    grpc::Grpc,
    http::Http,
    metrics::Counts,
    question::Question,
};
use crate::{adopt::About, config::Error};

/// How many questions may wait for their turn, for each that may be under way.
const WAITING: usize = 4;

/// The addresses that a request came by, each written by the next: the last is the client's, as we see it.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

pub(super) struct Proxy {
    /// What it is asked: `connect`, `refresh`, …
    pub(super) name: &'static str,
    /// Where the backend is, for people: without what stands behind a `?`, which may be a secret.
    pub(super) shown: String,
    pub(super) counts: Counts,
    host: String,
    via: Via,
    timeout: Duration,
    /// Under way, or waiting.
    places: Semaphore,
    all_places: usize,
    /// Under way.
    turns: Semaphore,
    copied: Vec<HeaderName>,
    fixed: HeaderMap,
}

enum Via {
    Http(Box<Http>),
    Grpc(Grpc),
}

impl Proxy {
    /// Checks a configuration, and makes ready for what it says. Must be called inside a tokio runtime.
    pub(super) fn new(
        name: &'static str,
        config: &config::Proxy,
        max_bytes: usize,
        counts: Counts,
    ) -> Result<Self, Error> {
        let Checked {
            address,
            copied,
            fixed,
        } = config.check(name)?;
        let via = if address.grpc {
            Grpc::new(address.uri, config.timeout, max_bytes).map(Via::Grpc)
        } else {
            Http::new(address.uri, config.concurrency, max_bytes).map(|http| Via::Http(Box::new(http)))
        };
        let via = via.map_err(|why| Error {
            key: format!("clients.proxy.{name}.endpoint").into(),
            why,
        })?;
        let all_places = config.concurrency * (1 + WAITING);
        Ok(Self {
            name,
            shown: address.shown,
            counts,
            host: address.host,
            via,
            timeout: config.timeout,
            places: Semaphore::new(all_places),
            all_places,
            turns: Semaphore::new(config.concurrency),
            copied,
            fixed,
        })
    }

    /// Asks, on behalf of the client that came as `about` says. Cancelling is safe.
    pub(super) async fn ask<Q: Question>(&self, about: &About, question: Q) -> Result<Q::Answer, Failure> {
        let mut headers = self.headers(about);
        let incoming = trace::of_headers(&headers);
        let span = trace::proxy(self.name, &self.host, incoming.as_ref());
        trace::inject_headers(&span, incoming, &mut headers);
        let answer = self.in_turn(headers, question).instrument(span.clone()).await;
        if let Err(failure) = &answer {
            span.record("otel.status_code", "ERROR");
            span.record("tidings.proxy.failure", field::display(failure));
        }
        answer
    }

    async fn in_turn<Q: Question>(&self, headers: HeaderMap, question: Q) -> Result<Q::Answer, Failure> {
        let busy = |_| Failure::Busy(self.all_places);
        let _place = self.places.try_acquire().map_err(busy)?;
        let asked = async {
            let turn = self.turns.acquire().await;
            let _turn = turn.map_err(|_| Failure::Busy(self.all_places))?;
            match &self.via {
                Via::Http(http) => http.ask(headers, &question).await,
                Via::Grpc(grpc) => grpc.ask(headers, question).await,
            }
        };
        tokio::time::timeout(self.timeout, asked)
            .await
            .unwrap_or(Err(Failure::TooSlow(self.timeout)))
    }

    /// The client's, as far as they are wanted, and ours, which count.
    fn headers(&self, about: &About) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(self.copied.len() + self.fixed.len() + 8);
        for (name, value) in &about.headers {
            let wanted = self.copied.iter().find(|wanted| wanted.as_str() == name);
            if let (Some(name), Ok(value)) = (wanted, HeaderValue::from_str(value)) {
                headers.append(name.clone(), value);
            }
        }
        if self.copied.contains(&FORWARDED_FOR) {
            headers.insert(FORWARDED_FOR, forwarded_for(&headers, about.remote.ip()));
        }
        for (name, value) in &self.fixed {
            headers.insert(name.clone(), value.clone());
        }
        headers
    }
}

fn forwarded_for(headers: &HeaderMap, from: IpAddr) -> HeaderValue {
    let before = headers
        .get_all(FORWARDED_FOR)
        .iter()
        .filter_map(|it| it.to_str().ok());
    let mut addresses: Vec<_> = before.map(str::to_owned).collect();
    addresses.push(from.to_canonical().to_string());
    HeaderValue::try_from(addresses.join(", ")).unwrap_or(HeaderValue::from_static("unknown"))
}
