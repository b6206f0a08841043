//! `info` and `channels`: which nodes there are, and to which channels clients are subscribed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidings_proto::{
    bus::{self, active_channels::Pattern},
    fanout::Node,
};

use super::{Answer, Call, Error, answer::result};
use crate::grpc::survey::{MAX_PAGE, Page};

/// The most channels of one answer, which has no pages.
const MAX_CHANNELS: usize = 10_000;

/// Which channels are asked for.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Channels {
    pattern: Option<String>,
}

#[derive(Serialize)]
struct Nodes {
    nodes: Vec<Info>,
}

#[derive(Serialize)]
struct Info {
    uid: String,
    name: String,
    version: String,
    num_clients: u64,
    num_users: u64,
    num_channels: u64,
    num_subs: u64,
    /// In seconds.
    uptime: i64,
}

#[derive(Serialize)]
struct Active {
    channels: BTreeMap<String, Clients>,
}

#[derive(Serialize)]
struct Clients {
    num_clients: u32,
}

impl Call<'_> {
    pub(super) async fn info(&self) -> Answer {
        let (nodes, complete) = self.backends.fanout.nodes(self.key()).await?;
        all_answered(complete)?;
        result(&Nodes {
            nodes: nodes.into_iter().map(Info::from).collect(),
        })
    }

    pub(super) async fn channels(&self, asked: Channels) -> Answer {
        let pattern = asked.pattern.filter(|pattern| !pattern.is_empty());
        if let Some(pattern) = &pattern {
            globset::Glob::new(pattern).map_err(|why| Error::bad_request(format!("pattern: {why}")))?;
        }
        let (mut channels, mut after) = (BTreeMap::new(), String::new());
        loop {
            let asked = bus::ActiveChannels {
                pattern: pattern.clone().map(Pattern::Wildcards),
                within: Vec::new(),
                after,
                limit: MAX_PAGE,
            };
            let page: Page = self.backends.fanout.active(self.key(), asked).await?;
            all_answered(page.complete)?;
            let page_channels = page.channels.into_iter();
            channels.extend(page_channels.map(|(name, num_clients)| (name, Clients { num_clients })));
            if channels.len() > MAX_CHANNELS {
                let why = format!(
                    "more than {MAX_CHANNELS} channels match; ask for fewer by a pattern, or for pages over gRPC"
                );
                return Err(Error::limit(why));
            }
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
        self.fits(result(&Active { channels })?)
    }
}

/// There is no word for a part in this API.
fn all_answered(complete: bool) -> Result<(), Error> {
    if complete {
        return Ok(());
    }
    Err(Error::internal(
        "not every node has answered within a second; try again",
    ))
}

impl From<Node> for Info {
    fn from(node: Node) -> Self {
        Self {
            uid: node.id,
            name: node.name,
            version: node.version,
            num_clients: node.connections,
            num_users: node.users,
            num_channels: node.channels,
            num_subs: node.subscriptions,
            uptime: node.uptime.map_or(0, |uptime| uptime.seconds),
        }
    }
}
