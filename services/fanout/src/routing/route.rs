//! One route, compiled: what it makes of an event that it matches.

use std::{collections::BTreeMap, sync::Arc};

use tidings_core::{Channel, Glob, Namespaces};

use super::{ConfigError, Error, Origin};
use crate::{
    config::Route,
    payload::Payload,
    template::{self, Facts, Template, Text},
};

/// As many as an event itself may have.
const MAX_TAGS: usize = 16;

/// How clients and the bus get an event that a route sends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Form {
    /// What clients get.
    pub payload: Payload,
    /// What the route adds to the event's own tags.
    pub tags: BTreeMap<String, String>,
    /// Not kept in the channel's stream.
    pub skip_history: bool,
    /// By what a repeat is known, in place of the event's source and id.
    pub idempotency_key: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Compiled {
    pub(super) origin: Origin,
    pub(super) channels: Vec<Template>,
    payload: Payload,
    tags: Vec<(String, Text)>,
    skip_history: bool,
    idempotency_key: Option<Text>,
}

impl Compiled {
    pub(super) fn new(route: &Route, number: usize) -> Result<Self, ConfigError> {
        let pattern = route.event.clone();
        Glob::parse(&pattern, '.').map_err(|source| ConfigError::Event { number, source })?;
        if route.channels.is_empty() {
            return Err(ConfigError::NoChannels { number, pattern });
        }
        let origin = Origin {
            number,
            pattern: pattern.into(),
        };
        let wrong = |place: String| {
            let route = origin.clone();
            move |source| ConfigError::Template { route, place, source }
        };
        let channels = route.channels.iter();
        let channels = channels
            .map(|text| Template::parse(text).map_err(wrong(channel(text))))
            .collect::<Result<_, _>>()?;
        if route.tags.len() > MAX_TAGS || route.tags.keys().any(String::is_empty) {
            let why = format!("expected at most {MAX_TAGS}, each with a name");
            return Err(ConfigError::Tags { route: origin, why });
        }
        let tags = route.tags.iter();
        let tags = tags
            .map(|(name, text)| Ok((name.clone(), Text::parse(text).map_err(wrong(tag(name)))?)))
            .collect::<Result<_, _>>()?;
        let key = route.idempotency_key.as_deref();
        let key = key.map(|text| Text::parse(text).map_err(wrong(KEY.to_owned())));
        Ok(Self {
            channels,
            payload: route.payload,
            tags,
            skip_history: route.skip_history,
            idempotency_key: key.transpose()?,
            origin,
        })
    }

    /// Whether the channels whose namespace is known beforehand are in one that there is.
    pub(super) fn check(&self, namespaces: &Namespaces) -> Result<(), ConfigError> {
        for template in &self.channels {
            let Some(namespace) = template.namespace() else {
                continue;
            };
            let any = if namespace.is_empty() {
                Channel::parse("any")
            } else {
                Channel::parse(&format!("{namespace}:"))
            };
            // Too long a name is said of the channel, once there is one.
            if any.is_ok_and(|any| namespaces.of(&any).is_none()) {
                return Err(ConfigError::Namespace {
                    route: self.origin.clone(),
                    template: template.to_string(),
                    namespace: namespace.to_owned(),
                });
            }
        }
        Ok(())
    }

    pub(super) fn expand(&self, template: &Template, facts: &Facts<'_>) -> Result<Vec<Channel>, Error> {
        let wrong = |source| self.wrong(channel(&template.to_string()), source);
        template.expand(facts).map_err(wrong)
    }

    /// The form of what it sends; one for all its channels.
    pub(super) fn form(&self, facts: &Facts<'_>) -> Result<Arc<Form>, Error> {
        let tags = self.tags.iter().map(|(name, text)| {
            let value = text
                .expand(facts)
                .map_err(|source| self.wrong(tag(name), source))?;
            Ok((name.clone(), value))
        });
        let key = self.idempotency_key.as_ref();
        let key = key.map(|text| {
            text.key(facts)
                .map_err(|source| self.wrong(KEY.to_owned(), source))
        });
        Ok(Arc::new(Form {
            payload: self.payload,
            tags: tags.collect::<Result<_, _>>()?,
            skip_history: self.skip_history,
            idempotency_key: key.transpose()?,
        }))
    }

    fn wrong(&self, place: String, source: template::Error) -> Error {
        Error::Template {
            route: self.origin.clone(),
            place,
            source: Box::new(source),
        }
    }
}

const KEY: &str = "idempotency_key";

fn channel(template: &str) -> String {
    format!("channel {template:?}")
}

fn tag(name: &str) -> String {
    format!("tag {name:?}")
}
