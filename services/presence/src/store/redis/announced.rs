//! Whom the listeners of a channel have been told of.

use std::collections::{BTreeMap, HashMap, HashSet};

use prost::Message as _;
use tidings_core::{Channel, ClientId, ClientInfo};
use tidings_proto::bus as wire;

use super::{
    super::{ANNOUNCED_MAX, Announced, Error, Per},
    Redis, Who, entry,
};

type Fields = HashMap<Vec<u8>, Vec<u8>>;

impl Redis {
    /// Not as far as leases live: whose lease has ended is announced as leaving by the sweep.
    pub(in super::super) async fn announced(&self, channel: &Channel) -> Result<Announced, Error> {
        let complete = self.live().await?.complete;
        let keys = [
            self.keys.presence(channel),
            self.keys.beside(channel, "leaving"),
            self.keys.beside(channel, "quiet"),
        ];
        let most = ANNOUNCED_MAX.to_string();
        let (large, members, leaving, quiet): (bool, Fields, Fields, HashSet<String>) =
            self.run(&self.scripts.announced, &keys, &[&most]).await?;
        let who = |info: &ClientInfo| match self.options.per {
            Per::User => Who::new(&info.user, info.client),
            Per::Client => Who::Client(info.client),
        };
        let members = members
            .iter()
            .filter_map(|(client, value)| entry::decode(channel, client, value))
            .filter(|(member, _)| member.announced)
            .map(|(member, _)| member.info);
        let mut known: BTreeMap<Who, ClientInfo> = BTreeMap::new();
        for info in members.chain(leaving.values().filter_map(|value| left(value))) {
            let who = who(&info);
            if !quiet.contains(&who.to_string()) {
                known.entry(who).or_insert(info);
            }
        }
        Ok(Announced {
            members: known.into_values().collect(),
            large,
            complete,
            per: self.options.per,
        })
    }
}

/// Who is leaving: when, the client; a line feed, the info.
fn left(value: &[u8]) -> Option<ClientInfo> {
    let at = value.iter().position(|byte| *byte == b'\n')?;
    let (_, client) = std::str::from_utf8(&value[..at]).ok()?.split_once(' ')?;
    let info = wire::ClientInfo::decode(&value[at + 1..]).ok()?;
    Some(ClientInfo {
        user: info.user.into(),
        client: ClientId::parse(client)?,
        conn_info: info.conn_info,
        chan_info: info.chan_info,
    })
}
