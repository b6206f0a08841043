//! Where clients are: by their connection, or by what a proxy in front of us says of it.
//!
//! `X-Forwarded-For` is a list to which every proxy appends whom it heard from. What is not from a proxy of ours can be
//! anything, so the list is read from its end for as long as trusted proxies speak, and no further.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use http::HeaderMap;
use ipnet::IpNet;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    pace::Pace,
    quota::{Entered, Quota},
};

const FORWARDED: &str = "x-forwarded-for";

/// How often it is said at most that an address has all its connections.
const PAUSE: Duration = Duration::from_secs(60);

/// How many requests of one address are passed on to other nodes: so many a second, and a burst. Anyone can send them,
/// for a made-up session too, and each costs every node's Redis. A client that answers pings so sends one in 25 s.
const FORWARDED_PER_SECOND: u32 = 50;
const FORWARDED_AT_ONCE: u32 = 200;

/// The proxies that are believed: `clients.trusted_proxies`.
#[derive(Debug)]
pub(crate) struct Proxies(Vec<IpNet>);

/// An entry that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{entry:?} is no network; expected one such as 10.0.0.0/8 or fd00::/8, or one address")]
pub(crate) struct NoNetwork {
    entry: String,
}

impl Proxies {
    /// # Errors
    /// At the first entry that is neither a network nor an address.
    pub(crate) fn new(trusted: &[String]) -> Result<Self, NoNetwork> {
        let network = |entry: &String| {
            let address = || entry.parse::<IpAddr>().ok().map(IpNet::from);
            let network = entry.parse().ok().or_else(address);
            network.ok_or_else(|| NoNetwork { entry: entry.clone() })
        };
        trusted.iter().map(network).collect::<Result<_, _>>().map(Self)
    }

    /// Where a client is whose request came from `peer`: the last address in the list that is not a trusted proxy. Where
    /// a trusted proxy says nothing that can be read, it is the proxy itself.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        // A header that stands several times is one list (RFC 9110 section 5.3).
        let said = headers.get_all(FORWARDED).iter().rev();
        let mut said = said.flat_map(|list| list.as_bytes().rsplit(|byte| *byte == b','));
        while self.trusts(client) {
            match said.next().and_then(address) {
                Some(before) => client = before,
                None => break,
            }
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// One element of the list; some proxies add the port.
fn address(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse::<IpAddr>().ok();
    let address = address.or_else(|| text.parse::<SocketAddr>().ok().map(|both| both.ip()));
    address.map(|address| address.to_canonical())
}

/// How many connections each address may have, and how many of its requests are passed on.
pub(crate) struct Addresses {
    proxies: Proxies,
    quota: Quota<IpAddr>,
    passed_on: Pace,
    said: Mutex<Option<Instant>>,
}

/// A client's place among those of its address.
pub(crate) type Place = Entered<IpAddr>;

/// An address has all the connections that one may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there are too many connections from this address; close one, or try again later")]
pub(crate) struct Full;

impl Addresses {
    pub(crate) fn new(proxies: Proxies, most: usize) -> Self {
        Self {
            proxies,
            quota: Quota::new(most),
            passed_on: Pace::new(FORWARDED_PER_SECOND, FORWARDED_AT_ONCE),
            said: Mutex::new(None),
        }
    }

    /// Takes a place for a client whose request came from `peer`.
    ///
    /// # Errors
    /// When its address has none left.
    pub(crate) fn enter(&self, peer: IpAddr, headers: &HeaderMap) -> Result<Place, Full> {
        let client = self.proxies.client(peer, headers);
        self.quota.enter(&whole(client)).ok_or_else(|| {
            self.say(client);
            Full
        })
    }

    /// Whether a request that came from `peer` may be passed on to another node.
    pub(crate) fn may_pass_on(&self, peer: IpAddr, headers: &HeaderMap) -> bool {
        self.passed_on.keeps(whole(self.proxies.client(peer, headers)))
    }

    /// Tells whoever runs this node, but not for every attempt of a flood.
    fn say(&self, client: IpAddr) {
        let now = Instant::now();
        let mut said = self.said.lock();
        if said.is_none_or(|then| then + PAUSE <= now) {
            *said = Some(now);
            drop(said);
            tracing::warn!(
                client.address = %client,
                "an address has reached clients.limits.connections_per_address; if it is a proxy, list it in \
                 clients.trusted_proxies"
            );
        }
    }
}

/// What counts as one address: of IPv6 the network of one subscriber, who has all 2^64 addresses in it (RFC 6177).
fn whole(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests;
