//! Streams that cannot be read for now, though members wait for them: what readiness and the log say of it.

use parking_lot::Mutex;
use tidings_runtime::health::{Component, State};

/// Reports the streams that cannot be read, of all cores, to the process' health: `degraded`, never unready. The log has
/// one line when that begins and one when it ends, however many streams there are.
pub(crate) struct Unreadable {
    component: Component,
    state: Mutex<Outage>,
}

#[derive(Default)]
struct Outage {
    cores: Vec<Count>,
    /// The most streams that could not be read at a time since this began; 0: all can be read.
    most: usize,
}

/// What is worth a line in the log.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Begun { streams: usize },
    Ended { most: usize },
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
            state: Mutex::default(),
        }
    }

    /// So many streams of a core cannot be read, the last for this reason.
    pub(crate) fn report(&self, core: usize, channels: usize, reason: &str) {
        let mut outage = self.state.lock();
        let news = outage.update(core, channels, reason);
        self.component.set(outage.state());
        match news {
            Some(News::Begun { streams }) => {
                tracing::warn!(
                    streams,
                    reason,
                    "reads of streams failed, retrying; readiness has their number"
                );
            }
            Some(News::Ended { most }) => {
                tracing::info!(streams = most, "all streams can be read again");
            }
            None => {}
        }
    }
}

impl Outage {
    fn update(&mut self, core: usize, channels: usize, reason: &str) -> Option<News> {
        if self.cores.len() <= core {
            self.cores.resize(core + 1, Count::default());
        }
        self.cores[core] = Count {
            channels,
            reason: reason.to_owned(),
        };
        let (before, streams) = (self.most, self.channels());
        self.most = if streams == 0 { 0 } else { before.max(streams) };
        match (before, streams) {
            (0, 1..) => Some(News::Begun { streams }),
            (1.., 0) => Some(News::Ended { most: before }),
            _ => None,
        }
    }

    /// A channel that several cores have is counted by each.
    fn channels(&self) -> usize {
        self.cores.iter().map(|count| count.channels).sum()
    }

    fn state(&self) -> State {
        match self.cores.iter().max_by_key(|count| count.channels) {
            Some(Count {
                channels: 1..,
                reason,
            }) => {
                let channels = self.channels();
                State::Away(format!(
                    "read of {channels} streams failed, retrying; their subscribers get nothing meanwhile: {reason}"
                ))
            }
            _ => State::Up,
        }
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

    #[test]
    fn the_log_has_one_line_when_an_outage_begins_and_one_when_it_ends_however_many_streams_fail() {
        let mut outage = Outage::default();
        assert_eq!(
            outage.update(0, 900, "timed out"),
            Some(News::Begun { streams: 900 })
        );
        for streams in 1..1000 {
            assert_eq!(outage.update(1, streams, "timed out"), None);
        }
        assert_eq!(outage.update(0, 0, ""), None);
        assert_eq!(outage.update(1, 0, ""), Some(News::Ended { most: 1899 }));
        assert_eq!(outage.update(1, 0, ""), None);
        assert_eq!(outage.update(1, 1, ""), Some(News::Begun { streams: 1 }));
    }
}
