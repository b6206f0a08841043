//! What is counted of questions to the user's backend, by kind of question.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use super::{answer::No, failure::Failure};

/// Of all kinds.
pub(super) struct Metrics {
    questions: Family<Outcome, Counter>,
    durations: Family<Asked, Histogram, fn() -> Histogram>,
}

/// Of one kind.
pub(super) struct Counts {
    answered: Counter,
    busy: Counter,
    late: Counter,
    failed: Counter,
    duration: Histogram,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    question: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Asked {
    question: &'static str,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            questions: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 14))),
        };
        registry.register(
            "proxy_questions",
            "Questions to the user's backend, by what became of them",
            metrics.questions.clone(),
        );
        registry.register_with_unit(
            "proxy_duration",
            "From a question until its answer, its turn included",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        metrics
    }

    /// Those of one kind, there from now on, so that the first of each is seen as an increase.
    pub(super) fn of(&self, question: &'static str) -> Counts {
        let count = |result| {
            self.questions
                .get_or_create(&Outcome { question, result })
                .clone()
        };
        Counts {
            answered: count("answered"),
            busy: count("busy"),
            late: count("late"),
            failed: count("failed"),
            duration: self.durations.get_or_create(&Asked { question }).clone(),
        }
    }
}

impl Counts {
    /// A question came to an end. A backend that refuses has answered.
    pub(super) fn asked<T>(&self, outcome: &Result<T, No>, took: Duration) {
        let counter = match outcome {
            Ok(_) | Err(No::Refused(_)) => &self.answered,
            Err(No::Failed(Failure::Busy(_))) => &self.busy,
            Err(No::Failed(Failure::TooSlow(_))) => &self.late,
            Err(No::Failed(_)) => &self.failed,
        };
        counter.inc();
        self.duration.observe(took.as_secs_f64());
    }
}
