//! Keys that are published at an address: kept for an hour, asked for when a token names one that is not there.
//!
//! There is no task. Looking a key up never waits; it says when it would be worth [fetching](Jwks::fetch), and the
//! caller does that where waiting is allowed, then looks again.

use std::{
    collections::HashMap,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use super::{
    Check, Error,
    fetch::{self, Endpoint},
    jwk,
    key::Key,
};

/// How long keys count before they are fetched anew. A key that is withdrawn is accepted for as long.
const TTL: Duration = Duration::from_secs(60 * 60);

/// How long nobody asks again, whatever tokens name and however the last time went.
const PAUSE: Duration = Duration::from_secs(60);

/// How long after a fetch a key that is not in the set is known not to exist. Later it may have been added since.
const CERTAIN: Duration = Duration::from_secs(10);

/// A key set at an address, as it was when it was last seen. While the address is away, its keys go on counting.
pub(super) struct Jwks {
    endpoint: Endpoint,
    known: ArcSwap<Known>,
    /// Held by whoever is asking.
    flight: Mutex<()>,
}

#[derive(Clone, Default)]
struct Known {
    keys: Arc<HashMap<String, Arc<Key>>>,
    /// When `keys` were asked for.
    fetched: Option<SystemTime>,
    /// When anything was asked for.
    asked: Option<SystemTime>,
}

impl Jwks {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            known: ArcSwap::default(),
            flight: Mutex::default(),
        }
    }

    /// The key that goes by `kid`.
    pub(super) fn find(&self, kid: &str, now: SystemTime) -> Check<Arc<Key>> {
        let known = self.known.load();
        let may_ask = !within(PAUSE, known.asked, now);
        match known.keys.get(kid) {
            Some(key) if !may_ask || within(TTL, known.fetched, now) => Check::Done(Ok(key.clone())),
            Some(_) => Check::Fetch,
            None if may_ask || self.flight.try_lock().is_err() => Check::Fetch,
            None if within(CERTAIN, known.fetched, now) => Check::Done(Err(Error::invalid(
                "header 'kid' names no key of the published set",
            ))),
            None => Check::Done(Err(Error::Unavailable)),
        }
    }

    /// Asks for the keys, unless someone did within [`PAUSE`]; when someone is asking, waits for them instead.
    pub(super) async fn fetch(&self, now: SystemTime) -> Result<(), fetch::Error> {
        let _flight = self.flight.lock().await;
        let before = self.known.load_full();
        if within(PAUSE, before.asked, now) {
            return Ok(());
        }
        // Said before asking: who gives up waiting must not make the next one ask again.
        self.known.store(Arc::new(Known {
            asked: Some(now),
            ..Known::clone(&before)
        }));
        let keys = self.endpoint.get(jwk::read).await?;
        self.known.store(Arc::new(Known {
            keys: Arc::new(keys),
            fetched: Some(now),
            asked: Some(now),
        }));
        Ok(())
    }
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, known, .. } = self;
        f.debug_struct("Jwks")
            .field("endpoint", endpoint)
            .field("keys", &known.load().keys.len())
            .finish_non_exhaustive()
    }
}

/// Whether `then` is less than `span` before `now`. A clock that was set back counts as long ago: asking once more
/// does no harm.
fn within(span: Duration, then: Option<SystemTime>, now: SystemTime) -> bool {
    then.is_some_and(|then| now.duration_since(then).is_ok_and(|age| age < span))
}
