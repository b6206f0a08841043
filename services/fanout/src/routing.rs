//! Event to channels: the routes of the configuration, compiled.
//!
//! Every route whose glob matches has its say. A channel that several of them give hears of the event once, in
//! the form of the first.

use std::{collections::HashSet, fmt, sync::Arc};

use tidings_core::{Channel, Event, Glob, glob};

use crate::{
    config::Route,
    payload::Payload,
    template::{self, Facts, MAX_CHANNELS, Template},
};

/// All routes, checked as a whole.
#[derive(Debug, Clone, Default)]
pub struct Routes(Vec<Compiled>);

#[derive(Debug, Clone)]
struct Compiled {
    origin: Origin,
    event: Glob,
    channels: Vec<Template>,
    payload: Payload,
}

/// One channel that hears of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where it goes.
    pub channel: Channel,
    /// In which form.
    pub payload: Payload,
    /// Which route says so; `None`: the event itself.
    pub route: Option<Origin>,
}

/// A route by its place in the list, from 1, and its event pattern. Displayed as `route 2 ("task.*")`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    number: usize,
    pattern: Arc<str>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route {} ({:?})", self.number, self.pattern)
    }
}

/// Why a list of routes cannot be used. A route is named by its place in the list, from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The pattern is no glob.
    #[error("route {number}: event: {source}")]
    Event {
        /// Which route.
        number: usize,
        /// What is wrong.
        source: glob::Error,
    },
    /// It leads nowhere.
    #[error("route {number} ({pattern:?}) names no channels")]
    NoChannels {
        /// Which route.
        number: usize,
        /// Its event pattern.
        pattern: String,
    },
    /// A channel is no template.
    #[error("route {number} ({pattern:?}): channel {template:?}: {source}")]
    Channel {
        /// Which route.
        number: usize,
        /// Its event pattern.
        pattern: String,
        /// Its template.
        template: String,
        /// What is wrong.
        source: template::ParseError,
    },
}

/// Why an event cannot be routed. Nothing of it is published then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A route matches, but the event does not have what its template needs.
    #[error("{route}, channel {template:?}: {source}")]
    Template {
        /// Which route.
        route: Origin,
        /// Its template.
        template: String,
        /// What is wrong.
        source: Box<template::Error>,
    },
    /// The routes together give too many.
    #[error("the routes give more than {MAX_CHANNELS} channels")]
    TooMany,
}

impl Routes {
    /// Compiles the routes.
    ///
    /// # Errors
    /// The first that is wrong, by its number.
    pub fn compile(routes: &[Route]) -> Result<Self, ConfigError> {
        let numbered = routes.iter().zip(1..);
        numbered
            .map(|(route, number)| Compiled::new(route, number))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The channels that hear of `event`, each once, in the order of the routes. None when no route matches.
    ///
    /// # Errors
    /// When a matching route cannot name its channels for this event.
    pub fn targets(&self, event: &Event) -> Result<Vec<Target>, Error> {
        let facts = Facts::of(event);
        let mut targets = Vec::new();
        let mut seen = HashSet::new();
        for route in self.0.iter().filter(|route| route.event.matches(&event.kind)) {
            for template in &route.channels {
                let channels = template.expand(&facts).map_err(|source| Error::Template {
                    route: route.origin.clone(),
                    template: template.to_string(),
                    source: Box::new(source),
                })?;
                for channel in channels {
                    if seen.insert(channel.clone()) {
                        targets.push(Target {
                            channel,
                            payload: route.payload,
                            route: Some(route.origin.clone()),
                        });
                    }
                }
                if targets.len() > MAX_CHANNELS {
                    return Err(Error::TooMany);
                }
            }
        }
        Ok(targets)
    }
}

impl Compiled {
    fn new(route: &Route, number: usize) -> Result<Self, ConfigError> {
        let pattern = route.event.clone();
        let event = Glob::parse(&pattern, '.').map_err(|source| ConfigError::Event { number, source })?;
        if route.channels.is_empty() {
            return Err(ConfigError::NoChannels { number, pattern });
        }
        let compile = |text: &String| {
            Template::parse(text).map_err(|source| ConfigError::Channel {
                number,
                pattern: pattern.clone(),
                template: text.clone(),
                source,
            })
        };
        let channels = route.channels.iter().map(compile).collect::<Result<_, _>>()?;
        Ok(Self {
            origin: Origin {
                number,
                pattern: pattern.into(),
            },
            event,
            channels,
            payload: route.payload,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::UNIX_EPOCH};

    use super::*;

    fn route(event: &str, channels: &[&str], payload: Payload) -> Route {
        Route {
            event: event.to_owned(),
            channels: channels.iter().map(|&text| text.to_owned()).collect(),
            payload,
        }
    }

    fn event(kind: &str, data: &'static str) -> Event {
        Event {
            id: "e1".to_owned(),
            kind: kind.to_owned(),
            source: String::new(),
            subject: None,
            time: UNIX_EPOCH,
            data_content_type: "application/json".to_owned(),
            data: data.into(),
            attributes: BTreeMap::from([("tenant".to_owned(), "acme".to_owned())]),
            tags: BTreeMap::new(),
        }
    }

    fn names(routes: &Routes, event: &Event) -> Vec<(String, Payload)> {
        let targets = routes.targets(event).unwrap();
        targets
            .into_iter()
            .map(|target| (target.channel.to_string(), target.payload))
            .collect()
    }

    #[test]
    fn every_matching_route_has_its_say_and_a_channel_hears_once() {
        let routes = Routes::compile(&[
            route("task.*", &["tasks:{tenant}", "user:{data.owner}"], Payload::Event),
            route("task.created", &["new", "tasks:{tenant}"], Payload::Data),
            route("**", &["audit"], Payload::Event),
        ])
        .unwrap();
        let owned = |names: &[(&str, Payload)]| -> Vec<(String, Payload)> {
            names
                .iter()
                .map(|&(name, payload)| (name.to_owned(), payload))
                .collect()
        };
        assert_eq!(
            names(&routes, &event("task.created", r#"{"owner": ["ann", "ann"]}"#)),
            owned(&[
                ("tasks:acme", Payload::Event),
                ("user:ann", Payload::Event),
                ("new", Payload::Data),
                ("audit", Payload::Event),
            ])
        );
        assert_eq!(
            names(&routes, &event("bill.paid", "")),
            owned(&[("audit", Payload::Event)])
        );
    }

    #[test]
    fn an_event_that_no_route_matches_has_no_channels() {
        let routes = Routes::compile(&[route("task.*", &["a"], Payload::Event)]).unwrap();
        assert_eq!(routes.targets(&event("bill.paid", "")), Ok(vec![]));
        assert_eq!(Routes::default().targets(&event("bill.paid", "")), Ok(vec![]));
    }

    #[test]
    fn an_event_that_lacks_what_its_route_needs_is_refused_as_a_whole() {
        let routes = Routes::compile(&[
            route("**", &["audit"], Payload::Event),
            route("task.*", &["user:{data.owner}"], Payload::Event),
        ])
        .unwrap();
        let error = routes.targets(&event("task.created", "{}")).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"route 2 ("task.*"), channel "user:{data.owner}": the event has no data.owner"#
        );
    }

    #[test]
    fn routes_together_reach_a_bounded_number_of_channels() {
        let list: Vec<usize> = (0..MAX_CHANNELS).collect();
        let data = serde_json::to_string(&serde_json::json!({ "to": list })).unwrap();
        let event = Event {
            data: data.into(),
            ..event("a", "")
        };
        let one = route("a", &["x:{data.to}"], Payload::Event);
        let other = route("a", &["y"], Payload::Event);
        assert!(
            Routes::compile(std::slice::from_ref(&one))
                .unwrap()
                .targets(&event)
                .is_ok()
        );
        assert_eq!(
            Routes::compile(&[one, other]).unwrap().targets(&event),
            Err(Error::TooMany)
        );
    }

    #[test]
    fn a_wrong_route_is_named_by_its_number() {
        let refused = |routes: &[Route]| Routes::compile(routes).unwrap_err().to_string();
        let good = route("a", &["x"], Payload::Event);
        assert_eq!(
            refused(&[good.clone(), route("a..b", &["x"], Payload::Event)]),
            r#"route 2: event: pattern "a..b" has an empty segment"#
        );
        assert_eq!(
            refused(&[good.clone(), route("a", &[], Payload::Event)]),
            r#"route 2 ("a") names no channels"#
        );
        assert_eq!(
            refused(&[good, route("a", &["x", "x:{"], Payload::Event)]),
            r#"route 2 ("a"): channel "x:{": the braces do not match at byte 2"#
        );
    }
}
