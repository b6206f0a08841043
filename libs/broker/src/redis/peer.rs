//! The Redis at the other end, by a name that can be shown, and its words made fit to be shown.
//!
//! Here, and only here, what a server says becomes what we say. A server, or a proxy before it, that does not know a
//! command repeats its arguments, and the arguments of HELLO and AUTH are the password.

use std::{fmt::Display, sync::Arc};

use redis::RedisError;
use tidings_core::Secret;

use super::RedisUrl;
use crate::{Error, error::is_temporary};

/// What comes before the arguments of a command that the server does not know.
const ARGUMENTS: &str = ", with args beginning with";

/// Who was asked.
#[derive(Clone)]
pub(super) struct Peer {
    name: Arc<str>,
    password: Option<Secret>,
}

impl Peer {
    pub(super) fn new(url: &RedisUrl) -> Result<Self, Error> {
        let info = url.connection_info()?;
        let password = info.redis_settings().password();
        Ok(Self {
            name: url.to_string().into(),
            password: password
                .filter(|password| !password.is_empty())
                .map(|password| password.to_owned().into()),
        })
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
            Error::Refused {
                peer: self.name.clone(),
                answer: self.masked(why),
            }
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
        match &self.password {
            Some(password) => said.replace(password.expose(), "***"),
            None => said,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_repeats_of_our_words_is_not_shown() {
        let peer = Peer::new(&RedisUrl::parse("redis://:hunter%212@cache").unwrap()).unwrap();
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

        let open = Peer::new(&RedisUrl::parse("redis://:@cache").unwrap()).unwrap();
        assert_eq!(open.masked("no"), "no");
    }
}
