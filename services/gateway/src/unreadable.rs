//! Streams that cannot be read for now, though members wait for them: what readiness says of it.

use parking_lot::Mutex;
use tidings_runtime::health::{Component, State};

/// Reports the streams that cannot be read, of all cores, to the process' health: `degraded`, never unready.
pub(crate) struct Unreadable {
    component: Component,
    cores: Mutex<Vec<Count>>,
}

#[derive(Default, Clone)]
struct Count {
    channels: usize,
    reason: String,
}

impl Unreadable {
    pub(crate) fn new(component: Component) -> Self {
        component.set(State::Up);
        Self {
            component,
            cores: Mutex::default(),
        }
    }

    /// So many streams of a core cannot be read, the last for this reason.
    pub(crate) fn report(&self, core: usize, channels: usize, reason: &str) {
        let mut cores = self.cores.lock();
        if cores.len() <= core {
            cores.resize(core + 1, Count::default());
        }
        cores[core] = Count {
            channels,
            reason: reason.to_owned(),
        };
        let most = cores.iter().max_by_key(|count| count.channels);
        let state = match most {
            Some(Count {
                channels: 1..,
                reason,
            }) => {
                // A channel that several cores have is counted by each.
                let channels: usize = cores.iter().map(|count| count.channels).sum();
                State::Away(format!(
                    "read of {channels} streams failed, retrying; their subscribers get nothing meanwhile: {reason}"
                ))
            }
            _ => State::Up,
        };
        self.component.set(state);
    }
}

#[cfg(test)]
mod tests {
    use tidings_runtime::{Health, health::Check};

    use super::*;

    #[test]
    fn streams_that_cannot_be_read_degrade_readiness_until_no_core_has_any() {
        let health = Health::new();
        let unreadable = Unreadable::new(health.component("streams"));
        assert_eq!(health.check("streams"), Check::Up);
        unreadable.report(1, 3, "connection refused");
        unreadable.report(0, 1, "timed out");
        let Check::Away { reason } = health.check("streams") else {
            panic!("degraded");
        };
        assert!(reason.starts_with("read of 4 streams failed") && reason.ends_with("connection refused"));
        unreadable.report(1, 0, "");
        assert!(matches!(health.check("streams"), Check::Away { .. }));
        unreadable.report(0, 0, "");
        assert_eq!(health.check("streams"), Check::Up);
    }
}
