//! The context attributes of one event, and the rules of CloudEvents 1.0 (sections 2 and 3) that they have to keep.

use std::collections::HashSet;

use prost_types::Timestamp;
use tidings_proto::fanout as proto;

/// CloudEvents of this version are read.
pub(super) const SPECVERSION: &str = "1.0";
/// Without these it is no event.
const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];
/// More members than an event can have.
pub(super) const MAX_ATTRIBUTES: usize = 100;
/// A name that is repeated to whoever sent it.
const MAX_NAME: usize = 64;

/// An attribute, or the data, and what is wrong with it: the text goes on from the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) struct Wrong {
    pub(in crate::http) attribute: String,
    pub(in crate::http) why: String,
}

/// The attributes that have been seen so far.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    event: proto::Event,
    seen: HashSet<String>,
    wrong: Vec<Wrong>,
}

impl Attributes {
    /// Takes one attribute in its canonical form.
    pub(super) fn set(&mut self, name: &str, value: String) {
        if !self.is_first(name) {
            return;
        }
        if value.is_empty() && is_own(name) {
            self.wrong(name, "is empty; leave out what there is not");
            return;
        }
        let event = &mut self.event;
        match name {
            "specversion" if value == SPECVERSION => {}
            "specversion" => self.wrong(name, format!("is not {SPECVERSION:?}, which is spoken here")),
            "id" => event.id = value,
            "source" => event.source = value,
            "type" => event.r#type = value,
            "subject" => event.subject = value,
            "datacontenttype" => event.data_content_type = value,
            // Nobody here has a use for it.
            "dataschema" => {}
            "time" => match time(&value) {
                Some(time) => event.time = Some(time),
                None => self.wrong(name, "is no time like 2018-04-05T17:31:00Z (RFC 3339)"),
            },
            _ if is_name(name) => drop(event.attributes.insert(name.to_owned(), value)),
            _ => self.wrong(
                name,
                "is no name of an attribute: those have lower-case letters and digits only",
            ),
        }
    }

    /// Notes what is wrong with one.
    pub(super) fn wrong(&mut self, name: &str, why: impl Into<String>) {
        self.seen.insert(name.to_owned());
        self.wrong.push(Wrong {
            attribute: name.chars().take(MAX_NAME).collect(),
            why: why.into(),
        });
    }

    /// Whether nothing has been said of it yet. Twice is wrong, whatever the two say.
    fn is_first(&mut self, name: &str) -> bool {
        if self.seen.insert(name.to_owned()) {
            return true;
        }
        self.wrong(name, "is there twice");
        false
    }

    /// What kind of data there is; JSON's where nobody says (JSON format, section 3.1).
    pub(super) fn content_type(&self) -> &str {
        &self.event.data_content_type
    }

    /// The event with its data, when nothing is wrong.
    pub(super) fn with(mut self, data: bytes::Bytes) -> super::Read {
        for name in REQUIRED {
            if !self.seen.contains(name) {
                self.wrong(name, "is required");
            }
        }
        self.event.data = data;
        if self.wrong.is_empty() {
            Ok(self.event)
        } else {
            Err(self.wrong)
        }
    }
}

/// Whether it is one of CloudEvents' own, all of which are texts that must not be empty.
pub(super) fn is_own(name: &str) -> bool {
    REQUIRED.contains(&name) || ["datacontenttype", "dataschema", "subject", "time"].contains(&name)
}

/// Section 3.1: "lower-case letters ('a' to 'z') or digits ('0' to '9')".
fn is_name(name: &str) -> bool {
    let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=MAX_NAME).contains(&name.len()) && name != "data" && name.bytes().all(letters)
}

/// RFC 3339. The parser behind it is more lenient, so that the form is checked first.
fn time(text: &str) -> Option<Timestamp> {
    let mut form = text.bytes();
    let mut digits = |count: usize| form.by_ref().take(count).filter(u8::is_ascii_digit).count() == count;
    let date = digits(4);
    let mut then = |expected: &[u8], count| {
        form.next().is_some_and(|byte| expected.contains(&byte))
            && form.by_ref().take(count).filter(u8::is_ascii_digit).count() == count
    };
    let whole = date && then(b"-", 2) && then(b"-", 2) && then(b"Tt", 2) && then(b":", 2) && then(b":", 2);
    let rest: Vec<u8> = form.collect();
    let zone = match rest.strip_prefix(b".") {
        Some(fraction) => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            fraction.get(digits..).filter(|_| digits > 0)?
        }
        None => &rest,
    };
    let zoned = match zone {
        b"Z" | b"z" => true,
        [b'+' | b'-', h1, h2, b':', m1, m2] => [h1, h2, m1, m2].iter().all(|byte| byte.is_ascii_digit()),
        _ => false,
    };
    (whole && zoned).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_rfc_3339() {
        let seconds = |text| time(text).map(|time| (time.seconds, time.nanos));
        assert_eq!(seconds("2018-04-05T17:31:00Z"), Some((1_522_949_460, 0)));
        assert_eq!(
            seconds("2018-04-05t17:31:00.25z"),
            Some((1_522_949_460, 250_000_000))
        );
        assert_eq!(seconds("2018-04-05T19:31:00+02:00"), Some((1_522_949_460, 0)));
        assert_eq!(seconds("2018-04-05T15:01:00-02:30"), Some((1_522_949_460, 0)));
        // The examples of RFC 3339, section 5.8: a leap second is its second before.
        assert_eq!(seconds("1990-12-31T23:59:60Z"), seconds("1990-12-31T23:59:59Z"));
        assert!(seconds("1937-01-01T12:00:27.87+00:20").is_some());
        for wrong in [
            "",
            "2018",
            "2018-04-05",
            "2018-04-05T17:31Z",
            "2018-04-05 17:31:00Z",
            "2018-04-05T17:31:00",
            "2018-04-05T17:31:00+0200",
            "2018-04-05T17:31:00.Z",
            "2018-13-05T17:31:00Z",
            "2018-02-30T17:31:00Z",
            "2018-04-05T25:31:00Z",
            "2018-04-05T17:31:00Z ",
            "+018-04-05T17:31:00Z",
            "yesterday",
            "2018-04-05T17:31:00\u{e9}",
        ] {
            assert_eq!(seconds(wrong), None, "{wrong:?}");
        }
    }
}
