//! `tidings.presence.v1.Presence` over gRPC: wire types become members here, and errors become statuses. With
//! the files below it, the only part of the service that knows tonic.

mod backends;
pub(crate) mod in_process;
pub(crate) mod routes;
mod status;
mod wire;

use futures_util::stream::{self, BoxStream, StreamExt as _};
use prost::Message as _;
use tidings_proto::presence::{
    AnnouncedRequest, AnnouncedResponse, GatewayUpdate, ListRequest, ListResponse, LookupRequest,
    LookupResponse, PresenceAck, StatsRequest, StatsResponse, WatchRequest, WatchResponse,
    presence_server::{Presence as Rpc, PresenceServer},
};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    Presence,
    attach::{Attachment, Taken},
    store::{Epoch, Per},
    watch::Watcher,
};

/// How many bytes of members one answer of `List` holds, about; a page ends there even when it could have more.
/// Well under the 4 MiB that gRPC clients accept by default.
const PAGE_BYTES: usize = 1024 * 1024;

/// Whose door the service stands at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// Gateways': everything.
    Internal,
    /// Backends': reads.
    Backends,
}

/// The gRPC service of one replica, at one door.
#[derive(Debug, Clone)]
pub struct Service {
    presence: Presence,
    door: Door,
}

impl Service {
    pub(crate) const fn new(presence: Presence, door: Door) -> Self {
        Self { presence, door }
    }

    pub(crate) fn into_server(self) -> PresenceServer<Self> {
        PresenceServer::new(self)
    }
}

#[tonic::async_trait]
impl Rpc for Service {
    type AttachStream = BoxStream<'static, Result<PresenceAck, Status>>;
    type WatchStream = BoxStream<'static, Result<WatchResponse, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<GatewayUpdate>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        if self.door == Door::Backends {
            return Err(status::wrong_door());
        }
        // No task of its own: the next update is read when the last acknowledgement has been taken, so a gateway
        // that is faster than the store waits in its own stream.
        let attached = Attached {
            attachment: Attachment::new(self.presence.clone()),
            updates: request.into_inner(),
        };
        let acks = stream::try_unfold(attached, |mut attached| async move {
            Ok(attached.next().await?.map(|ack| (ack, attached)))
        });
        Ok(Response::new(acks.boxed()))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let ListRequest {
            channel,
            page_size,
            page_token,
        } = request.into_inner();
        let channel = wire::channel(&channel)?;
        let after = wire::page_token(&page_token)?;
        let limit = wire::page_size(page_size)?;

        let page = self.presence.store.members(&channel, after, limit).await?;
        let mut response = ListResponse {
            incomplete: !page.complete,
            ..ListResponse::default()
        };
        let (mut bytes, mut more) = (0, page.more);
        for (member, gateway) in &page.members {
            let member = wire::from_member(member, gateway);
            bytes += member.encoded_len();
            if bytes > PAGE_BYTES && !response.members.is_empty() {
                more = true;
                break;
            }
            response.members.push(member);
        }
        if let (true, Some(last)) = (more, response.members.last()) {
            response.next_page_token = last.client.clone();
        }
        Ok(Response::new(response))
    }

    async fn announced(
        &self,
        request: Request<AnnouncedRequest>,
    ) -> Result<Response<AnnouncedResponse>, Status> {
        if self.door == Door::Backends {
            return Err(status::wrong_door());
        }
        let channel = wire::channel(&request.into_inner().channel)?;
        let announced = self.presence.store.announced(&channel).await?;
        let members = announced.members.iter();
        Ok(Response::new(AnnouncedResponse {
            members: members.map(|info| wire::from_info(&channel, info)).collect(),
            per_user: announced.per == Per::User,
            large: announced.large,
            incomplete: !announced.complete,
        }))
    }

    async fn stats(&self, request: Request<StatsRequest>) -> Result<Response<StatsResponse>, Status> {
        let channel = wire::channel(&request.into_inner().channel)?;
        let stats = self.presence.store.stats(&channel).await?;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Ok(Response::new(StatsResponse {
            clients: count(stats.clients),
            users: count(stats.users),
        }))
    }

    async fn lookup(&self, request: Request<LookupRequest>) -> Result<Response<LookupResponse>, Status> {
        let users = backends::users(request.into_inner().users)?;
        let found = self.presence.store.lookup(&users, backends::PLACES).await?;
        let users = users
            .iter()
            .zip(found)
            .map(|(user, found)| backends::user(user, found));
        Ok(Response::new(LookupResponse {
            users: users.collect(),
        }))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let (wanted, from) = backends::wanted(request.into_inner())?;
        let Presence {
            store,
            watchers,
            closing,
            ..
        } = &self.presence;
        if !store.has_log() {
            return Err(status::no_log());
        }
        let place = watchers.enter().ok_or_else(status::too_many_watch)?;
        let watcher = Watcher::new(store.clone(), wanted, from, place);
        let state = (watcher, closing.clone());
        let heard = stream::try_unfold(state, |(mut watcher, closing)| async move {
            let heard = tokio::select! {
                () = closing.cancelled() => return Err(status::closing()),
                heard = watcher.next() => heard?,
            };
            Ok(Some((backends::heard(heard), (watcher, closing))))
        });
        Ok(Response::new(heard.boxed()))
    }
}

/// A gateway's stream and where it stands.
struct Attached {
    attachment: Attachment,
    updates: Streaming<GatewayUpdate>,
}

impl Attached {
    /// The acknowledgement of the next update; `None` when the gateway has closed its stream.
    async fn next(&mut self) -> Result<Option<PresenceAck>, Status> {
        let patience = self.attachment.patience();
        let update = tokio::select! {
            () = self.attachment.closing() => return Err(status::closing()),
            update = tokio::time::timeout(patience, self.updates.message()) => {
                update.map_err(|_| status::silent(patience))??
            }
        };
        let Some(update) = update else { return Ok(None) };
        let seq = update.seq;
        let Taken { store, failed } = self.attachment.take(seq, wire::update(update)?).await?;
        Ok(Some(PresenceAck {
            seq,
            store: store.map_or(0, |Epoch(store)| store),
            failed,
        }))
    }
}
