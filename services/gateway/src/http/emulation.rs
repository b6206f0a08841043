//! What clients say apart from their connection. Any node takes it, and hands it to the one that has the connection.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Request, State},
    http::StatusCode,
};
use tidings_protocol::centrifuge::emulation;

use super::{
    Door, Peer, Refused,
    request::{is_protobuf, malformed, too_large, whole},
};

/// In JSON the commands are a string within a string: what escaping adds, and room for what stands around it.
const AROUND: usize = 1024;

pub(super) async fn emulate(
    State(door): State<Arc<Door>>,
    Extension(peer): Peer,
    request: Request,
) -> Result<StatusCode, Refused> {
    let (parts, body) = request.into_parts();
    let body = whole(body, 2 * door.node.message + AROUND).await?;
    let emulation = if is_protobuf(&parts.headers) {
        emulation::protobuf(body)
    } else {
        emulation::json(&body)
    }
    .map_err(|error| malformed(&error))?;
    if emulation.data.len() > door.node.message {
        return Err(too_large());
    }
    let unknown = || Refused::new(StatusCode::NOT_FOUND, "there is no such session; connect again");
    let session = emulation.session.parse().map_err(|_| unknown())?;
    let heard = if emulation.node == *door.node.name {
        door.cores.emulate(session, emulation.data).await
    } else {
        door.admission.pass_on(peer.0, &parts.headers)?;
        let told = door
            .node
            .control
            .emulate(&emulation.node, session, emulation.data);
        told.await.map_err(|error| {
            tracing::debug!(%error, "what a client said did not reach the node of its connection");
            Refused::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the node of this session cannot be reached now",
            )
        })?
    };
    if heard {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(unknown())
    }
}
