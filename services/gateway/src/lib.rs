//! The gateway: holds the clients' connections.
