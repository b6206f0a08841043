//! Segment globs: `*` is one segment, `**` any number of them, anything else is itself.
//!
//! Events have segments separated by `.` (`task.*` matches `task.created`), channels by `:`.

use std::fmt;

/// A compiled pattern, which shows itself as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    segments: Vec<Segment>,
    separator: char,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    One,
    Any,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing would match it.
    #[error("pattern is empty")]
    Empty,
    /// Two separators in a row, or one at an end.
    #[error("pattern {pattern:?} has an empty segment")]
    EmptySegment {
        /// The pattern.
        pattern: String,
    },
    /// `*` next to other characters, as in `task.cre*`.
    #[error("pattern {pattern:?} has '*' inside the segment {segment:?}; a star stands for a whole segment")]
    PartialStar {
        /// The pattern.
        pattern: String,
        /// The segment.
        segment: String,
    },
}

impl Glob {
    /// Compiles a pattern whose segments are separated by `separator`.
    ///
    /// # Errors
    /// When it is empty, has an empty segment, or a star inside a segment.
    pub fn parse(pattern: &str, separator: char) -> Result<Self, Error> {
        if pattern.is_empty() {
            return Err(Error::Empty);
        }
        let segments = pattern
            .split(separator)
            .map(|segment| match segment {
                "" => Err(Error::EmptySegment {
                    pattern: pattern.to_owned(),
                }),
                "*" => Ok(Segment::One),
                "**" => Ok(Segment::Any),
                text if text.contains('*') => Err(Error::PartialStar {
                    pattern: pattern.to_owned(),
                    segment: text.to_owned(),
                }),
                text => Ok(Segment::Literal(text.to_owned())),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { segments, separator })
    }

    /// Whether the whole of `text` matches. Takes time linear in its length times the number of `**`.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let mut rest = Some(text);
        let mut segments = self.segments.as_slice();
        // Where to resume when a literal fails after a `**`: one more segment goes to the star. Only the last
        // `**` needs remembering, as in every linear wildcard matcher.
        let mut retry: Option<(&[Segment], Option<&str>)> = None;
        loop {
            match (segments.first(), rest) {
                (None, None) => return true,
                (Some(Segment::Any), _) => {
                    segments = &segments[1..];
                    retry = Some((segments, rest));
                    continue;
                }
                (Some(segment), Some(text)) => {
                    let (head, tail) = self.split(text);
                    if matches!(segment, Segment::One)
                        || matches!(segment, Segment::Literal(literal) if literal == head)
                    {
                        segments = &segments[1..];
                        rest = tail;
                        continue;
                    }
                }
                (None, Some(_)) | (Some(_), None) => {}
            }
            let Some((after_star, Some(text))) = retry else {
                return false;
            };
            let (_, tail) = self.split(text);
            segments = after_star;
            rest = tail;
            retry = Some((after_star, tail));
        }
    }

    fn split<'t>(&self, text: &'t str) -> (&'t str, Option<&'t str>) {
        match text.split_once(self.separator) {
            Some((head, tail)) => (head, Some(tail)),
            None => (text, None),
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.segments.iter().enumerate() {
            if index > 0 {
                write!(f, "{}", self.separator)?;
            }
            f.write_str(match segment {
                Segment::Literal(text) => text,
                Segment::One => "*",
                Segment::Any => "**",
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let glob = Glob::parse(pattern, '.').unwrap();
        assert_eq!(glob.to_string(), pattern);
        for text in yes {
            assert!(glob.matches(text), "{pattern} should match {text}");
        }
        for text in no {
            assert!(!glob.matches(text), "{pattern} should not match {text}");
        }
    }

    #[test]
    fn stars_stand_for_whole_segments() {
        check(
            "task.created",
            &["task.created"],
            &["task", "task.created.v2", "task.deleted"],
        );
        check(
            "task.*",
            &["task.created", "task.deleted"],
            &["task", "task.created.v2", "user.created"],
        );
        check("*", &["task"], &["task.created"]);
        check("**", &["task", "task.created", "a.b.c"], &[]);
        check(
            "task.**",
            &["task", "task.created", "task.a.b"],
            &["user.created", "tasks"],
        );
        check(
            "**.created",
            &["task.created", "created", "a.b.created"],
            &["task.created.v2", "task"],
        );
        check(
            "a.**.z",
            &["a.z", "a.b.z", "a.z.z", "a.b.c.z"],
            &["a", "z", "a.z.b"],
        );
        check("**.*", &["a", "a.b", "a.b.c"], &[]);
        check(
            "a.**.b.**.c",
            &["a.b.c", "a.x.b.y.c", "a.b.b.c.c"],
            &["a.c.b", "a.b", "b.c"],
        );
    }

    #[test]
    fn a_pattern_that_cannot_be_meant_is_refused() {
        assert_eq!(Glob::parse("", '.'), Err(Error::Empty));
        assert!(matches!(
            Glob::parse("task..x", '.'),
            Err(Error::EmptySegment { .. })
        ));
        assert!(matches!(
            Glob::parse("task.cre*", '.'),
            Err(Error::PartialStar { .. })
        ));
    }
}
