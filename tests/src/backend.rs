//! A backend: publishes over gRPC and asks who is there.

use tidings_proto::{
    fanout::{Event, PublishRequest, PublishResponse, fanout_client::FanoutClient},
    presence::{ListRequest, Member, StatsRequest, StatsResponse, presence_client::PresenceClient},
};
use tonic::{
    Request, Status,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};

use crate::{eventually::in_time, token::API_KEY};

/// A connection to a node's backends' door, with the tests' API key.
#[derive(Debug, Clone)]
pub struct Backend {
    channel: Channel,
    key: Option<String>,
}

/// An event of this type with JSON data, for these channels or, without any, for those the routes give.
#[must_use]
pub fn event(kind: &str, data: &str, channels: &[&str]) -> Event {
    Event {
        r#type: kind.to_owned(),
        source: "tests".to_owned(),
        data: data.to_owned().into_bytes().into(),
        channels: channels.iter().map(|&channel| channel.to_owned()).collect(),
        ..Event::default()
    }
}

impl Backend {
    /// A backend that knows the key.
    ///
    /// # Panics
    /// When the URL is none.
    #[must_use]
    pub fn new(url: &str) -> Self {
        let endpoint = Endpoint::from_shared(url.to_owned()).expect("a valid URL");
        Self {
            channel: endpoint.connect_lazy(),
            key: Some(API_KEY.to_owned()),
        }
    }

    /// The same with another key, or with none.
    #[must_use]
    pub fn with_key(mut self, key: Option<&str>) -> Self {
        self.key = key.map(str::to_owned);
        self
    }

    /// The bare connection, for other services of the door.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Publishes.
    ///
    /// # Errors
    /// What the server says.
    pub async fn publish(&self, event: Event) -> Result<PublishResponse, Status> {
        self.publish_with(event, &[]).await
    }

    /// Publishes with further metadata, such as a `traceparent`.
    ///
    /// # Errors
    /// What the server says.
    pub async fn publish_with(
        &self,
        event: Event,
        metadata: &[(&'static str, &str)],
    ) -> Result<PublishResponse, Status> {
        let mut request = self.request(PublishRequest { event: Some(event) });
        for (name, value) in metadata {
            request
                .metadata_mut()
                .insert(*name, value.parse().expect("a valid header"));
        }
        let mut client = FanoutClient::new(self.channel());
        Ok(in_time("the answer to a publish", client.publish(request))
            .await?
            .into_inner())
    }

    /// The members of a channel.
    ///
    /// # Errors
    /// What the server says.
    pub async fn list(&self, channel: &str) -> Result<Vec<Member>, Status> {
        let request = self.request(ListRequest {
            channel: channel.to_owned(),
            ..ListRequest::default()
        });
        let mut client = PresenceClient::new(self.channel());
        Ok(in_time("a list of members", client.list(request))
            .await?
            .into_inner()
            .members)
    }

    /// How many they are.
    ///
    /// # Errors
    /// What the server says.
    pub async fn stats(&self, channel: &str) -> Result<StatsResponse, Status> {
        let request = self.request(StatsRequest {
            channel: channel.to_owned(),
        });
        let mut client = PresenceClient::new(self.channel());
        Ok(in_time("a count of members", client.stats(request))
            .await?
            .into_inner())
    }

    /// A request with its key, for the calls that have no method here.
    ///
    /// # Panics
    /// When the key cannot be a header.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(key) = &self.key {
            let key: MetadataValue<_> = key.parse().expect("a key that fits into a header");
            request.metadata_mut().insert("x-api-key", key);
        }
        request
    }
}
