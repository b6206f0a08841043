//! Where the user's backend is, and what of the clients it is told: `[clients.proxy]` in the configuration.

use std::{collections::BTreeMap, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize, Serializer};
use tidings_core::{Namespace, Secret};

use super::address::Address;
use crate::config::Error;

/// Headers that belong to the message that carries a question, not to the client.
const OURS: [&str; 12] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The most questions under way at once.
const MOST: usize = 65_536;

/// Which questions the user's backend answers. Each is asked where its table names an endpoint.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Who is a client that shows no token?
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<Proxy>,
    /// Does a connection go on that `connect` let in and that has expired? Absent: the client must show a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh: Option<Proxy>,
    /// May a client subscribe? Asked in namespaces with `subscribe_proxy_enabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscribe: Option<Proxy>,
    /// May a client publish this? Asked in namespaces with `publish_proxy_enabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish: Option<Proxy>,
    /// Does a subscription go on that has expired? Asked in namespaces with `sub_refresh_proxy_enabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_refresh: Option<Proxy>,
    /// What is the answer to an `rpc`?
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpc: Option<Proxy>,
}

/// How one question is asked.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Proxy {
    /// `http://` or `https://`: JSON is posted there. `grpc://` or `grpcs://`, a host and a port: the service
    /// `centrifugal.centrifugo.proxy.CentrifugoProxy` is called there.
    #[serde(serialize_with = "shown")]
    pub endpoint: String,
    /// How long the client's command waits for the answer at most, for its turn too.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Questions under way at once. Others wait for their turn, four times as many at most.
    pub concurrency: usize,
    /// Headers of the client's handshake that the backend gets too, such as `Cookie`.
    pub http_headers: Vec<String>,
    /// Headers that it gets with every question, whatever the client sent under these names.
    pub static_headers: BTreeMap<String, Secret>,
}

/// What `tidings config print` shows of an endpoint: what stands behind a `?` may be a secret.
fn shown<S: Serializer>(endpoint: &str, serializer: S) -> Result<S::Ok, S::Error> {
    match endpoint.split_once('?') {
        Some((before, _)) => serializer.collect_str(&format_args!("{before}?***")),
        None => serializer.serialize_str(endpoint),
    }
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            timeout: Duration::from_secs(1),
            concurrency: 256,
            http_headers: Vec::new(),
            static_headers: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Everyone that is configured, by their keys.
    pub(super) fn each(&self) -> impl Iterator<Item = (&'static str, &Proxy)> {
        let all = [
            ("connect", &self.connect),
            ("refresh", &self.refresh),
            ("subscribe", &self.subscribe),
            ("publish", &self.publish),
            ("sub_refresh", &self.sub_refresh),
            ("rpc", &self.rpc),
        ];
        all.into_iter()
            .filter_map(|(key, proxy)| Some((key, proxy.as_ref()?)))
    }

    /// Checks what the types cannot.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.each()
            .try_for_each(|(key, proxy)| proxy.check(key).map(drop))
    }

    /// Whether every namespace that leaves a decision to the backend finds one.
    ///
    /// # Errors
    /// Names the namespace's option and the key that is missing.
    pub fn serve(&self, namespaces: &[Namespace]) -> Result<(), Error> {
        for namespace in namespaces {
            for (enabled, proxy, key) in [
                (namespace.subscribe_proxy_enabled, &self.subscribe, "subscribe"),
                (namespace.publish_proxy_enabled, &self.publish, "publish"),
                (
                    namespace.sub_refresh_proxy_enabled,
                    &self.sub_refresh,
                    "sub_refresh",
                ),
            ] {
                if enabled && proxy.is_none() {
                    return Err(Error {
                        key: format!("clients.proxy.{key}.endpoint").into(),
                        why: format!(
                            "is missing, and namespace {:?} has `{key}_proxy_enabled`: say where the backend is",
                            namespace.name
                        ),
                    });
                }
            }
        }
        Ok(())
    }

    /// The headers of clients that some question needs, lower case.
    pub(crate) fn kept_headers(&self) -> Vec<HeaderName> {
        let names = self.each().flat_map(|(_, proxy)| &proxy.http_headers);
        let mut names: Vec<_> = names.filter_map(|name| name.parse().ok()).collect();
        names.sort_unstable_by(|a: &HeaderName, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        names
    }
}

/// A configuration that has been checked.
pub(super) struct Checked {
    pub(super) address: Address,
    /// Headers to copy.
    pub(super) copied: Vec<HeaderName>,
    /// Headers to add.
    pub(super) fixed: HeaderMap,
}

impl Proxy {
    /// Checks what the types cannot. `name` is its key in `[clients.proxy]`.
    pub(super) fn check(&self, name: &str) -> Result<Checked, Error> {
        let wrong = |key: &str| {
            let key = format!("clients.proxy.{name}.{key}");
            |why| Error { key: key.into(), why }
        };
        if self.timeout.is_zero() {
            return Err(wrong("timeout")("must be longer than 0".to_owned()));
        }
        if !(1..=MOST).contains(&self.concurrency) {
            return Err(wrong("concurrency")(format!("must be from 1 to {MOST}")));
        }
        let copied = self.http_headers.iter().map(|name| header(name));
        let fixed = self.static_headers.iter().map(|(name, value)| {
            let name = header(name)?;
            let mut value = HeaderValue::from_str(value.expose())
                .map_err(|_| format!("the value of {:?} has what no header can have", name.as_str()))?;
            value.set_sensitive(true);
            Ok((name, value))
        });
        Ok(Checked {
            address: Address::parse(&self.endpoint).map_err(wrong("endpoint"))?,
            copied: copied.collect::<Result<_, _>>().map_err(wrong("http_headers"))?,
            fixed: fixed.collect::<Result<_, _>>().map_err(wrong("static_headers"))?,
        })
    }
}

fn header(name: &str) -> Result<HeaderName, String> {
    let parsed: HeaderName = name
        .parse()
        .map_err(|_| format!("{name:?} is no name of a header"))?;
    if OURS.contains(&parsed.as_str()) || parsed.as_str().starts_with("grpc-") {
        return Err(format!("{name:?} is set by the gateway itself; remove it"));
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests;
