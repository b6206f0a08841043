//! Decimal numbers as they are written, compared exactly and without being converted.

use std::cmp::Ordering;

/// A number: `-12.50`, `+3`, `.5`, `7.`; no exponent, no spaces, no other digits than 0 to 9. Of any length: comparing
/// takes time linear in it, and whoever sent the text has bounded it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decimal<'a> {
    /// Less than zero.
    negative: bool,
    /// The digits before the point, from the first that is not 0.
    whole: &'a str,
    /// The digits after the point, to the last that is not 0.
    fraction: &'a str,
}

impl<'a> Decimal<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (minus, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
            return None;
        }
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        Some(Self {
            // There is one zero.
            negative: minus && !(whole.is_empty() && fraction.is_empty()),
            whole,
            fraction,
        })
    }

    pub(super) fn cmp(&self, other: &Self) -> Ordering {
        match (self.negative, other.negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => self.cmp_size(other),
            (true, true) => other.cmp_size(self),
        }
    }

    /// Without the signs: the longer whole part is the greater, and of two as long, text order is the numbers' order.
    fn cmp_size(&self, other: &Self) -> Ordering {
        (self.whole.len(), self.whole, self.fraction).cmp(&(other.whole.len(), other.whole, other.fraction))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_by_their_value_however_they_are_written() {
        let ascending = [
            "-100000000000000000000000000000000000000000000000001",
            "-100000000000000000000000000000000000000000000000000.5",
            "-10",
            "-9.5",
            "-0.01",
            "-.001",
            "0",
            "0.0000000000000000000000000000000000000000000000001",
            "0.09",
            "+.1",
            "1",
            "1.05",
            "1.5",
            "9",
            "10",
            "123456789012345678901234567890.1",
        ];
        let parsed = ascending.map(|text| Decimal::parse(text).unwrap());
        for (i, a) in parsed.iter().enumerate() {
            for (j, b) in parsed.iter().enumerate() {
                assert_eq!(a.cmp(b), i.cmp(&j), "{} and {}", ascending[i], ascending[j]);
            }
        }
        for (a, b) in [("0", "-0.0"), ("1", "01.00"), ("7.", "+7"), (".5", "0.50")] {
            let equal = Decimal::parse(a).unwrap().cmp(&Decimal::parse(b).unwrap());
            assert_eq!(equal, Ordering::Equal, "{a} and {b}");
        }
    }

    #[test]
    fn what_is_no_decimal_number_is_none() {
        for text in [
            "", ".", "-", "+.", "1e3", "1 ", " 1", "0x1", "1.2.3", "--1", "1,5", "١", "NaN", "inf",
        ] {
            assert!(Decimal::parse(text).is_none(), "{text:?}");
        }
    }
}
