//! To which channels somebody is subscribed: what all gateways are asked, in the words of this program.

use globset::{GlobBuilder, GlobMatcher};
use tidings_core::{Channel, Glob, glob};
use tidings_proto::bus::{self, active_channels::Pattern as Wire};

/// The most channels of one answer: with names of 255 bytes they fit into one message of the bus.
const MAX: usize = 1000;

/// Which channels are asked for.
#[derive(Debug)]
pub(crate) struct Survey {
    pattern: Pattern,
    /// Of these one has to match as well, where there are any.
    within: Vec<Glob>,
    /// Only names behind this one.
    after: String,
    limit: usize,
}

#[derive(Debug)]
enum Pattern {
    All,
    Segments(Glob),
    Wildcards(GlobMatcher),
}

/// Why a message asks for nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("its {0}")]
    Glob(#[from] glob::Error),
    #[error("its pattern is none: {0}")]
    Wildcards(#[from] globset::Error),
}

impl Survey {
    pub(super) fn from_wire(asked: bus::ActiveChannels) -> Result<Self, Error> {
        let bus::ActiveChannels {
            pattern,
            within,
            after,
            limit,
        } = asked;
        let segments = |pattern: &String| Glob::parse(pattern, ':');
        Ok(Self {
            pattern: match pattern {
                None => Pattern::All,
                Some(Wire::Segments(pattern)) => Pattern::Segments(segments(&pattern)?),
                Some(Wire::Wildcards(pattern)) => {
                    let glob = GlobBuilder::new(&pattern).backslash_escape(true).build()?;
                    Pattern::Wildcards(glob.compile_matcher())
                }
            },
            within: within.iter().map(segments).collect::<Result<_, _>>()?,
            after,
            limit: usize::try_from(limit).unwrap_or(MAX).clamp(1, MAX),
        })
    }

    /// How many channels an answer may have.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Whether it is one of the channels that are asked for.
    pub(super) fn wants(&self, channel: &Channel) -> bool {
        let name = channel.as_str();
        name > self.after.as_str()
            && (self.within.is_empty() || self.within.iter().any(|glob| glob.matches(name)))
            && match &self.pattern {
                Pattern::All => true,
                Pattern::Segments(glob) => glob.matches(name),
                Pattern::Wildcards(glob) => glob.is_match(name),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(asked: bus::ActiveChannels) -> Vec<&'static str> {
        let survey = Survey::from_wire(asked).unwrap();
        let names = ["chat:1", "chat:1:2", "chat:10", "news", "tasks:1", "tasks:2/3"];
        let wants = |name: &&str| survey.wants(&Channel::parse(name).unwrap());
        names.into_iter().filter(wants).collect()
    }

    fn matching(pattern: Wire) -> Vec<&'static str> {
        wanted(bus::ActiveChannels {
            pattern: Some(pattern),
            ..bus::ActiveChannels::default()
        })
    }

    #[test]
    fn a_star_is_a_segment_or_any_text_as_was_asked_for() {
        assert_eq!(wanted(bus::ActiveChannels::default()).len(), 6);
        let segments = |pattern: &str| matching(Wire::Segments(pattern.to_owned()));
        assert_eq!(segments("chat:*"), ["chat:1", "chat:10"]);
        assert_eq!(segments("chat:**"), ["chat:1", "chat:1:2", "chat:10"]);
        let wildcards = |pattern: &str| matching(Wire::Wildcards(pattern.to_owned()));
        assert_eq!(wildcards("chat:*"), ["chat:1", "chat:1:2", "chat:10"]);
        assert_eq!(wildcards("chat:1?"), ["chat:10"]);
        assert_eq!(wildcards("{news,tasks*}"), ["news", "tasks:1", "tasks:2/3"]);
        assert_eq!(wildcards("tasks:[1-3]*"), ["tasks:1", "tasks:2/3"]);
        assert_eq!(wildcards("n\\*"), [""; 0]);
    }

    #[test]
    fn a_scope_and_a_page_leave_out_the_rest() {
        let asked = bus::ActiveChannels {
            within: vec!["news".to_owned(), "chat:*".to_owned()],
            after: "chat:1".to_owned(),
            ..bus::ActiveChannels::default()
        };
        assert_eq!(wanted(asked), ["chat:10", "news"]);
    }

    #[test]
    fn what_is_no_pattern_asks_for_nothing() {
        for pattern in [Wire::Segments("a::b".to_owned()), Wire::Wildcards("[".to_owned())] {
            let asked = bus::ActiveChannels {
                pattern: Some(pattern),
                ..bus::ActiveChannels::default()
            };
            assert!(Survey::from_wire(asked).is_err());
        }
    }
}
