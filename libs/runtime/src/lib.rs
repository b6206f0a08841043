//! Configuration loading, shutdown, the operators' door.
