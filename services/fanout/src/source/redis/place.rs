//! Where a stream is, and how to connect to it: by an address of its own, or as the node does.

use std::time::Duration;

use redis::{AsyncConnectionConfig, Client, aio::MultiplexedConnection};
use tidings_broker::redis::{Pool, RedisUrl};

use super::Config;

/// How long a read waits for entries. Short: it is not cut off when the node ends, or what it brings would be
/// nobody's until it is claimed.
pub(super) const BLOCK: Duration = Duration::from_millis(500);

const CONNECT: Duration = Duration::from_secs(2);

/// How long a command may take, what it waits included.
const RESPONSE: Duration = Duration::from_secs(4);

/// What comes before the arguments of a command that a server does not know, among which may be a password.
const ARGUMENTS: &str = ", with args beginning with";

pub(in crate::source) struct Place {
    way: Way,
    /// To be shown.
    name: String,
    password: Option<String>,
}

enum Way {
    Own(Box<Client>),
    Node(Pool),
}

impl Place {
    /// Connects to nothing. `node`: the node's own Redis.
    pub(in crate::source) fn new(config: &Config, node: Option<&Pool>) -> Result<Self, String> {
        match (&config.url, node) {
            (Some(url), _) => {
                let shown = RedisUrl::parse(url.expose()).map_err(|why| why.to_string())?;
                let client =
                    Client::open(url.expose().trim()).map_err(|_| "is no address of Redis".to_owned())?;
                let info = client.get_connection_info().redis_settings();
                Ok(Self {
                    password: info.password().map(str::to_owned),
                    way: Way::Own(Box::new(client)),
                    name: shown.to_string(),
                })
            }
            (None, Some(pool)) if pool.is_cluster() => {
                Err("is missing, and the node's own Redis is a Cluster, where no source can be".to_owned())
            }
            (None, Some(pool)) => Ok(Self {
                way: Way::Node(pool.clone()),
                name: "the node's Redis".to_owned(),
                password: None,
            }),
            (None, None) => Err("is missing".to_owned()),
        }
    }

    /// A connection that nobody else uses.
    ///
    /// # Errors
    /// Why there is none, fit to be shown.
    pub(super) async fn connect(&self) -> Result<MultiplexedConnection, String> {
        let mut connection = match &self.way {
            Way::Own(client) => {
                let config = AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT));
                let connecting = client.get_multiplexed_async_connection_with_config(&config);
                connecting.await.map_err(|why| self.said(&why))?
            }
            Way::Node(pool) => {
                let taken = pool.take().await.map_err(|why| self.said(&why))?;
                taken.ok_or_else(|| self.said(&"it is a Cluster"))?
            }
        };
        connection.set_response_timeout(RESPONSE);
        Ok(connection)
    }

    /// Its address, the password masked.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What went wrong there, fit to be shown.
    pub(super) fn said(&self, why: &impl ToString) -> String {
        let mut said = why.to_string();
        if let Some(arguments) = said.find(ARGUMENTS) {
            said.truncate(arguments);
        }
        if let Some(password) = self.password.as_deref().filter(|password| !password.is_empty()) {
            said = said.replace(password, "***");
        }
        format!("{}: {said}", self.name)
    }
}
