//! API keys: what a backend shows at its door, and what it may do with it.
//!
//! It shows a secret, or the client certificate of its connection, or has to show both: as its entry says.

use std::{num::NonZeroU32, sync::Arc};

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use tidings_core::{Channel, Glob, Secret, glob};

use crate::{method::Method, rate::Rate};

/// One `[[backends.key]]` of the configuration.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who uses it; named in errors and logs in place of the key.
    pub name: String,
    /// The key itself: visible ASCII, so that it fits into a header. Absent: `certificate` stands for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Secret>,
    /// A name in the client certificate of its user's connections (a DNS name or URI of its alternative names). With
    /// `key`, both have to be shown: the key alone is of no use to whoever finds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Event types that may be published, as globs (`task.*`). Absent: all. Empty: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<String>>,
    /// Channels that may be published to and looked into, as globs (`tasks:*`). Absent: all. Empty: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<Vec<String>>,
    /// What may be asked for (`publish`, `presence`). Absent: everything. Empty: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<Method>>,
    /// How many events may be published, and calls about connections made, in how much time (`1000/s`). Absent: as
    /// many as there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// How many of them may come at once after a silence. Default: as many as `rate` says. Only with `rate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<NonZeroU32>,
}

/// All configured keys.
#[derive(Debug, Clone, Default)]
pub struct Keys(Vec<Arc<Key>>);

/// A checked key with its scopes. Its debug output shows the name and the scopes, never the key.
#[derive(Debug, Clone)]
pub struct Key {
    name: String,
    secret: Option<Secret>,
    certificate: Option<String>,
    events: Option<Vec<Glob>>,
    channels: Option<Vec<Glob>>,
    methods: Option<Vec<Method>>,
    limit: Option<Limit>,
    inside: bool,
}

/// How fast a key may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// In the long run.
    pub rate: Rate,
    /// At once, after a silence.
    pub burst: NonZeroU32,
}

/// Why what a caller shows is not enough.
#[derive(Debug, Clone, Copy)]
pub enum Refused<'k> {
    /// It is none of the keys.
    Unknown,
    /// It is this one, and the connection's certificate is not the one that belongs to it.
    Certificate(&'k Key),
}

/// Why a list of keys cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A key without a name could not be told from others in logs.
    #[error("backends.key number {number} has an empty name")]
    NoName {
        /// Its place in the list, from 1.
        number: usize,
    },
    /// Two entries have one name.
    #[error("backends.key {name:?} is configured twice")]
    SameName {
        /// The name.
        name: String,
    },
    /// Two entries have one key, so its scopes would be those of either.
    #[error("backends.key {first:?} and {second:?} have the same key; give each its own")]
    SameKey {
        /// The name of one.
        first: String,
        /// The name of the other.
        second: String,
    },
    /// Two entries have one certificate and no key, so its scopes would be those of either.
    #[error("backends.key {first:?} and {second:?} have the same certificate and no key; give each its own")]
    SameCertificate {
        /// The name of one.
        first: String,
        /// The name of the other.
        second: String,
    },
    /// There would be no way to know its user.
    #[error("backends.key {name:?} has neither a key nor a certificate")]
    Nothing {
        /// The name.
        name: String,
    },
    /// A name that no certificate has.
    #[error("backends.key {name:?}: the certificate's name is empty")]
    Nameless {
        /// The name.
        name: String,
    },
    /// An empty key would let everyone in.
    #[error("backends.key {name:?}: the key is empty")]
    Empty {
        /// The name.
        name: String,
    },
    /// A key that could not be sent in a header.
    #[error(
        "backends.key {name:?}: the key has a character that is not visible ASCII (a space or a line break at its end?)"
    )]
    Character {
        /// The name.
        name: String,
    },
    /// A burst of what is not limited.
    #[error("backends.key {name:?}: `burst` needs `rate`")]
    Burst {
        /// The name.
        name: String,
    },
    /// A scope that is no glob.
    #[error("backends.key {name:?}: {list}: {source}")]
    Pattern {
        /// The name.
        name: String,
        /// `events` or `channels`.
        list: &'static str,
        /// What is wrong with it.
        source: glob::Error,
    },
}

impl Keys {
    /// Checks a list as a whole.
    ///
    /// # Errors
    /// When a name or a key is empty or stands twice, a key does not fit into a header, or a scope is no glob.
    pub fn new(list: Vec<Config>) -> Result<Self, Error> {
        let mut keys: Vec<Arc<Key>> = Vec::with_capacity(list.len());
        for (index, config) in list.into_iter().enumerate() {
            if config.name.is_empty() {
                return Err(Error::NoName { number: index + 1 });
            }
            let key = Key::new(config).map(Arc::new)?;
            for other in &keys {
                if other.name == key.name {
                    return Err(Error::SameName {
                        name: key.name.clone(),
                    });
                }
                let (first, second) = (other.name.clone(), key.name.clone());
                match (&other.secret, &key.secret) {
                    (Some(one), Some(another)) if one.expose() == another.expose() => {
                        return Err(Error::SameKey { first, second });
                    }
                    (None, None) if other.certificate == key.certificate => {
                        return Err(Error::SameCertificate { first, second });
                    }
                    _ => {}
                }
            }
            keys.push(key);
        }
        Ok(Self(keys))
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.0.iter().map(Arc::as_ref)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whose call it is that shows `presented`, on a connection whose client certificate has `names` (none: there is
    /// no certificate). All keys are compared in full, so the time taken says nothing about how near a guess came
    /// (beyond the lengths of the keys).
    ///
    /// # Errors
    /// When it is nobody's, or somebody's whose certificate is not there.
    pub fn authenticate(&self, presented: &str, names: &[String]) -> Result<&Arc<Key>, Refused<'_>> {
        let mut found = Err(Refused::Unknown);
        for key in &self.0 {
            let Some(secret) = &key.secret else { continue };
            let equal = secret.expose().as_bytes().ct_eq(presented.as_bytes());
            if bool::from(equal) {
                found = if key.certificate.is_none() || key.is_named_in(names) {
                    Ok(key)
                } else {
                    Err(Refused::Certificate(key))
                };
            }
        }
        found
    }

    /// Whose call it is that shows no key, on a connection whose client certificate has `names`. The first, where several
    /// are named.
    #[must_use]
    pub fn by_certificate(&self, names: &[String]) -> Option<&Arc<Key>> {
        let mut without_secret = self.0.iter().filter(|key| key.secret.is_none());
        without_secret.find(|key| key.is_named_in(names))
    }

    /// The first whose user has to show a certificate.
    #[must_use]
    pub fn needs_certificate(&self) -> Option<&Key> {
        self.iter().find(|key| key.certificate.is_some())
    }
}

impl Key {
    fn new(config: Config) -> Result<Self, Error> {
        let Config {
            name,
            key,
            certificate,
            events,
            channels,
            methods,
            rate,
            burst,
        } = config;
        match (&key, &certificate) {
            (None, None) => return Err(Error::Nothing { name }),
            (_, Some(certificate)) if certificate.is_empty() => return Err(Error::Nameless { name }),
            (Some(key), _) if key.expose().is_empty() => return Err(Error::Empty { name }),
            (Some(key), _) if !key.expose().bytes().all(|byte| byte.is_ascii_graphic()) => {
                return Err(Error::Character { name });
            }
            _ => {}
        }
        let limit = match (rate, burst) {
            (Some(rate), burst) => Some(Limit {
                rate,
                burst: burst.unwrap_or(rate.count),
            }),
            (None, None) => None,
            (None, Some(_)) => return Err(Error::Burst { name }),
        };
        Ok(Self {
            limit,
            events: compile(&name, "events", events, '.')?,
            channels: compile(&name, "channels", channels, ':')?,
            methods,
            name,
            secret: key,
            certificate,
            inside: false,
        })
    }

    /// Whether its user's certificate is one with these names. Those of DNS are the same in any case (RFC 4343).
    fn is_named_in(&self, names: &[String]) -> bool {
        let certificate = self.certificate.as_deref();
        certificate.is_some_and(|wanted| {
            names
                .iter()
                .any(|name| name == wanted || (!name.contains(':') && name.eq_ignore_ascii_case(wanted)))
        })
    }

    /// What something inside this process may do that shows no key, such as a source of events. Nobody can
    /// authenticate as it.
    ///
    /// # Errors
    /// [`Error::Pattern`] when a scope is no glob.
    pub fn inside(
        name: &str,
        events: Option<Vec<String>>,
        channels: Option<Vec<String>>,
    ) -> Result<Self, Error> {
        Ok(Self {
            limit: None,
            events: compile(name, "events", events, '.')?,
            channels: compile(name, "channels", channels, ':')?,
            name: name.to_owned(),
            secret: None,
            certificate: None,
            methods: None,
            inside: true,
        })
    }

    /// Whether nobody shows it: see [`inside`](Self::inside).
    #[must_use]
    pub fn is_inside(&self) -> bool {
        self.inside
    }

    /// The name it is configured by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How fast its bearer may go; `None`: as fast as can be.
    #[must_use]
    pub fn limit(&self) -> Option<Limit> {
        self.limit
    }

    /// Whether its bearer may ask for `method`; `None`: for something that no scope has a word for.
    #[must_use]
    pub fn may(&self, method: Option<Method>) -> bool {
        let Some(methods) = &self.methods else {
            return true;
        };
        method.is_some_and(|method| methods.contains(&method))
    }

    /// Whether its bearer may publish events of the type `kind`.
    #[must_use]
    pub fn may_publish_event(&self, kind: &str) -> bool {
        within(self.events.as_deref(), kind)
    }

    /// Whether its bearer may publish to `channel`.
    #[must_use]
    pub fn may_publish_to(&self, channel: &Channel) -> bool {
        within(self.channels.as_deref(), channel.as_str())
    }

    /// Whether it has no scope of channels: its bearer may do what is about none in particular.
    #[must_use]
    pub fn has_all_channels(&self) -> bool {
        self.channels.is_none()
    }

    /// The patterns of the channels that its bearer may publish to and look into; `None`: all.
    #[must_use]
    pub fn channels(&self) -> Option<&[Glob]> {
        self.channels.as_deref()
    }

    /// Whether its bearer may ask who is in `channel`. The scope is the one for publishing.
    #[must_use]
    pub fn may_look_into(&self, channel: &Channel) -> bool {
        within(self.channels.as_deref(), channel.as_str())
    }
}

fn within(scope: Option<&[Glob]>, text: &str) -> bool {
    scope.is_none_or(|globs| globs.iter().any(|glob| glob.matches(text)))
}

fn compile(
    name: &str,
    list: &'static str,
    patterns: Option<Vec<String>>,
    separator: char,
) -> Result<Option<Vec<Glob>>, Error> {
    let Some(patterns) = patterns else {
        return Ok(None);
    };
    let globs = patterns.iter().map(|pattern| Glob::parse(pattern, separator));
    match globs.collect() {
        Ok(globs) => Ok(Some(globs)),
        Err(source) => Err(Error::Pattern {
            name: name.to_owned(),
            list,
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, key: &str) -> Config {
        Config {
            name: name.to_owned(),
            key: Some(key.to_owned().into()),
            ..Config::default()
        }
    }

    fn scoped(events: &[&str], channels: &[&str]) -> Key {
        let owned = |list: &[&str]| Some(list.iter().map(|&glob| glob.to_owned()).collect());
        let config = Config {
            events: owned(events),
            channels: owned(channels),
            ..config("tasks", "secret-key")
        };
        Key::new(config).unwrap()
    }

    fn certified(name: &str, key: Option<&str>, certificate: &str) -> Config {
        Config {
            name: name.to_owned(),
            key: key.map(|key| key.to_owned().into()),
            certificate: Some(certificate.to_owned()),
            ..Config::default()
        }
    }

    #[test]
    fn a_backend_is_known_by_its_whole_key_and_nothing_less() {
        let keys = Keys::new(vec![config("a", "key-of-a"), config("b", "key-of-b")]).unwrap();
        let whose = |presented| keys.authenticate(presented, &[]).map(|key| key.name());
        assert!(matches!(whose("key-of-a"), Ok("a")));
        assert!(matches!(whose("key-of-b"), Ok("b")));
        for wrong in ["", "key-of-", "key-of-aa", "KEY-OF-A", "key-of-c"] {
            assert!(matches!(whose(wrong), Err(Refused::Unknown)), "{wrong:?}");
        }
        let nobody = Keys::default();
        assert!(nobody.authenticate("", &[]).is_err() && nobody.by_certificate(&[]).is_none());
    }

    #[test]
    fn a_certificate_stands_for_a_key_where_there_is_none_and_is_needed_besides_where_there_is() {
        let keys = Keys::new(vec![
            certified("both", Some("key-of-both"), "bills.internal"),
            certified("alone", None, "tasks.internal"),
            certified("uri", None, "spiffe://example.org/tasks"),
            config("key", "key-of-key"),
        ])
        .unwrap();
        let shown = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let by_certificate = |names| keys.by_certificate(&shown(names)).map(|key| key.name());
        assert_eq!(by_certificate(&["other", "Tasks.Internal"]), Some("alone"));
        assert_eq!(by_certificate(&["spiffe://example.org/tasks"]), Some("uri"));
        for nobody in [
            &["spiffe://example.org/Tasks"][..],
            &["bills.internal"],
            &[""],
            &[],
        ] {
            assert_eq!(by_certificate(nobody), None, "{nobody:?}");
        }

        let tasks = shown(&["tasks.internal"]);
        let Err(Refused::Certificate(key)) = keys.authenticate("key-of-both", &tasks) else {
            panic!("that is another's certificate");
        };
        assert_eq!(key.name(), "both");
        let bills = shown(&["bills.internal"]);
        assert_eq!(keys.authenticate("key-of-both", &bills).unwrap().name(), "both");
        assert_eq!(keys.authenticate("key-of-key", &bills).unwrap().name(), "key");
        assert!(keys.authenticate("", &tasks).is_err());
    }

    #[test]
    fn a_key_without_scopes_may_everything_and_one_with_empty_scopes_nothing() {
        let channel = Channel::parse("tasks:1").unwrap();
        let free = Key::new(config("free", "k")).unwrap();
        assert!(free.may_publish_event("task.created") && free.may_publish_to(&channel));
        let none = scoped(&[], &[]);
        assert!(!none.may_publish_event("task.created") && !none.may_publish_to(&channel));
    }

    #[test]
    fn a_scope_of_methods_has_those_alone_and_nothing_that_has_no_word() {
        let key = |methods| {
            Key::new(Config {
                methods,
                ..config("tasks", "k")
            })
            .unwrap()
        };
        let free = key(None);
        assert!(free.may(Some(Method::Publish)) && free.may(None));
        let publishes = key(Some(vec![Method::Publish]));
        assert!(publishes.may(Some(Method::Publish)));
        assert!(!publishes.may(Some(Method::Disconnect)) && !publishes.may(None));
        assert!(!key(Some(Vec::new())).may(Some(Method::Publish)));

        let read = |text: &str| toml::from_str::<Config>(&format!("name = \"a\"\nmethods = [{text}]"));
        let words = r#""publish", "subscribe", "unsubscribe", "disconnect", "refresh", "send", "presence", "history",
            "history_remove", "info", "channels""#;
        let all = read(words).unwrap().methods.unwrap();
        let names: Vec<_> = all
            .into_iter()
            .map(|method| format!("{:?}", method.name()))
            .collect();
        assert_eq!(names, words.split(',').map(str::trim).collect::<Vec<_>>());
        let error = read("\"delete\"").unwrap_err();
        assert!(error.message().contains("unknown variant `delete`"), "{error}");
    }

    #[test]
    fn scopes_are_globs_by_the_segments_of_types_and_channels() {
        let key = scoped(&["task.*", "audit.**"], &["tasks:*", "user:**"]);
        for (kind, allowed) in [
            ("task.created", true),
            ("audit.a.b", true),
            ("task", false),
            ("task.a.b", false),
            ("bill", false),
        ] {
            assert_eq!(key.may_publish_event(kind), allowed, "{kind}");
        }
        for (name, allowed) in [
            ("tasks:1", true),
            ("user:1:inbox", true),
            ("tasks:1:2", false),
            ("tasks", false),
            ("$tasks:1", false),
        ] {
            let channel = Channel::parse(name).unwrap();
            assert_eq!(key.may_publish_to(&channel), allowed, "{name}");
            assert_eq!(key.may_look_into(&channel), allowed, "{name}");
        }
    }

    #[test]
    fn a_list_that_cannot_be_meant_is_refused_by_name() {
        let refused = |list: Vec<Config>| Keys::new(list).unwrap_err().to_string();
        assert_eq!(
            refused(vec![config("a", "1"), config("", "2")]),
            "backends.key number 2 has an empty name"
        );
        assert_eq!(
            refused(vec![config("a", "1"), config("a", "2")]),
            r#"backends.key "a" is configured twice"#
        );
        assert_eq!(
            refused(vec![config("a", "1"), config("b", "1")]),
            r#"backends.key "a" and "b" have the same key; give each its own"#
        );
        assert_eq!(
            refused(vec![config("a", "")]),
            r#"backends.key "a": the key is empty"#
        );
        assert!(refused(vec![config("a", "1\n")]).contains("a line break at its end?"));
        let nothing = Config {
            key: None,
            ..config("a", "1")
        };
        assert_eq!(
            refused(vec![nothing]),
            r#"backends.key "a" has neither a key nor a certificate"#
        );
        assert_eq!(
            refused(vec![certified("a", None, "")]),
            r#"backends.key "a": the certificate's name is empty"#
        );
        assert_eq!(
            refused(vec![certified("a", None, "x"), certified("b", None, "x")]),
            r#"backends.key "a" and "b" have the same certificate and no key; give each its own"#
        );
        let glob = Config {
            channels: Some(vec!["tasks:x*".to_owned()]),
            ..config("a", "1")
        };
        let error = refused(vec![glob]);
        assert!(
            error.starts_with(r#"backends.key "a": channels: pattern "tasks:x*""#),
            "{error}"
        );
    }

    #[test]
    fn a_key_may_have_a_rate_and_with_it_a_burst() {
        let limit = |rate: Option<&str>, burst| {
            let config = Config {
                rate: rate.map(|rate| rate.parse().unwrap()),
                burst: NonZeroU32::new(burst),
                ..config("a", "k")
            };
            Key::new(config).map(|key| {
                key.limit()
                    .map(|limit| (limit.rate.to_string(), limit.burst.get()))
            })
        };
        assert_eq!(limit(None, 0), Ok(None));
        assert_eq!(limit(Some("10/s"), 0), Ok(Some(("10/s".to_owned(), 10))));
        assert_eq!(limit(Some("10/s"), 3), Ok(Some(("10/s".to_owned(), 3))));
        assert_eq!(
            limit(None, 3).unwrap_err().to_string(),
            r#"backends.key "a": `burst` needs `rate`"#
        );
    }

    #[test]
    fn no_output_shows_a_key() {
        let keys = Keys::new(vec![config("a", "hunter2")]).unwrap();
        assert!(!format!("{keys:?}").contains("hunter2"));
        let error = Keys::new(vec![config("a", "hunter2"), config("b", "hunter2")]).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("hunter2"));
        let shown = toml::to_string(&config("a", "hunter2")).unwrap();
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn an_unknown_field_is_named() {
        let error = toml::from_str::<Config>("name = \"a\"\nkey = \"b\"\nevent = []").unwrap_err();
        assert!(error.message().contains("unknown field `event`"), "{error}");
    }
}
