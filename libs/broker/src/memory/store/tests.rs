//! Against a naive model.
