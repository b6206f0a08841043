//! The user's backend decides: what it is asked, and what its answers come to.
//!
//! One question per event, over HTTP or gRPC, as the configuration has it. An answer that does not come, or makes no
//! sense, is logged here, once, and the client may try again. Nothing here waits without end: each question has its
//! time, and each kind of question its turns, so that a slow backend is felt by those who wait for it.
//!
//! `config` is what people write, `address` where the backend is; `proxy` is the way to the backend for one kind of question, by `http` or `grpc`;
//! `question` says what is asked, `answer` what is made of it, `failure` what can go wrong, `metrics` how often it did.

mod address;
mod answer;
mod config;
mod failure;
mod grpc;
mod http;
mod metrics;
mod proxy;
mod question;

use std::{sync::Arc, time::SystemTime};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use prometheus_client::registry::Registry;
use tidings_core::{Channel, ClientId, Format, Payload};
use tidings_proto::proxy::{
    ConnectRequest, PublishRequest, RefreshRequest, RpcRequest, SubRefreshRequest, SubscribeRequest,
};
use tidings_protocol::{CloseReason, command::Connect};
use tidings_session::{self as session, Grant, Identity, Refusal, Renewal, RenewedBy, Rules};
use tokio::time::Instant;

pub(crate) use answer::Edit;
pub use config::{Config, Proxy as ProxyConfig};

use self::{answer::No, failure::Failure, metrics::Metrics, proxy::Proxy, question::Question};
use crate::{adopt::About, config::Error as ConfigError};

/// The user's backend. Questions that nobody has configured are refused.
#[derive(Default)]
pub(crate) struct Backend {
    connect: Option<Proxy>,
    refresh: Option<Proxy>,
    subscribe: Option<Proxy>,
    publish: Option<Proxy>,
    sub_refresh: Option<Proxy>,
    rpc: Option<Proxy>,
}

/// The client that a question is about.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    pub(crate) client: ClientId,
    /// Empty: nobody in particular, or not known yet.
    pub(crate) user: Arc<str>,
    /// `json` or `protobuf`: what it speaks.
    pub(crate) protocol: &'static str,
    pub(crate) about: Arc<About>,
}

/// Makes a question of the parts that all have and those of its own.
macro_rules! question {
    ($type:ident, $asker:expr, $format:expr, { $($field:ident: $value:expr),* $(,)? }) => {
        $type {
            client: $asker.client.to_string(),
            transport: $asker.about.transport.to_owned(),
            protocol: $asker.protocol.to_owned(),
            encoding: encoding($format).to_owned(),
            $($field: $value),*
        }
    };
}

impl Backend {
    /// Checks a configuration, and makes ready for what it says. Answers may have `max_bytes`. Must be called inside a
    /// tokio runtime.
    ///
    /// # Errors
    /// Names the key.
    pub(crate) fn new(
        config: &Config,
        max_bytes: usize,
        registry: &mut Registry,
    ) -> Result<Self, ConfigError> {
        let (mut backend, metrics) = (Self::default(), Metrics::register(registry));
        for (name, config) in config.each() {
            let proxy = Some(Proxy::new(name, config, max_bytes, metrics.of(name))?);
            match name {
                "connect" => backend.connect = proxy,
                "refresh" => backend.refresh = proxy,
                "subscribe" => backend.subscribe = proxy,
                "publish" => backend.publish = proxy,
                "sub_refresh" => backend.sub_refresh = proxy,
                _ => backend.rpc = proxy,
            }
        }
        Ok(backend)
    }

    /// What of this a session has to know.
    pub(crate) fn offers(&self) -> session::Backend {
        session::Backend {
            connect: self.connect.is_some(),
            refresh: self.refresh.is_some(),
            subscribe: self.subscribe.is_some(),
            publish: self.publish.is_some(),
            sub_refresh: self.sub_refresh.is_some(),
            rpc: self.rpc.is_some(),
        }
    }

    /// Who is this client, which shows no token?
    pub(crate) async fn connect(
        &self,
        asker: &Asker,
        connect: Connect,
        rules: &Rules,
    ) -> Result<Identity, Refusal> {
        let (format, data, b64data) = split(connect.data);
        let question = question!(ConnectRequest, asker, format, {
            data: data,
            b64data: b64data,
            name: connect.name,
            version: connect.version,
            channels: connect.subs.into_iter().map(|sub| sub.channel).collect(),
        });
        let renewed_by = if self.refresh.is_some() {
            RenewedBy::Backend
        } else {
            RenewedBy::Client
        };
        let in_channel = |channel: &Channel| renewed_in(rules, channel);
        ask(&self.connect, asker, question, |result| match result {
            Some(result) => answer::identity(result, renewed_by, in_channel, SystemTime::now()),
            // It does not know the client, and says so by saying nothing.
            None => Err(No::Refused(Refusal::Close(CloseReason::BadRequest))),
        })
        .await
    }

    /// Does this connection, which has expired, go on?
    pub(crate) async fn refresh(&self, asker: &Asker) -> Result<Renewal, Refusal> {
        let question = question!(RefreshRequest, asker, Format::Json, {
            user: asker.user.to_string(),
        });
        ask(&self.refresh, asker, question, |result| match result {
            Some(result) => answer::renewal(result, SystemTime::now()),
            None => Err(No::Refused(Refusal::Expired)),
        })
        .await
    }

    /// May this client hear this channel?
    pub(crate) async fn subscribe(
        &self,
        asker: &Asker,
        channel: &Channel,
        data: Payload,
        rules: &Rules,
    ) -> Result<Grant, Refusal> {
        let (format, data, b64data) = split(data);
        let question = question!(SubscribeRequest, asker, format, {
            user: asker.user.to_string(),
            channel: channel.to_string(),
            token: String::new(),
            data: data,
            b64data: b64data,
        });
        ask(&self.subscribe, asker, question, |result| {
            answer::grant(some(result)?, renewed_in(rules, channel), SystemTime::now())
        })
        .await
    }

    /// Does this subscription, which has expired, go on?
    pub(crate) async fn sub_refresh(&self, asker: &Asker, channel: &Channel) -> Result<Grant, Refusal> {
        let question = question!(SubRefreshRequest, asker, Format::Json, {
            user: asker.user.to_string(),
            channel: channel.to_string(),
        });
        ask(&self.sub_refresh, asker, question, |result| match result {
            Some(result) => answer::prolonged(result, SystemTime::now()),
            None => Err(No::Refused(Refusal::Expired)),
        })
        .await
    }

    /// May this client publish this?
    pub(crate) async fn publish(
        &self,
        asker: &Asker,
        channel: &Channel,
        payload: Payload,
    ) -> Result<Edit, Refusal> {
        let (format, data, b64data) = split(payload);
        let question = question!(PublishRequest, asker, format, {
            user: asker.user.to_string(),
            channel: channel.to_string(),
            data: data,
            b64data: b64data,
        });
        ask(&self.publish, asker, question, |result| {
            answer::edit(some(result)?)
        })
        .await
    }

    /// What is the answer to this call?
    pub(crate) async fn rpc(
        &self,
        asker: &Asker,
        method: String,
        payload: Payload,
    ) -> Result<Payload, Refusal> {
        let (format, data, b64data) = split(payload);
        let question = question!(RpcRequest, asker, format, {
            user: asker.user.to_string(),
            method: method,
            data: data,
            b64data: b64data,
        });
        ask(&self.rpc, asker, question, |result| {
            let result = some(result)?;
            answer::payload("data", result.data, &result.b64data)
        })
        .await
    }
}

/// Asks, counts, and logs what went wrong between the question and the answer.
async fn ask<Q: Question, T>(
    proxy: &Option<Proxy>,
    asker: &Asker,
    question: Q,
    read: impl FnOnce(Option<<Q::Answer as question::Answer>::Result>) -> Result<T, No>,
) -> Result<T, Refusal> {
    let Some(proxy) = proxy else {
        return Err(Refusal::Unavailable);
    };
    let begun = Instant::now();
    let answer = proxy.ask(&asker.about, question).await;
    let read = answer.map_err(No::Failed).and_then(answer::result).and_then(read);
    proxy.counts.asked(&read, begun.elapsed());
    read.map_err(|no| match no {
        No::Refused(refusal) => refusal,
        No::Failed(failure) => {
            tracing::warn!(
                proxy = proxy.name,
                proxy.endpoint = %proxy.shown,
                client.id = %asker.client,
                error = %failure,
                "the user's backend did not answer"
            );
            Refusal::Unavailable
        }
    })
}

fn some<T>(result: Option<T>) -> Result<T, No> {
    result.ok_or(No::Failed(Failure::Empty))
}

/// The two ways in which data stands in a question.
fn split(payload: Payload) -> (Format, Bytes, String) {
    match payload.format {
        Format::Json => (Format::Json, payload.data, String::new()),
        Format::Binary => (
            Format::Binary,
            Bytes::new(),
            BASE64_STANDARD.encode(&payload.data),
        ),
    }
}

fn encoding(format: Format) -> &'static str {
    match format {
        Format::Json => "json",
        Format::Binary => "binary",
    }
}

/// Who sees to it that a subscription goes on which the backend has granted.
fn renewed_in(rules: &Rules, channel: &Channel) -> RenewedBy {
    let asks = rules
        .namespaces
        .of(channel)
        .is_some_and(|namespace| namespace.sub_refresh_proxy_enabled);
    if rules.backend.sub_refresh && asks {
        RenewedBy::Backend
    } else {
        RenewedBy::Client
    }
}
