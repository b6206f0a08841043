//! What the routes do with an event, and why, for the person who wrote them.

use std::{collections::HashMap, fmt};

use tidings_core::{Channel, Event, Namespaces};

use super::{Error, Form, Origin, Routes};
use crate::template::Facts;

/// The most routes that do not match which are listed, and the most channels of one route.
const MAX_LISTED: usize = 50;

/// What would become of one event. Displayed in a few lines.
#[derive(Debug)]
pub struct Explanation {
    matched: Vec<Matched>,
    unmatched: Vec<(Origin, String)>,
    /// Why nothing of it would be published.
    refused: Option<String>,
    channels: usize,
}

/// What one route does with it.
#[derive(Debug)]
struct Matched {
    route: Origin,
    form: Form,
    /// Each channel, with a remark.
    channels: Vec<(Channel, Option<String>)>,
}

impl Routes {
    /// What would become of `event`, by the same steps as when it is published.
    #[must_use]
    pub fn explain(&self, event: &Event, namespaces: &Namespaces) -> Explanation {
        let facts = Facts::of(event);
        let matching = self.index.matches(&event.kind);
        let mut explanation = Explanation {
            matched: Vec::new(),
            unmatched: Vec::new(),
            refused: self.targets(event).err().map(|error| error.to_string()),
            channels: 0,
        };
        let mut heard: HashMap<Channel, Origin> = HashMap::new();
        for (place, route) in self.routes.iter().enumerate() {
            if matching.binary_search(&place).is_err() {
                let why = mismatch(&route.origin.pattern, &event.kind);
                explanation.unmatched.push((route.origin.clone(), why));
                continue;
            }
            let made = route.form(&facts).and_then(|form| {
                let channels = route
                    .channels
                    .iter()
                    .map(|template| route.expand(template, &facts));
                Ok((form, channels.collect::<Result<Vec<_>, Error>>()?.concat()))
            });
            // What is wrong has been said as the reason of the refusal.
            let (form, channels) = made.unwrap_or_default();
            let mut remarked = Vec::with_capacity(channels.len());
            for channel in channels {
                let remark = match heard.get(&channel) {
                    Some(before) => Some(format!("has it by {before} already")),
                    None if namespaces.of(&channel).is_none() => {
                        let namespace = channel.namespace().unwrap_or_default();
                        let why = format!("{channel}: no namespace {namespace:?} is configured");
                        explanation
                            .refused
                            .get_or_insert(format!("{}: {why}", route.origin));
                        Some(why)
                    }
                    None => {
                        explanation.channels += 1;
                        heard.insert(channel.clone(), route.origin.clone());
                        None
                    }
                };
                remarked.push((channel, remark));
            }
            explanation.matched.push(Matched {
                route: route.origin.clone(),
                form: Form::clone(&form),
                channels: remarked,
            });
        }
        explanation
    }
}

impl Explanation {
    /// Whether the event would be published to some channel.
    #[must_use]
    pub fn is_published(&self) -> bool {
        self.refused.is_none() && self.channels > 0
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Matched {
            route,
            form,
            channels,
        } in &self.matched
        {
            writeln!(f, "{route} matches; clients get the {}", form.payload.name())?;
            for (name, value) in &form.tags {
                writeln!(f, "  tag {name} = {value:?}")?;
            }
            if form.skip_history {
                writeln!(f, "  not kept in history")?;
            }
            if let Some(key) = &form.idempotency_key {
                writeln!(f, "  a repeat is told by {key:?}")?;
            }
            if channels.is_empty() {
                writeln!(f, "  no channels")?;
            }
            for (channel, remark) in channels.iter().take(MAX_LISTED) {
                match remark {
                    Some(remark) => writeln!(f, "  {channel}  not by this route: it {remark}")?,
                    None => writeln!(f, "  {channel}")?,
                }
            }
            more(f, channels.len(), "channels")?;
        }
        for (route, why) in self.unmatched.iter().take(MAX_LISTED) {
            writeln!(f, "{route} does not match: {why}")?;
        }
        more(f, self.unmatched.len(), "routes do not match")?;
        match (&self.refused, self.channels) {
            (Some(why), _) => writeln!(f, "refused: {why}; nothing would be published"),
            (None, 0) => writeln!(f, "accepted, and no channel would hear of it"),
            (None, 1) => writeln!(f, "1 channel would hear of it"),
            (None, channels) => writeln!(f, "{channels} channels would hear of it"),
        }
    }
}

fn more(f: &mut fmt::Formatter<'_>, all: usize, what: &str) -> fmt::Result {
    match all.checked_sub(MAX_LISTED) {
        None | Some(0) => Ok(()),
        Some(more) => writeln!(f, "… and {more} more {what}"),
    }
}

/// Why a pattern does not match a type.
fn mismatch(pattern: &str, kind: &str) -> String {
    let (patterns, segments): (Vec<_>, Vec<_>) = (pattern.split('.').collect(), kind.split('.').collect());
    let before_any = patterns.iter().take_while(|&&segment| segment != "**");
    let differs = before_any
        .zip(&segments)
        .zip(1..)
        .find(|((pattern, segment), _)| **pattern != "*" && pattern != segment);
    match differs {
        Some(((pattern, segment), number)) => format!("segment {number} is {segment:?}, not {pattern:?}"),
        None if !patterns.contains(&"**") => {
            format!(
                "the type has {} segments, the pattern {}",
                segments.len(),
                patterns.len()
            )
        }
        None => format!("{kind:?} does not end as it asks"),
    }
}

#[cfg(test)]
mod tests {
    use super::mismatch;

    #[test]
    fn the_first_difference_is_named() {
        let check = |pattern, why| assert_eq!(mismatch(pattern, "task.created"), why, "{pattern}");
        check("bill.*", r#"segment 1 is "task", not "bill""#);
        check("*.deleted", r#"segment 2 is "created", not "deleted""#);
        check("*", "the type has 2 segments, the pattern 1");
        check("task.**.v2", r#""task.created" does not end as it asks"#);
    }
}
