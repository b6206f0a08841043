//! Why telemetry could not be set up.

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log filter cannot be understood.
    #[error("log filter `{filter}`: {source}; write a level, or levels by module: `info,tidings_hub=debug`")]
    Filter {
        /// The filter.
        filter: String,
        /// Why.
        source: tracing_subscriber::filter::ParseError,
    },
    /// A variable has a value that cannot be used.
    #[error("{name}: {problem}")]
    Variable {
        /// Its name.
        name: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// Traces are exported by tasks, and there is no runtime to run them.
    #[error("traces can be exported only from inside a tokio runtime")]
    NoRuntime,
    /// Someone has set a global subscriber before.
    #[error("logs and traces are set up already; set them up once per process")]
    AlreadySet,
}
