//! The node that the scenarios play on, and its backend.

use serde_json::Value;
use tidings_tests::{Backend, CONFIG, Launch, Tidings, event};

/// Namespaces beside those of [`CONFIG`]: `chat` offers everything to whoever asks for it, `feed` gives recovery unasked,
/// `quiet` lets a client listen and no more.
const NAMESPACES: &str = r#"
[[namespace]]
name = "chat"
presence = true
join_leave = true
history_size = 100
history_ttl = "10m"
allow_positioning = true
allow_recovery = true
allowed_delta_types = ["fossil"]
allow_tags_filter = true
allow_user_limited_channels = true
allow_subscribe_for_client = true
allow_publish_for_subscriber = true
allow_presence_for_subscriber = true
allow_history_for_subscriber = true

[[namespace]]
name = "feed"
history_size = 5
history_ttl = "10m"
force_recovery = true
allow_subscribe_for_client = true

[[namespace]]
name = "quiet"
allow_subscribe_for_client = true
"#;

/// A node with them.
pub(crate) fn launch() -> Launch {
    configured("")
}

/// The same, and `more` of the configuration before the first table, so that it can begin with top-level keys.
pub(crate) fn configured(more: &str) -> Launch {
    Launch::new("standalone").config(&format!("{more}\n{CONFIG}{NAMESPACES}"))
}

/// An event of this data in a channel, from a backend.
pub(crate) async fn publish(server: &Tidings, channel: &str, data: &Value) {
    let backend = Backend::new(&server.backends());
    let event = event("task.created", &data.to_string(), &[channel]);
    backend.publish(event).await.unwrap();
}
