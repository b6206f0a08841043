//! A real Redis, on a port that no client's connection can take while it is away.

use std::ops::{Deref, DerefMut};

use tidings_broker::test_util::RedisServer;

use crate::ports::Ports;

/// A `redis-server` that keeps nothing and ends when this is dropped. It can be killed, started again and paused.
pub struct Redis {
    server: RedisServer,
    _ports: Ports,
}

impl Redis {
    /// Starts one. `None`, said on standard output, when `redis-server` is not installed and need not be.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// Starts one with further arguments.
    #[must_use]
    pub fn start_with(arguments: &[&str]) -> Option<Self> {
        let mut redis = Self::reserve(arguments)?;
        redis.up();
        Some(redis)
    }

    /// One that is not running yet.
    #[must_use]
    pub fn away() -> Option<Self> {
        Self::reserve(&[])
    }

    fn reserve(arguments: &[&str]) -> Option<Self> {
        let ports = Ports::reserve();
        let server = RedisServer::reserve_port(ports.clients(), arguments)?;
        Some(Self {
            server,
            _ports: ports,
        })
    }
}

impl Deref for Redis {
    type Target = RedisServer;

    fn deref(&self) -> &RedisServer {
        &self.server
    }
}

impl DerefMut for Redis {
    fn deref_mut(&mut self) -> &mut RedisServer {
        &mut self.server
    }
}
