//! Event to channels: the routes of the configuration, compiled.
//!
//! Every route whose glob matches has its say. A channel that several of them give hears of the event once, in
//! the form of the first. `index` finds the routes that match, `route` is what one of them makes of an event,
//! [`explain`] says why for people, [`live`] replaces all of them while events come.

mod error;
pub mod explain;
mod index;
pub mod live;
mod route;

use std::{collections::HashSet, fmt, sync::Arc};

use tidings_core::{Channel, Event, Namespaces};

pub use self::{
    error::{ConfigError, Error},
    route::Form,
};
use self::{index::Index, route::Compiled};
use crate::{
    config::Route,
    template::{Facts, MAX_CHANNELS},
};

/// All routes, checked as a whole.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    routes: Vec<Compiled>,
    index: Index,
}

/// One channel that hears of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where it goes.
    pub channel: Channel,
    /// In which form.
    pub form: Arc<Form>,
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

impl Routes {
    /// Compiles the routes.
    ///
    /// # Errors
    /// The first that is wrong, by its number.
    pub fn compile(routes: &[Route]) -> Result<Self, ConfigError> {
        let mut compiled = Self::default();
        for (place, route) in routes.iter().enumerate() {
            compiled.routes.push(Compiled::new(route, place + 1)?);
            compiled.index.add(&route.event, place);
        }
        Ok(compiled)
    }

    /// Checks that the namespaces are configured which the routes' channels are in, where that can be told without an
    /// event.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self, namespaces: &Namespaces) -> Result<(), ConfigError> {
        self.routes.iter().try_for_each(|route| route.check(namespaces))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// The channels that hear of `event`, each once, in the order of the routes. None when no route matches.
    ///
    /// # Errors
    /// When a matching route cannot name its channels for this event.
    pub fn targets(&self, event: &Event) -> Result<Vec<Target>, Error> {
        let facts = Facts::of(event);
        let mut targets = Vec::new();
        let mut seen = HashSet::new();
        for place in self.index.matches(&event.kind) {
            let route = &self.routes[place];
            let form = route.form(&facts)?;
            for template in &route.channels {
                for channel in route.expand(template, &facts)? {
                    if seen.insert(channel.clone()) {
                        targets.push(Target {
                            channel,
                            form: form.clone(),
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

#[cfg(test)]
mod tests;
