//! The harness of the end-to-end tests: real processes, a real Redis, real clients.
//!
//! A test starts `tidings` processes with [`Launch`], talks to their doors as [`Client`], [`Backend`] and
//! operator ([`Tidings::get`]), and waits with [`eventually()`]. Everything ends when it is dropped, and what a
//! process logged is printed when its test fails. The tests are in `tests/`.

mod application;
mod backend;
mod balancer;
mod binary;
pub mod checker;
mod client;
mod collector;
mod eventually;
pub mod fault;
pub mod follower;
mod launch;
mod ports;
mod postgres;
mod redis;
pub mod roamer;
mod sdk;
mod shell;
mod socket;
pub mod stream;
mod tidings;
mod token;
mod turns;
pub mod visitor;
mod way;

pub use application::{Application, Asked};
pub use backend::{Backend, event};
pub use balancer::Balancer;
pub use binary::path as binary;
pub use client::{Client, Plain, handshake};
pub use collector::{Collector, text};
pub use eventually::{PATIENCE, eventually, in_time};
pub use launch::{Exit, Launch, command};
pub use postgres::{Postgres, Session};
pub use redis::Redis;
pub use sdk::{Sdk, node, python};
pub use shell::{Shell, shell};
pub use tidings::Tidings;
pub use token::{API_KEY, CONFIG, expired_token, signed, subscription_token, token, token_for};
pub use turns::Turns;
pub use way::{Way, has_node, in_every_way};
