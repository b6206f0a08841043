//! The presence service as this gateway calls it: `tidings.presence.v1` in, the gateway's own types out.

use std::time::Duration;

use tidings_core::{Channel, ClientId, ClientInfo};
use tidings_proto::presence::{
    self as wire, PresenceAck, change, gateway_update, presence_client::PresenceClient,
};
use tidings_session::Seen;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::mirror::{Change, Member};

/// Why presence did not answer. Temporary, but for [`Error::TooMany`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be reached, or cannot answer.
    #[error("presence is away ({code:?}: {message})")]
    Away {
        /// The call's status.
        code: Code,
        /// What it says.
        message: String,
    },
    /// It takes too long.
    #[error("presence did not answer within {after:?}")]
    TooSlow {
        /// How long that was.
        after: Duration,
    },
    /// There are more members than one answer may have.
    #[error("channel {channel} has more than {max} members")]
    TooMany {
        /// The channel.
        channel: Channel,
        /// How many there may be.
        max: usize,
    },
    /// It says what makes no sense.
    #[error("presence answered out of order: {why}")]
    OutOfOrder {
        /// What it was.
        why: String,
    },
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Away {
            code: status.code(),
            message: status.message().to_owned(),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Client(PresenceClient<tonic::transport::Channel>);

impl Client {
    pub(super) fn new(channel: tonic::transport::Channel) -> Self {
        Self(PresenceClient::new(channel))
    }

    /// Everyone in a channel, page by page.
    pub(super) async fn list(&self, channel: &Channel, max: usize) -> Result<Vec<ClientInfo>, Error> {
        let mut client = self.0.clone();
        let mut members = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = wire::ListRequest {
                channel: channel.to_string(),
                page_size: 0,
                page_token,
            };
            let page = client.list(request).await?.into_inner();
            if members.len() + page.members.len() > max {
                return Err(Error::TooMany {
                    channel: channel.clone(),
                    max,
                });
            }
            if page.members.is_empty() && !page.next_page_token.is_empty() {
                return Err(Error::OutOfOrder {
                    why: "an empty page that is not the last".to_owned(),
                });
            }
            for member in page.members {
                members.push(info(member)?);
            }
            if page.next_page_token.is_empty() {
                return Ok(members);
            }
            page_token = page.next_page_token;
        }
    }

    /// Whom the listeners of a channel have been told of.
    pub(super) async fn announced(&self, channel: &Channel) -> Result<Announced, Error> {
        let request = wire::AnnouncedRequest {
            channel: channel.to_string(),
        };
        let wire::AnnouncedResponse {
            members,
            per_user,
            large,
            incomplete,
        } = self.0.clone().announced(request).await?.into_inner();
        Ok(Announced {
            members: members.into_iter().map(info).collect::<Result<_, _>>()?,
            per_user,
            large,
            complete: !incomplete,
        })
    }

    /// How many clients are in a channel, and how many different users.
    pub(super) async fn stats(&self, channel: &Channel) -> Result<(u32, u32), Error> {
        let request = wire::StatsRequest {
            channel: channel.to_string(),
        };
        let wire::StatsResponse { clients, users } = self.0.clone().stats(request).await?.into_inner();
        Ok((clients, users))
    }

    /// A new stream, on which each acknowledgement may take `patience`.
    pub(super) async fn attach(&self, patience: Duration) -> Result<Stream, Error> {
        let (updates, receiver) = mpsc::channel(1);
        let mut client = self.0.clone();
        let call = tokio::time::timeout(patience, client.attach(ReceiverStream::new(receiver)));
        let acks = call
            .await
            .map_err(|_| Error::TooSlow { after: patience })??
            .into_inner();
        Ok(Stream {
            updates,
            acks,
            seq: 0,
            patience,
        })
    }
}

/// Whom the listeners of a channel have been told of.
#[derive(Debug)]
pub(super) struct Announced {
    pub(super) members: Vec<ClientInfo>,
    /// Users are announced once, with all their clients.
    pub(super) per_user: bool,
    /// There are too many: none is named.
    pub(super) large: bool,
    /// No gateway's members are still missing.
    pub(super) complete: bool,
}

/// An open stream of updates and acknowledgements; ends when dropped.
pub(super) struct Stream {
    updates: mpsc::Sender<wire::GatewayUpdate>,
    acks: Streaming<wire::PresenceAck>,
    seq: u64,
    patience: Duration,
}

/// Something to tell presence.
pub(super) enum Update<'a> {
    Hello { gateway: &'a str, lease: Duration },
    Snapshot { members: Vec<Member>, last: bool },
    Changes(Vec<Change>),
    Heartbeat,
    Goodbye,
}

impl Stream {
    /// Sends an update and waits until it is stored, but for what is said to have failed.
    pub(super) async fn tell(&mut self, update: Update<'_>) -> Result<PresenceAck, Error> {
        self.seq += 1;
        let update = wire::GatewayUpdate {
            seq: self.seq,
            update: Some(to_wire(update)),
        };
        // When presence has hung up, its last word says why.
        let _ = self.updates.send(update).await;
        let ack = tokio::time::timeout(self.patience, self.ack()).await;
        let ack = ack.map_err(|_| Error::TooSlow { after: self.patience })??;
        if ack.seq == self.seq {
            Ok(ack)
        } else {
            Err(Error::OutOfOrder {
                why: format!("acknowledgement of {} instead of {}", ack.seq, self.seq),
            })
        }
    }

    /// Completes when the stream is lost, with the reason. Nothing else may come while nothing is told.
    pub(super) async fn lost(&mut self) -> Error {
        match self.ack().await {
            Ok(ack) => Error::OutOfOrder {
                why: format!("acknowledgement of {}, which was not due", ack.seq),
            },
            Err(error) => error,
        }
    }

    async fn ack(&mut self) -> Result<PresenceAck, Error> {
        match self.acks.message().await? {
            Some(ack) => Ok(ack),
            None => Err(Error::OutOfOrder {
                why: "the stream has ended".to_owned(),
            }),
        }
    }
}

fn to_wire(update: Update<'_>) -> gateway_update::Update {
    match update {
        Update::Hello { gateway, lease } => gateway_update::Update::Hello(wire::Hello {
            gateway: gateway.to_owned(),
            lease_ms: lease.as_millis().try_into().unwrap_or(u64::MAX),
        }),
        Update::Snapshot { members, last } => {
            let members = members.into_iter().map(member).collect();
            gateway_update::Update::Snapshot(wire::Snapshot { members, last })
        }
        Update::Changes(changes) => {
            let changes = changes
                .into_iter()
                .map(|one| wire::Change {
                    change: Some(to_change(one)),
                })
                .collect();
            gateway_update::Update::Changes(wire::Changes { changes })
        }
        Update::Heartbeat => gateway_update::Update::Heartbeat(wire::Heartbeat {}),
        Update::Goodbye => gateway_update::Update::Goodbye(wire::Goodbye {}),
    }
}

fn to_change(change: Change) -> change::Change {
    match change {
        Change::Joined(joined) => change::Change::Joined(member(joined)),
        Change::Left((channel, client)) => change::Change::Left(wire::Left {
            channel: channel.to_string(),
            client: client.to_string(),
        }),
    }
}

fn member(
    Member {
        channel,
        seen: Seen { info, announced },
        joined_at_ms,
        known,
    }: Member,
) -> wire::Member {
    wire::Member {
        channel: channel.to_string(),
        client: info.client.to_string(),
        user: info.user.to_string(),
        conn_info: info.conn_info,
        chan_info: info.chan_info,
        joined_at_ms,
        // Presence knows whose stream it is.
        gateway: String::new(),
        announced,
        known,
    }
}

fn info(member: wire::Member) -> Result<ClientInfo, Error> {
    let Some(client) = ClientId::parse(&member.client) else {
        return Err(Error::OutOfOrder {
            why: format!("{:?} is no client id", member.client),
        });
    };
    Ok(ClientInfo {
        user: member.user.into(),
        client,
        conn_info: member.conn_info,
        chan_info: member.chan_info,
    })
}
