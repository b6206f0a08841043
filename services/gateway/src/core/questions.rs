//! What a session asks others about its client: tokens are checked, and the user's backend decides.
//!
//! A token is checked at once when the key for it is at hand. Everything else is done outside of the core and comes back
//! as a letter, so that whoever is slow to answer is felt by the client that waits for it alone.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use tidings_broker::Once;
use tidings_core::{Channel, ClientInfo, Payload, Publication};
use tidings_protocol::command::Connect;
use tidings_session::{Action, Answer, Evidence, Refusal};

use super::Core;
use crate::{
    backend::{Asker, Edit},
    inbox::Address,
    node::Node,
};

/// Someone who wants something of a channel: to hear it, to go on hearing it, to publish to it.
pub(super) struct Candidate {
    pub(super) from: Address,
    pub(super) id: u32,
    pub(super) channel: Channel,
    pub(super) info: ClientInfo,
}

impl Core {
    /// Who is it? The token says so; without one the user's backend, where there is one; else it is nobody.
    pub(super) fn authenticate(
        &mut self,
        from: Address,
        id: u32,
        connect: Connect,
        now: Instant,
        more: &mut Vec<Action>,
    ) {
        if !connect.token.is_empty() || !self.node.rules.backend.connect {
            return self.check(from, id, connect.token, now, more);
        }
        let (Some(asker), node) = (self.asker(from, "".into()), self.node.clone()) else {
            return;
        };
        self.work(from, async move {
            let identity = node.backend.connect(&asker, connect, &node.rules).await;
            Answer::Authenticated {
                id,
                result: identity.map(Box::new),
            }
        });
    }

    /// Whose token is it?
    pub(super) fn check(
        &mut self,
        from: Address,
        id: u32,
        token: String,
        now: Instant,
        more: &mut Vec<Action>,
    ) {
        if let Some(identity) = self.node.identities.of(&token) {
            let result = identity.map(Box::new);
            return self.answer(from, Answer::Authenticated { id, result }, now, more);
        }
        let node = self.node.clone();
        self.work(from, async move {
            let identity = node.identities.fetch(&token).await;
            Answer::Authenticated {
                id,
                result: identity.map(Box::new),
            }
        });
    }

    /// Does the connection go on?
    pub(super) fn renew(&mut self, from: Address, info: &ClientInfo) {
        let (Some(asker), node) = (self.asker(from, info.user.clone()), self.node.clone()) else {
            return;
        };
        self.work(from, async move {
            Answer::Renewed {
                result: node.backend.refresh(&asker).await,
            }
        });
    }

    /// May it hear the channel?
    pub(super) fn authorize(
        &mut self,
        candidate: Candidate,
        by: Evidence,
        now: Instant,
        more: &mut Vec<Action>,
    ) {
        let data = match by {
            Evidence::Token(token) => return self.check_grant(candidate, token, now, more),
            Evidence::Backend(data) => data,
        };
        let Candidate {
            from,
            id,
            channel,
            info,
        } = candidate;
        let (Some(asker), node) = (self.asker(from, info.user), self.node.clone()) else {
            return;
        };
        self.work(from, async move {
            let grant = node.backend.subscribe(&asker, &channel, data, &node.rules).await;
            Answer::Authorized {
                id,
                channel,
                result: grant.map(Box::new),
            }
        });
    }

    /// Does the subscription go on?
    pub(super) fn reauthorize(
        &mut self,
        candidate: Candidate,
        by: Evidence,
        now: Instant,
        more: &mut Vec<Action>,
    ) {
        if let Evidence::Token(token) = by {
            return self.check_grant(candidate, token, now, more);
        }
        let Candidate {
            from,
            id,
            channel,
            info,
        } = candidate;
        let (Some(asker), node) = (self.asker(from, info.user), self.node.clone()) else {
            return;
        };
        self.work(from, async move {
            let grant = node.backend.sub_refresh(&asker, &channel).await;
            Answer::Authorized {
                id,
                channel,
                result: grant.map(Box::new),
            }
        });
    }

    /// What does the token allow in the channel?
    fn check_grant(&mut self, candidate: Candidate, token: String, now: Instant, more: &mut Vec<Action>) {
        let Candidate {
            from,
            id,
            channel,
            info,
        } = candidate;
        if let Some(grant) = self.node.identities.grant(&token, &channel, &info) {
            let result = grant.map(Box::new);
            return self.answer(from, Answer::Authorized { id, channel, result }, now, more);
        }
        let node = self.node.clone();
        self.work(from, async move {
            let grant = node.identities.fetch_grant(&token, &channel, &info).await;
            Answer::Authorized {
                id,
                channel,
                result: grant.map(Box::new),
            }
        });
    }

    /// What is the answer to the call?
    pub(super) fn rpc(
        &mut self,
        from: Address,
        id: u32,
        method: String,
        payload: Payload,
        info: &ClientInfo,
    ) {
        let (Some(asker), node) = (self.asker(from, info.user.clone()), self.node.clone()) else {
            return;
        };
        self.work(from, async move {
            Answer::Rpc {
                id,
                result: node.backend.rpc(&asker, method, payload).await,
            }
        });
    }

    /// Publishes, if the backend has nothing against it where it is asked, and what it makes of it.
    pub(super) fn publish(&mut self, candidate: Candidate, payload: Payload, proxied: bool) {
        let Candidate {
            from,
            id,
            channel,
            info,
        } = candidate;
        let (asker, node) = (self.asker(from, info.user.clone()), self.node.clone());
        let Some(asker) = asker else {
            return;
        };
        self.work(from, async move {
            let edit = if proxied {
                node.backend.publish(&asker, &channel, payload.clone()).await
            } else {
                Ok(Edit::default())
            };
            let result = match edit {
                Ok(edit) => publish(&node, channel, payload, info, edit).await,
                Err(refusal) => Err(refusal),
            };
            Answer::Published { id, result }
        });
    }

    /// The client, as the user's backend is told of it.
    fn asker(&mut self, from: Address, user: Arc<str>) -> Option<Asker> {
        let connection = self.connection(from)?;
        Some(Asker {
            client: from.client,
            user,
            protocol: connection.wire.protocol(),
            about: connection.about.clone(),
        })
    }
}

async fn publish(
    node: &Node,
    channel: Channel,
    said: Payload,
    info: ClientInfo,
    edit: Edit,
) -> Result<(), Refusal> {
    let Edit {
        payload,
        tags,
        skip_history,
        key,
    } = edit;
    let payload = if payload.is_empty() { said } else { payload };
    node.rules.takes(&channel, &payload).map_err(Refusal::Error)?;
    let mut publication = Publication::new(payload.data, payload.format, SystemTime::now());
    publication.info = Some(info);
    publication.tags = tags;
    let mut target = node.target(channel);
    if skip_history {
        target.retention = None;
    }
    // Apart from the names that other publishes to the channel have.
    target.once = key.map(|key| Once::new(format!("proxy:{key}")));
    node.publish(target, publication).await.map_err(Refusal::Error)
}
