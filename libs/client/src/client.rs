//! The client: a connection to a backends' door, and what is published by it.

use std::{fmt, future::Future, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures_util::{Stream, StreamExt as _};
use tidings_proto::fanout::{self as proto, fanout_client::FanoutClient};
use tokio::time::{Instant, sleep};
use tonic::{
    Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    Error, Event, Published,
    error::{is_temporary, passes, retry_after},
    published::code,
    trace,
};

/// How long opening a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How often an idle node is asked whether it is still there, and how long it has to answer.
const PING: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));
/// How long a publish may take, with all that is tried, where nobody says otherwise.
const DEADLINE: Duration = Duration::from_secs(10);
/// The most tries of one publish after the first.
const RETRIES: usize = 8;
/// The most events of one call; larger batches are sent in several.
const BATCH: usize = 500;

/// Publishes to one address. Clones share the connection.
#[derive(Clone)]
pub struct Client {
    endpoint: Endpoint,
    /// `None`: in the clear.
    tls: Option<ClientTlsConfig>,
    fanout: FanoutClient<Channel>,
    key: Option<MetadataValue<Ascii>>,
    deadline: Duration,
}

impl Client {
    /// A client of the backends' door at `url`: `http://host:9000`, or `https://host` for TLS with the system's
    /// certificates. It connects when it is first used, and again whenever it has to.
    ///
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn new(url: &str) -> Result<Self, Error> {
        let wrong = || Error::Url { url: url.to_owned() };
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| wrong())?;
        let endpoint = endpoint
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING.0)
            .keep_alive_timeout(PING.1)
            .keep_alive_while_idle(true);
        let client = Self {
            fanout: FanoutClient::new(endpoint.connect_lazy()),
            tls: None,
            key: None,
            deadline: DEADLINE,
            endpoint,
        };
        match client.endpoint.uri().scheme_str() {
            Some("http") => Ok(client),
            Some("https") => client.secured(ClientTlsConfig::new().with_native_roots()),
            _ => Err(wrong()),
        }
    }

    /// Trusts the authorities in this PEM, in place of the system's. Call it before [`with_certificate`].
    ///
    /// # Errors
    /// When it is no certificate, or the URL is not `https`.
    ///
    /// [`with_certificate`]: Self::with_certificate
    pub fn with_authority(self, pem: impl AsRef<[u8]>) -> Result<Self, Error> {
        self.need_tls()?;
        self.secured(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)))
    }

    /// Shows this certificate, with its key (both PEM), where the server asks for one. It can stand for an API key.
    ///
    /// # Errors
    /// When they are of no use, or the URL is not `https`.
    pub fn with_certificate(self, pem: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self, Error> {
        let tls = self.need_tls()?.clone();
        self.secured(tls.identity(Identity::from_pem(pem, key)))
    }

    fn need_tls(&self) -> Result<&ClientTlsConfig, Error> {
        self.tls.as_ref().ok_or_else(|| Error::Clear {
            url: self.endpoint.uri().to_string(),
        })
    }

    /// The same over another connection.
    fn secured(self, tls: ClientTlsConfig) -> Result<Self, Error> {
        let endpoint = self.endpoint.tls_config(tls.clone()).map_err(Error::Tls)?;
        Ok(Self {
            fanout: FanoutClient::new(endpoint.connect_lazy()),
            tls: Some(tls),
            endpoint,
            ..self
        })
    }

    /// Shows this API key.
    ///
    /// # Errors
    /// When it does not fit into a header.
    pub fn with_key(mut self, key: &str) -> Result<Self, Error> {
        let mut key: MetadataValue<Ascii> = format!("Bearer {key}").parse().map_err(|_| Error::Key)?;
        key.set_sensitive(true);
        self.key = Some(key);
        Ok(self)
    }

    /// How long a publish may take, with all that is tried. Default 10 s.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Publishes an event. Some channels may have failed: see [`Published::channels`].
    ///
    /// # Errors
    /// When it was published to no channel. It may have been all the same when the call itself failed; publishing it
    /// again, with the same id, is safe.
    pub async fn publish(&self, event: Event) -> Result<Published, Error> {
        let mut task = (event.0, proto::PublishResponse::default());
        self.persist(
            &mut task,
            |(event, _)| proto::PublishRequest {
                event: Some(event.clone()),
            },
            |mut fanout, request| async move { fanout.publish(request).await },
            |(_, response), answer| {
                *response = answer;
                !failed_for_now(response)
            },
        )
        .await?;
        Published::of(task.1)
    }

    /// Publishes events, many in one call. Gives what became of each, in order; those that failed for now are tried again.
    ///
    /// # Errors
    /// When a call failed as a whole. Then nothing is known of its events; publishing all again, with the same ids, is
    /// safe.
    pub async fn publish_batch(&self, events: Vec<Event>) -> Result<Vec<Result<Published, Error>>, Error> {
        let mut published = Vec::with_capacity(events.len());
        let mut events = events.into_iter().map(|event| event.0).peekable();
        while events.peek().is_some() {
            let mut batch: Batch = events.by_ref().take(BATCH).map(|event| (event, None)).collect();
            self.persist(
                &mut batch,
                |batch| proto::PublishBatchRequest {
                    events: unanswered(batch),
                },
                |mut fanout, request| async move { fanout.publish_batch(request).await },
                |batch, answer| {
                    let open = batch.iter_mut().filter(|(_, answer)| is_open(answer.as_ref()));
                    for ((_, response), answer) in open.zip(answer.responses) {
                        *response = Some(answer);
                    }
                    !batch.iter().any(|(_, answer)| is_open(answer.as_ref()))
                },
            )
            .await?;
            let answers = batch.into_iter().map(|(_, answer)| answer.unwrap_or_default());
            published.extend(answers.map(Published::of));
        }
        Ok(published)
    }

    /// Publishes events as they come, many at a time, each in the trace that is current when it is taken. Gives what became
    /// of each, in order. Nothing is tried again here: what has no answer when the stream of answers ends may or may not
    /// have been published, and can be published again with the same id.
    ///
    /// # Errors
    /// When the call could not be begun. What ends it later is the last item of the stream.
    pub async fn publish_stream<S>(
        &self,
        events: S,
    ) -> Result<impl Stream<Item = Result<Published, Error>> + Send + use<S>, Error>
    where
        S: Stream<Item = Event> + Send + 'static,
    {
        let requests = events.map(|Event(mut event)| {
            trace::into_attributes(&mut event.attributes);
            proto::PublishRequest { event: Some(event) }
        });
        let mut fanout = self.fanout.clone();
        let answers = fanout.publish_stream(self.request(requests)).await?.into_inner();
        Ok(answers.map(|answer| answer.map_err(Error::from).and_then(Published::of)))
    }

    /// Calls until `take` says that the answer was the last, or until calling again is of no use.
    async fn persist<T, Q, A, F>(
        &self,
        task: &mut T,
        message: impl Fn(&T) -> Q,
        call: impl Fn(FanoutClient<Channel>, Request<Q>) -> F,
        take: impl Fn(&mut T, A) -> bool,
    ) -> Result<(), Error>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let deadline = Instant::now() + self.deadline;
        let mut pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(2))
            .with_max_times(RETRIES)
            .with_jitter()
            .build();
        loop {
            let mut request = self.request(message(task));
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
            let answer = call(self.fanout.clone(), request).await;
            let (again, asked, outcome) = match answer {
                Ok(answer) => {
                    if take(task, answer.into_inner()) {
                        return Ok(());
                    }
                    (true, None, Ok(()))
                }
                Err(status) => (is_temporary(&status), retry_after(&status), Err(status.into())),
            };
            // What the server asks for is the least.
            let pause = if again { pauses.next() } else { None };
            let pause = pause.map(|pause| pause.max(asked.unwrap_or_default()));
            match pause.filter(|&pause| Instant::now() + pause < deadline) {
                Some(pause) => sleep(pause).await,
                None => return outcome,
            }
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(key) = &self.key {
            request.metadata_mut().insert("authorization", key.clone());
        }
        trace::into_headers(request.metadata_mut().as_mut());
        request
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("url", self.endpoint.uri())
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// Events, and what has been answered about each.
type Batch = Vec<(proto::Event, Option<proto::PublishResponse>)>;

fn unanswered(batch: &Batch) -> Vec<proto::Event> {
    let open = batch.iter().filter(|(_, answer)| is_open(answer.as_ref()));
    open.map(|(event, _)| event.clone()).collect()
}

fn is_open(answer: Option<&proto::PublishResponse>) -> bool {
    answer.is_none_or(failed_for_now)
}

/// Whether a part of an answer can be made good by asking again.
fn failed_for_now(response: &proto::PublishResponse) -> bool {
    let channels = response.results.iter().map(|result| &result.error);
    channels
        .chain([&response.error])
        .flatten()
        .any(|error| passes(code(error.code)))
}
