//! End-to-end tests: real processes, real Redis, real clients.
