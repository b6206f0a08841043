//! Publishes one event, as a backend in Rust does.

use anyhow::Result;
use tidings_client::{Client, Event};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let server = setting("TIDINGS_SERVER").unwrap_or_else(|| "127.0.0.1:9000".to_owned());
    let mut client = Client::new(&format!("http://{server}"))?;
    if let Some(key) = setting("TIDINGS_API_KEY") {
        client = client.with_key(&key)?;
    }
    let event = Event::new("task.created")
        .source("rust-example")
        .channel("tasks:1")
        .json(&serde_json::json!({ "title": "Hello from Rust" }))?;
    let published = client.publish(event).await?;
    let channels: Vec<_> = published
        .channels
        .iter()
        .map(|channel| channel.name.as_str())
        .collect();
    println!("published {} to {}", published.id, channels.join(", "));
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "an example has no configuration but its environment"
)]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
