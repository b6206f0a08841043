//! How nodes tell each other: publish, subscribe; in memory or by Redis.
