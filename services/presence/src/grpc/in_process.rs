//! Presence for a gateway in the same process: the same gRPC service, over memory instead of a network.

use std::{convert::Infallible, io};

use futures_util::StreamExt as _;
use hyper_util::rt::TokioIo;
use tidings_proto::presence::presence_server::PresenceServer;
use tidings_runtime::Shutdown;
use tokio::{io::DuplexStream, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::transport::{Channel, Endpoint, Server, Uri};

use crate::Service;

/// What one direction of a pipe holds, in bytes, before the writer waits.
const PIPE: usize = 64 * 1024;

/// A channel whose every connection is a new pipe to a server of `service`.
pub(crate) fn connect(service: PresenceServer<Service>, shutdown: Shutdown) -> Channel {
    let (sender, pipes) = mpsc::channel::<DuplexStream>(1);
    let pipes = ReceiverStream::new(pipes).map(Ok::<_, Infallible>);
    // Not one of the shutdown's tasks: it ends with the channel, and has nothing to finish by itself.
    TaskTracker::new().spawn(async move {
        let server = Server::builder().add_service(service).serve_with_incoming(pipes);
        tokio::select! {
            served = server => {
                if let Err(error) = served {
                    tracing::error!(error = &error as &dyn std::error::Error, "in-process presence ended");
                }
            }
            () = shutdown.forced() => {}
        }
    });
    let connector = tower::service_fn(move |_: Uri| {
        let sender = sender.clone();
        async move {
            let (ours, theirs) = tokio::io::duplex(PIPE);
            sender
                .send(theirs)
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            Ok::<_, io::Error>(TokioIo::new(ours))
        }
    });
    // The address only names the peer in errors; nothing resolves it.
    Endpoint::from_static("http://presence.in-process").connect_with_connector_lazy(connector)
}
