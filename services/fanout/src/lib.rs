//! The fanout service: events in, publications out.
