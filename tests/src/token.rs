//! Who the tests are: the secrets that they configure, and tokens signed with them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tidings_auth::token::{Expected, Minter};
use tidings_core::Secret;

const SECRET: &str = "a secret of the tests, long enough";

/// The key that backends show.
pub const API_KEY: &str = "the-key-of-the-tests";

/// What every node is configured with unless a test says otherwise: a token key, an API key, and namespaces with
/// and without presence.
pub const CONFIG: &str = r#"
[clients.token]
hmac_secret = "a secret of the tests, long enough"

[[backends.key]]
name = "tests"
key = "the-key-of-the-tests"

[[namespace]]
name = "tasks"
presence = true
allow_subscribe_for_client = true
allow_publish_for_subscriber = true
allow_presence_for_subscriber = true

[[namespace]]
name = "news"
allow_subscribe_for_client = true

[[route]]
event = "task.*"
channels = ["tasks:{tenant}", "news:{data.assignee_id}"]
"#;

/// A token for `user` that is good for an hour.
#[must_use]
pub fn token(user: &str) -> String {
    token_for(user, HOUR)
}

/// A token for `user` that is good for so long, to the second.
#[must_use]
pub fn token_for(user: &str, ttl: Duration) -> String {
    minted(user, ttl, SystemTime::now())
}

/// A token for `user` that was good until an hour ago.
#[must_use]
pub fn expired_token(user: &str) -> String {
    minted(user, HOUR, SystemTime::now() - 2 * HOUR)
}

/// A token that lets `user` into `channel` for so long, to the second.
///
/// # Panics
/// When the clock is wrong.
#[must_use]
pub fn subscription_token(user: &str, channel: &str, ttl: Duration) -> String {
    signed(json!({ "sub": user, "channel": channel, "exp": until(ttl) }))
}

/// A token that says exactly this, and that it is good for an hour unless `claims` say otherwise.
///
/// # Panics
/// When they are not an object.
#[must_use]
pub fn signed(mut claims: Value) -> String {
    if claims["exp"].is_null() {
        claims["exp"] = until(HOUR).into();
    }
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).expect("claims are JSON")
}

/// So much later than now, as tokens say it.
fn until(ttl: Duration) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    (now.expect("it is later than 1970") + ttl).as_secs()
}

const HOUR: Duration = Duration::from_secs(60 * 60);

fn minted(user: &str, ttl: Duration, now: SystemTime) -> String {
    let minter = Minter::hs256(&Secret::from(SECRET.to_owned()), Expected::default())
        .expect("the secret is not empty");
    minter.connection(user, &[], None, ttl, now)
}
