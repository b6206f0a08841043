//! Publishes events to Tidings, from Rust.
//!
//! ```no_run
//! use tidings_client::{Client, Event};
//!
//! # async fn example() -> Result<(), tidings_client::Error> {
//! let client = Client::new("http://localhost:9000")?.with_key("the key of task-service")?;
//! let event = Event::new("task.created")
//!     .source("task-service")
//!     .attribute("tenant", "acme")
//!     .json(&serde_json::json!({ "id": 42, "title": "Write the report" }))?;
//! let published = client.publish(event).await?;
//! println!("{} channels heard of {}", published.channels.len(), published.id);
//! # Ok(())
//! # }
//! ```
//!
//! With TLS (`https://…`) the system's authorities are trusted, or [others](Client::with_authority), and a
//! [certificate](Client::with_certificate) can be shown.
//!
//! A publish that fails for a reason that passes (the node leaves, Redis is away, the key's rate) is tried again, with the
//! same id and a pause that grows, until its deadline: it is delivered once, however often it was tried. The trace of the
//! [current span](tracing::Span::current) goes along, where spans are exported with `tracing-opentelemetry`.
//!
//! In reading order: [`Event`] is what is published, [`Client`] publishes it, [`Published`] is what became of it.

mod client;
mod error;
mod event;
mod published;
mod trace;

pub use client::Client;
pub use error::Error;
pub use event::Event;
pub use published::{Channel, Published};
