//! What the pages of `docs/` say is so: their examples are run as they are written.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod clients;
mod guarantees;
mod page;
mod publishing;
mod routes;
