//! The rules, one sentence each: commands, answers and instants in, actions out.

mod authorization;
mod channels;
mod connect;
mod expiry;
mod fixture;
mod heartbeat;
mod invariants;
mod only;
mod outside;
mod recovery;
mod refresh;
mod requests;
mod turns;
mod unasked;
mod wishes;
