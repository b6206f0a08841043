//! One connection's rules as a state machine: a command and the time go in, actions come out.
//!
//! A [`Session`] has no socket, no clock and no lock, and never awaits. Its owner (a gateway's core) feeds it
//! commands, answers to the slow work it asked for, and ticks; and carries out its [`Action`]s in order.
//! Whatever a client may do, and what becomes of it when it does something else, is decided here and only here.
//!
//! In reading order: [`action`] is what goes out and comes back, `rules` and `transport` are what it is given, `session`
//! is the machine, `turn` says which command may run while another is under way, `heartbeat` and `budget` are its
//! clocks, `permission` its law.

pub mod action;
mod budget;
mod heartbeat;
mod permission;
mod rules;
mod session;
mod transport;
mod turn;

pub use action::{
    Action, Answer, Base, Evidence, Expiry, Grant, Hears, Identity, Place, Query, Read, Refusal, Renewal,
    RenewedBy, Seen,
};
pub use rules::{Backend, Rules};
pub use session::Session;
pub use transport::Transport;
