//! The internal door: where gateways attach when presence runs alone. gRPC with health and reflection.

use std::{io, net::SocketAddr};

use tidings_runtime::{
    Shutdown,
    serve::{self, BindError, Limits},
};
use tokio::net::TcpListener;

use crate::{Config, Presence, grpc::routes};

/// The open door; [`run`](Self::run) answers at it.
#[derive(Debug)]
pub struct Server {
    presence: Presence,
    listener: TcpListener,
    local_addr: SocketAddr,
}

/// The door could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system does not say which address it is.
    #[error("cannot tell the address of presence' door")]
    Address(#[source] io::Error),
}

impl Server {
    /// Opens the door of `presence` on `config.listen`. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be had; the error names it and says what to do.
    pub fn bind(config: &Config, presence: Presence) -> Result<Self, Error> {
        let listener = serve::bind("presence", config.listen)?;
        let local_addr = listener.local_addr().map_err(Error::Address)?;
        Ok(Self {
            presence,
            listener,
            local_addr,
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Answers, and sweeps, until shutdown is requested. Attached gateways are told to attach elsewhere then.
    pub async fn run(self, shutdown: Shutdown) {
        let Self {
            presence, listener, ..
        } = self;
        drop(shutdown.spawn(presence.clone().run_sweeper(shutdown.clone())));
        let router = routes::internal(&presence).await.into_axum_router();
        // Streams of attached gateways have no end of their own to wait for.
        let _closes_them = presence.closing.clone().drop_guard();
        serve::serve(listener, router, Limits::DEFAULT, shutdown).await;
    }
}
