//! Who may connect: from which pages, from where, and how many.

use std::{net::SocketAddr, sync::Arc};

use http::{HeaderMap, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    addresses::{self, Addresses},
    config::{Config, Error},
    origin::Origins,
};

/// Admits clients to the clients' door.
pub(crate) struct Admission {
    origins: Origins,
    addresses: Addresses,
    /// How many more clients may connect.
    places: Arc<Semaphore>,
}

/// A client's place on this node, and among those of its address. Dropping it gives both back.
pub(crate) struct Place {
    _node: OwnedSemaphorePermit,
    _address: addresses::Place,
}

/// Why a client may not connect. Its display is meant for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// The page is of another origin.
    #[error("this origin is not in clients.allowed_origins")]
    Origin,
    /// A page of another site does not connect, but makes the browser fetch this as if it were a picture or a page.
    #[error("a link or an element of a page cannot connect; use an SDK, or an EventSource")]
    Navigation,
    /// Too many are where it is.
    #[error(transparent)]
    Address(#[from] addresses::Full),
    /// Too many requests come from where it is.
    #[error("there are too many requests from this address; try again later")]
    TooOften,
    /// Too many are here.
    #[error("this node has all the connections that it takes")]
    Full,
}

impl Refused {
    /// What HTTP says.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Origin | Self::Navigation => StatusCode::FORBIDDEN,
            Self::Address(_) | Self::TooOften => StatusCode::TOO_MANY_REQUESTS,
            Self::Full => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Whether the same client may be let in later.
    pub(crate) fn passes(&self) -> bool {
        matches!(self, Self::Address(_) | Self::Full)
    }
}

impl Admission {
    /// # Errors
    /// Names the key that cannot be meant.
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let limits = &config.limits;
        Ok(Self {
            origins: config.origins()?,
            addresses: Addresses::new(config.proxies()?, limits.connections_per_address),
            places: Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS))),
        })
    }

    /// Whether a page may send this request.
    ///
    /// # Errors
    /// When it is of an origin that is not allowed.
    pub(crate) fn page(&self, peer: SocketAddr, headers: &HeaderMap) -> Result<(), Refused> {
        match self.origins.refuses(headers) {
            None if self.origins.is_navigation(headers) => Err(Refused::Navigation),
            None => Ok(()),
            Some(origin) => {
                tracing::debug!(peer.address = %peer, origin, "a page of another origin tried to connect");
                Err(Refused::Origin)
            }
        }
    }

    /// Whether a request to another node may be passed on to that.
    ///
    /// # Errors
    /// When there are too many of them from its address.
    pub(crate) fn pass_on(&self, peer: SocketAddr, headers: &HeaderMap) -> Result<(), Refused> {
        match self.addresses.may_pass_on(peer.ip(), headers) {
            true => Ok(()),
            false => Err(Refused::TooOften),
        }
    }

    /// Takes a place for a client that asks for a connection.
    ///
    /// # Errors
    /// When it may have none.
    pub(crate) fn admit(&self, peer: SocketAddr, headers: &HeaderMap) -> Result<Place, Refused> {
        self.page(peer, headers)?;
        let node = self.places.clone().try_acquire_owned();
        let node = node.map_err(|_| Refused::Full)?;
        Ok(Place {
            _node: node,
            _address: self.addresses.enter(peer.ip(), headers)?,
        })
    }
}
