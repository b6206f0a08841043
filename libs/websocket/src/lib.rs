//! RFC 6455 frames without I/O.
