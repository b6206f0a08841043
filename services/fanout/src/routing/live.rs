//! The routes in force, which are replaced as a whole while events come.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use tidings_core::Namespaces;

use super::{ConfigError, Routes};
use crate::config::Route;

/// A handle to the routes in force. Clones are the same.
#[derive(Debug, Clone)]
pub struct Live(Arc<State>);

#[derive(Debug)]
struct State {
    routes: ArcSwap<Routes>,
    namespaces: Namespaces,
    count: Gauge,
    reloads: Family<ReloadLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    result: &'static str,
}

impl Live {
    /// Checks the first routes.
    ///
    /// # Errors
    /// The first thing that is wrong with them.
    pub(crate) fn new(
        routes: &[Route],
        namespaces: Namespaces,
        registry: &mut Registry,
    ) -> Result<Self, ConfigError> {
        let routes = checked(routes, &namespaces)?;
        let state = State {
            count: Gauge::default(),
            reloads: Family::default(),
            namespaces,
            routes: ArcSwap::default(),
        };
        registry.register("routes", "Routes in force", state.count.clone());
        registry.register(
            "route_reloads",
            "Times that the routes were read again, by what came of it (replaced, refused)",
            state.reloads.clone(),
        );
        // There from the start, so that the first of each is seen as an increase.
        for result in ["replaced", "refused"] {
            drop(state.reloads.get_or_create(&ReloadLabels { result }));
        }
        let live = Self(Arc::new(state));
        live.set(routes);
        Ok(live)
    }

    /// Puts these in place of those in force, for all events that come from now on. Gives how many they are.
    ///
    /// # Errors
    /// The first thing that is wrong with them; those in force stay then.
    pub fn replace(&self, routes: &[Route]) -> Result<usize, ConfigError> {
        let routes = checked(routes, &self.0.namespaces).inspect_err(|_| self.refused())?;
        let count = routes.len();
        self.set(routes);
        self.reloaded("replaced");
        Ok(count)
    }

    /// Counts a configuration that could not be read, so that there were no routes to put in place.
    pub fn refused(&self) {
        self.reloaded("refused");
    }

    pub(crate) fn load(&self) -> Guard<Arc<Routes>> {
        self.0.routes.load()
    }

    fn set(&self, routes: Routes) {
        self.0.count.set(i64::try_from(routes.len()).unwrap_or(i64::MAX));
        self.0.routes.store(Arc::new(routes));
    }

    fn reloaded(&self, result: &'static str) {
        self.0.reloads.get_or_create(&ReloadLabels { result }).inc();
    }
}

fn checked(routes: &[Route], namespaces: &Namespaces) -> Result<Routes, ConfigError> {
    let routes = Routes::compile(routes)?;
    routes.check(namespaces)?;
    Ok(routes)
}
