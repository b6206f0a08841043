//! What the people who run Tidings see: metrics as the documentation has them, and dashboards and alerts over a real
//! Prometheus.

mod load;
mod metrics;
mod prometheus;
