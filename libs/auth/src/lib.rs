//! Token in, claims out; API keys and their scopes.
