//! Logs, traces and metrics: set up once; trace context over gRPC and the bus.
