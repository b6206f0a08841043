//! Client wire formats: bytes to commands, replies and pushes to bytes. Pure.
