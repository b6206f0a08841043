//! The Redis at the other end, by a name that can be shown, and its words made fit to be shown.
//!
//! Here, and only here, what a server says becomes what we say. A server, or a proxy before it, that does not know a
//! command repeats its arguments, and the arguments of HELLO and AUTH are the password.

use std::{fmt::Display, sync::Arc};

use redis::RedisError;
use tidings_core::Secret;

use super::{Config, slots::Address};
use crate::{Error, error::is_temporary};

/// What comes before the arguments of a command that the server does not know.
const ARGUMENTS: &str = ", with args beginning with";

/// Who was asked.
#[derive(Clone)]
pub(super) struct Peer {
    name: Arc<str>,
    passwords: Vec<Secret>,
}

impl Peer {
    pub(super) fn new(config: &Config) -> Result<Self, Error> {
        let sentinels = config.sentinel.iter().flat_map(|sentinel| &sentinel.nodes);
        let mut passwords = Vec::new();
        for url in config.url.iter().chain(&config.cluster).chain(sentinels) {
            let info = url.connection_info()?;
            let password = info.redis_settings().password();
            passwords.extend(password.map(|password| Secret::from(password.to_owned())));
        }
        let sentinel = config.sentinel.iter();
        passwords.extend(sentinel.filter_map(|sentinel| sentinel.password.clone()));
        passwords.retain(|password| !password.expose().is_empty());
        Ok(Self {
            name: config.place().into(),
            passwords,
        })
    }

    /// One of its nodes.
    pub(super) fn of_node(&self, address: &Address) -> Self {
        Self {
            name: format!("{address} of {}", self.name).into(),
            passwords: self.passwords.clone(),
        }
    }

    /// Its address, the password masked.
    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What a failed command means, by Redis' own word for it.
    pub(super) fn error(&self, why: &RedisError) -> Error {
        if is_temporary(why) {
            self.away(why)
        } else {
            self.refused(why)
        }
    }

    /// It said no, in these words.
    pub(super) fn refused(&self, answer: impl Display) -> Error {
        Error::Refused {
            peer: self.name.clone(),
            answer: self.masked(answer),
        }
    }

    /// It cannot be used.
    pub(super) fn away(&self, why: impl Display) -> Error {
        Error::away(&self.name, self.masked(why))
    }

    fn masked(&self, said: impl Display) -> String {
        let mut said = said.to_string();
        if let Some(arguments) = said.find(ARGUMENTS) {
            said.truncate(arguments);
        }
        for password in &self.passwords {
            said = said.replace(password.expose(), "***");
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::RedisUrl;

    fn at(url: &str) -> Peer {
        Peer::new(&Config::new(RedisUrl::parse(url).unwrap())).unwrap()
    }

    #[test]
    fn what_a_server_repeats_of_our_words_is_not_shown() {
        let peer = at("redis://:hunter%212@cache");
        let check = |said: &str, shown| assert_eq!(peer.masked(said), shown);
        check(
            "unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'default' 'hunter!2'",
            "unknown command 'HELLO'",
        );
        check(
            "unknown command `AUTH`, with args beginning with: `hunt",
            "unknown command `AUTH`",
        );
        check("cannot do AUTH hunter!2", "cannot do AUTH ***");
        check("Connection refused", "Connection refused");

        let open = at("redis://:@cache");
        assert_eq!(open.masked("no"), "no");
    }
}
