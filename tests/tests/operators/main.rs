//! What the people who run Tidings see: metrics as the documentation has them, dashboards and alerts over a real
//! Prometheus.

mod compose;
mod dashboards;
mod load;
mod metrics;
mod prometheus;
