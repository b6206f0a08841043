//! A little of everything that is counted, on one node with a Redis.

use tidings_proto::fanout::{Clients, SendRequest, fanout_client::FanoutClient};
use tidings_tests::{Backend, CONFIG, Client, Launch, Redis, Tidings, event, token};

/// It is there to be counted; nothing comes from it.
const SOURCE: &str = "[[source]]\nname = \"jobs\"\n[source.redis]\nstream = \"jobs\"\n";

/// A node, and what gives it something to count.
pub(crate) struct Load {
    pub(crate) node: Tidings,
    backend: Backend,
    client: Client,
}

impl Load {
    pub(crate) async fn start(redis: &Redis) -> Self {
        // Nobody asks it, but questions to it are counted from the start.
        let backend = ("TIDINGS_CLIENTS__PROXY__RPC__ENDPOINT", "http://127.0.0.1:1");
        let node = Launch::new("standalone")
            .config(&format!("{CONFIG}{SOURCE}"))
            .redis(redis)
            .env(backend.0, backend.1)
            .start()
            .await;
        node.wait_until_whole().await;
        let backend = Backend::new(&node.backends());
        let mut client = Client::connect(&node.websocket(), &token("ada")).await;
        client.subscribe("tasks:acme").await;
        Self {
            node,
            backend,
            client,
        }
    }

    /// One event by a route, one of which nobody hears, one call about connections, and one without a key.
    pub(crate) async fn round(&mut self) {
        let mut created = event("task.created", r#"{"assignee_id":"bob"}"#, &[]);
        created.attributes.insert("tenant".to_owned(), "acme".to_owned());
        self.backend.publish(created).await.expect("it is published");
        assert_eq!(self.client.hear().await.0, "tasks:acme");
        let unheard = event("invoice.paid", "1", &[]);
        self.backend.publish(unheard).await.expect("it is taken");
        let nobody = SendRequest {
            clients: Some(Clients {
                user: "nobody".to_owned(),
                ..Clients::default()
            }),
            data: "{}".into(),
            ..SendRequest::default()
        };
        let mut fanout = FanoutClient::new(self.backend.channel());
        fanout
            .send(self.backend.request(nobody))
            .await
            .expect("it is done");
        let stranger = Backend::new(&self.node.backends()).with_key(Some("another"));
        stranger
            .publish(event("task.created", "1", &[]))
            .await
            .expect_err("the key is not known");
    }
}
