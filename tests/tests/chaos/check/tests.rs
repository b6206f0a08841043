//! A checker that has never failed proves nothing: each invariant, kept and broken.
