//! What can be wrong with routes, and with an event that they are for.

use tidings_core::glob;

use super::Origin;
use crate::template::{self, MAX_CHANNELS};

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
    /// Something in it is no template.
    #[error("{route}: {place}: {source}")]
    Template {
        /// Which route.
        route: Origin,
        /// Which template.
        place: String,
        /// What is wrong.
        source: template::ParseError,
    },
    /// Its tags cannot be.
    #[error("{route}: tags: {why}")]
    Tags {
        /// Which route.
        route: Origin,
        /// What is wrong.
        why: String,
    },
    /// It leads where nothing is.
    #[error(
        "{route}: channel {template:?} is in the namespace {namespace:?}, which is not configured; add a [[namespace]] \
         with name = {namespace:?}{}", if .namespace.is_empty() { ", which is for the channels that have none" } else { "" }
    )]
    Namespace {
        /// Which route.
        route: Origin,
        /// Its template.
        template: String,
        /// The namespace of every channel that the template gives.
        namespace: String,
    },
}

/// Why an event cannot be routed. Nothing of it is published then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A route matches, but the event does not have what its template needs.
    #[error("{route}, {place}: {source}")]
    Template {
        /// Which route.
        route: Origin,
        /// Which template.
        place: String,
        /// What is wrong.
        source: Box<template::Error>,
    },
    /// The routes together give too many.
    #[error("the routes give more than {MAX_CHANNELS} channels")]
    TooMany,
}
