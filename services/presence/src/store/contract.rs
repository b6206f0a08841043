//! What every store does. One suite; the memory store and a real Redis both pass it.
