//! Who is speaking: a client by its [`token`], a backend by its [`keys`].
//!
//! Time is passed in and nothing awaits, but for one thing: keys that are published elsewhere are fetched by
//! [`token::Verifier::fetch`]. What follows from a refusal (an error, a close code, a status) is decided where the
//! bytes are: in the session and in each service's door.

pub mod keys;
mod method;
pub mod rate;
pub mod token;

pub use keys::{Key, Keys};
pub use method::Method;
pub use token::{Minter, Verifier};
