//! The presence service: knows who is there.
