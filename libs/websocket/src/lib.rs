//! The server's side of the WebSocket protocol (RFC 6455), without I/O.
//!
//! Bytes in, messages out; payloads in, shareable frames out. Nothing here reads a socket or a clock, so the
//! crate fits any loop, and an idle connection costs what [`Parser`] is: three words and no buffer. No extension
//! is negotiated.
//!
//! In reading order: [`handshake`] opens a connection, [`Parser`] turns what a client sends into
//! [`Message`]s, [`frame`] builds what the server sends, [`Error`] says why a connection must be closed.
//!
//! ```
//! use tidings_websocket::{Message, Parser, frame};
//!
//! let mut parser = Parser::new(64 * 1024);
//! let mut received = *b"\x81\x82\x01\x02\x03\x04\x69\x6b"; // what one read gave: "hi", masked
//! let mut input = &mut received[..];
//! while let Some(message) = parser.next(&mut input)? {
//!     assert_eq!(message, Message::Text("hi".into()));
//! }
//! assert!(input.is_empty());
//! assert_eq!(frame::text(b"hi"), &b"\x81\x02hi"[..]);
//! # Ok::<(), tidings_websocket::Error>(())
//! ```

pub mod handshake;
mod header;
mod mask;
mod message;
mod parser;
mod pieces;
mod utf8;

pub mod error;
pub mod frame;

pub use error::Error;
pub use frame::FrameBuilder;
pub use message::{CloseFrame, Message};
pub use parser::Parser;
