//! Channel names, checked once where they enter and trusted from then on.
//!
//! A name is part of Redis keys with a hash tag (`tidings:stream:{NAME}`), of URLs (`/ws/{channel}`) and of
//! log lines, so the alphabet is what is harmless in all three: printable ASCII without space and braces.

use std::{borrow::Borrow, fmt, sync::Arc};

/// The longest name, in bytes. The Centrifuge protocol's own limit.
pub const MAX_LEN: usize = 255;

/// The name that clients subscribe to and publications are sent to: `namespace:rest`, or just `rest`.
///
/// Cheap to clone. 1 to [`MAX_LEN`] bytes of printable ASCII without space, `{` and `}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel(Arc<str>);

/// Why a text is no channel name. Its display is meant for the person who sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The name has no characters.
    #[error("channel name is empty")]
    Empty,
    /// The name is longer than [`MAX_LEN`] bytes.
    #[error("channel name is {len} bytes long, at most {MAX_LEN} are allowed")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// A character that could break a Redis hash tag, a URL or a log line.
    #[error(
        "channel name has {character:?} at byte {at}; allowed is printable ASCII without space, '{{' and '}}'"
    )]
    Forbidden {
        /// The offending character.
        character: char,
        /// Where it stands, in bytes.
        at: usize,
    },
}

impl Channel {
    /// Checks a name.
    ///
    /// # Errors
    /// When it is empty, too long, or has a character outside the alphabet.
    pub fn parse(name: &str) -> Result<Self, Error> {
        if name.is_empty() {
            return Err(Error::Empty);
        }
        if name.len() > MAX_LEN {
            return Err(Error::TooLong { len: name.len() });
        }
        match name
            .char_indices()
            .find(|(_, c)| !c.is_ascii_graphic() || matches!(c, '{' | '}'))
        {
            Some((at, character)) => Err(Error::Forbidden { character, at }),
            None => Ok(Self(name.into())),
        }
    }

    /// The whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the first `:`, after a leading `$` (private channels); `None` when there is no `:`.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        let name = self.0.strip_prefix('$').unwrap_or(&self.0);
        name.split_once(':').map(|(namespace, _)| namespace)
    }
}

impl Borrow<str> for Channel {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl std::str::FromStr for Channel {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::parse(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_split_at_its_first_colon() {
        let namespace = |name| Channel::parse(name).unwrap().namespace().map(str::to_owned);
        assert_eq!(namespace("tasks:acme:1").as_deref(), Some("tasks"));
        assert_eq!(namespace("$tasks:1").as_deref(), Some("tasks"));
        assert_eq!(namespace("news"), None);
        assert_eq!(namespace(":odd").as_deref(), Some(""));
    }

    #[test]
    fn a_name_that_could_break_a_hash_tag_is_refused() {
        assert_eq!(
            Channel::parse("a}b"),
            Err(Error::Forbidden {
                character: '}',
                at: 1
            })
        );
        assert_eq!(
            Channel::parse("{a"),
            Err(Error::Forbidden {
                character: '{',
                at: 0
            })
        );
    }

    #[test]
    fn a_name_that_could_break_a_line_or_a_url_is_refused() {
        for name in ["a b", "a\nb", "a\0", "\u{7f}", "tâche:1"] {
            assert!(
                matches!(Channel::parse(name), Err(Error::Forbidden { .. })),
                "{name:?}"
            );
        }
    }

    #[test]
    fn length_is_bounded_on_both_sides() {
        assert_eq!(Channel::parse(""), Err(Error::Empty));
        assert!(Channel::parse(&"x".repeat(MAX_LEN)).is_ok());
        assert_eq!(
            Channel::parse(&"x".repeat(MAX_LEN + 1)),
            Err(Error::TooLong { len: 256 })
        );
    }
}
