//! Differences between two payloads, in the format of the Fossil version control system.
//!
//! A patch is the target's length, then copies from the base and insertions in the order of the target, then a checksum
//! of the target: `LENGTH\n (COUNT@OFFSET, | COUNT:BYTES)* CHECKSUM;`. Numbers are in base 64 with digits of their own.
//! See <https://fossil-scm.org/home/doc/trunk/www/delta_format.wiki>; how the copies are found is left to the writer.
//!
//! Here the base is cut into blocks, each known by a hash, and the target is searched for them with a window of one
//! block whose hash rolls along: time is linear in the length of both, and memory less than the
//! base itself.

/// A patch that turns `base` into `target`, if it is shorter than `target` itself.
///
/// Copies begin and end between the characters of a target that is UTF-8, so that the patch is UTF-8 too.
#[must_use]
pub fn fossil(base: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let blocks = Blocks::of(base)?;
    let mut patch = Patch::of_length(target);
    let (mut at, mut written) = (0, 0);
    let mut window = Window::at(target, at)?;
    loop {
        if let Some(copy) = blocks.longest(window.hash, target, written, at) {
            patch.insert(&target[written..copy.at]);
            patch.copy(copy.length, copy.from);
            written = copy.at + copy.length;
            at = written;
            match Window::at(target, at) {
                Some(next) => window = next,
                None => break,
            }
        } else {
            match target.get(at + BLOCK) {
                Some(&next) => window.roll(target[at], next),
                None => break,
            }
            at += 1;
        }
        if patch.bytes.len() >= target.len() {
            return None;
        }
    }
    patch.insert(&target[written..]);
    let patch = patch.end(target);
    (patch.len() < target.len()).then_some(patch)
}

/// Shorter parts are not worth a copy: saying where they are takes as long.
const BLOCK: usize = 16;

/// How many blocks with the same hash are compared before the search goes on with the next window.
const CANDIDATES: usize = 32;

/// Where the blocks of a base are: heads of lists by hash, and for each block the next in its list.
struct Blocks<'a> {
    base: &'a [u8],
    heads: Vec<u32>,
    next: Vec<u32>,
}

/// Ends a list of blocks.
const NONE: u32 = u32::MAX;

/// A part of the target that stands in the base as well.
struct Copy {
    /// Where it begins in the target.
    at: usize,
    /// Where it begins in the base.
    from: usize,
    length: usize,
}

impl<'a> Blocks<'a> {
    /// `None` when there is no whole block, or more than can be counted.
    fn of(base: &'a [u8]) -> Option<Self> {
        let count = base.len() / BLOCK;
        if count == 0 || count >= NONE as usize {
            return None;
        }
        let mut blocks = Self {
            base,
            heads: vec![NONE; count.next_power_of_two()],
            next: vec![NONE; count],
        };
        // From the last: of equal blocks the first are found first.
        for (number, block) in base.chunks_exact(BLOCK).enumerate().rev() {
            let slot = blocks.slot(hash(block));
            blocks.next[number] = blocks.heads[slot];
            blocks.heads[slot] = number as u32;
        }
        Some(blocks)
    }

    fn slot(&self, hash: u32) -> usize {
        // The low bits of the hash know only of the low bits of the bytes.
        (hash ^ (hash >> 16)) as usize & (self.heads.len() - 1)
    }

    /// The longest copy that covers the window at `at` and begins at `written` or after it.
    fn longest(&self, hash: u32, target: &[u8], written: usize, at: usize) -> Option<Copy> {
        let mut best: Option<Copy> = None;
        let mut block = self.heads[self.slot(hash)];
        for _ in 0..CANDIDATES {
            if block == NONE {
                break;
            }
            let from = block as usize * BLOCK;
            let after = same(&self.base[from..], &target[at..]);
            if after >= BLOCK {
                // More than a block before the window would have been found already, as a block.
                let before = same_backwards(&self.base[..from], &target[written..at]).min(BLOCK);
                let length = before + after;
                if best.as_ref().is_none_or(|best| best.length < length) {
                    best = Some(Copy {
                        at: at - before,
                        from: from - before,
                        length,
                    });
                }
            }
            block = self.next[block as usize];
        }
        best.map(|copy| copy.of_whole_characters(target))
    }
}

impl Copy {
    /// Without the parts of characters at its ends, which are at most three bytes each: still longer than half a block.
    fn of_whole_characters(mut self, target: &[u8]) -> Self {
        let continues = |at: usize| target.get(at).is_some_and(|byte| byte & 0xC0 == 0x80);
        for _ in 0..3 {
            if continues(self.at) {
                self.at += 1;
                self.from += 1;
                self.length -= 1;
            }
            if continues(self.at + self.length) {
                self.length -= 1;
            }
        }
        self
    }
}

/// How many bytes two slices begin with in common.
fn same(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// How many they end with.
fn same_backwards(a: &[u8], b: &[u8]) -> usize {
    let pairs = a.iter().rev().zip(b.iter().rev());
    pairs.take(BLOCK).take_while(|(a, b)| a == b).count()
}

/// An odd number with many ones and zeros, so that every byte of a block reaches the upper half of its hash.
const FACTOR: u32 = 0x9E37_79B1;

/// The weight of the byte that leaves the window.
const LEAVING: u32 = FACTOR.wrapping_pow(BLOCK as u32 - 1);

/// A polynomial in [`FACTOR`].
fn hash(block: &[u8]) -> u32 {
    block.iter().fold(0, |hash: u32, byte| {
        hash.wrapping_mul(FACTOR).wrapping_add(u32::from(*byte))
    })
}

/// The hash of one block's length of the target.
struct Window {
    hash: u32,
}

impl Window {
    /// `None` when less than a block is left.
    fn at(target: &[u8], at: usize) -> Option<Self> {
        let block = target.get(at..at + BLOCK)?;
        Some(Self { hash: hash(block) })
    }

    /// One byte further.
    fn roll(&mut self, leaves: u8, enters: u8) {
        let rest = self.hash.wrapping_sub(LEAVING.wrapping_mul(u32::from(leaves)));
        self.hash = rest.wrapping_mul(FACTOR).wrapping_add(u32::from(enters));
    }
}

/// A patch that is being written.
struct Patch {
    bytes: Vec<u8>,
}

impl Patch {
    fn of_length(target: &[u8]) -> Self {
        let mut patch = Self { bytes: Vec::new() };
        patch.number(target.len());
        patch.bytes.push(b'\n');
        patch
    }

    fn copy(&mut self, length: usize, from: usize) {
        self.number(length);
        self.bytes.push(b'@');
        self.number(from);
        self.bytes.push(b',');
    }

    fn insert(&mut self, part: &[u8]) {
        if !part.is_empty() {
            self.number(part.len());
            self.bytes.push(b':');
            self.bytes.extend_from_slice(part);
        }
    }

    fn end(mut self, target: &[u8]) -> Vec<u8> {
        self.number(checksum(target) as usize);
        self.bytes.push(b';');
        self.bytes
    }

    fn number(&mut self, number: usize) {
        const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";
        let digits = (usize::BITS - number.leading_zeros()).div_ceil(6).max(1);
        let digit = |place| DIGITS[(number >> (6 * place)) & 63];
        self.bytes.extend((0..digits).rev().map(digit));
    }
}

/// The sum of the bytes as big-endian words, the last filled up with zeros.
fn checksum(target: &[u8]) -> u32 {
    target.chunks(4).fold(0, |sum: u32, part| {
        let mut word = [0; 4];
        word[..part.len()].copy_from_slice(part);
        sum.wrapping_add(u32::from_be_bytes(word))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a client does: the format read strictly.
    fn apply(base: &[u8], mut patch: &[u8]) -> Result<Vec<u8>, String> {
        fn number(patch: &mut &[u8]) -> Result<(usize, u8), String> {
            let mut value = 0;
            while let Some((byte, rest)) = patch.split_first() {
                *patch = rest;
                let digit = match byte {
                    b'0'..=b'9' => byte - b'0',
                    b'A'..=b'Z' => byte - b'A' + 10,
                    b'_' => 36,
                    b'a'..=b'z' => byte - b'a' + 37,
                    b'~' => 63,
                    end => return Ok((value, *end)),
                };
                value = value * 64 + usize::from(digit);
            }
            Err("it ends in a number".into())
        }
        let (length, b'\n') = number(&mut patch)? else {
            return Err("no length".into());
        };
        let mut target = Vec::new();
        loop {
            match number(&mut patch)? {
                (count, b'@') => {
                    let (from, b',') = number(&mut patch)? else {
                        return Err("no comma".into());
                    };
                    target.extend(base.get(from..from + count).ok_or("a copy beyond the base")?);
                }
                (count, b':') => {
                    let (part, rest) = patch.split_at_checked(count).ok_or("a short insertion")?;
                    target.extend(part);
                    patch = rest;
                }
                (sum, b';') if patch.is_empty() => {
                    assert_eq!(target.len(), length);
                    assert_eq!(sum, checksum(&target) as usize);
                    return Ok(target);
                }
                (_, other) => return Err(format!("{:?}", char::from(other))),
            }
        }
    }

    fn patch(base: &str, target: &str) -> Option<String> {
        let patch = fossil(base.as_bytes(), target.as_bytes())?;
        assert_eq!(apply(base.as_bytes(), &patch), Ok(target.as_bytes().to_vec()));
        Some(String::from_utf8(patch).expect("a patch of text is text"))
    }

    #[test]
    fn what_stayed_is_copied_and_what_is_new_inserted() {
        let base = r#"{"sensor":"kitchen","unit":"celsius","value":20.5}"#;
        let target = r#"{"sensor":"kitchen","unit":"celsius","value":21.5}"#;
        assert_eq!(patch(base, target).as_deref(), Some("n\nj@0,4:1.5}16R1zc;"));
        assert_eq!(
            patch("0123456789abcdef", "0123456789abcdef").as_deref(),
            Some("G\nG@0,12xn;")
        );
    }

    #[test]
    fn what_moved_is_found_wherever_it_went() {
        let (a, b) = (
            "the first half of a long text; ",
            "and then the second half of it. ",
        );
        let moved = patch(&format!("{a}{b}"), &format!("{b}{a}{b}")).unwrap();
        assert!(moved.len() < 30, "{moved}");
    }

    #[test]
    fn a_patch_that_is_not_shorter_is_none() {
        assert_eq!(patch("", "anything at all, however long it is"), None);
        assert_eq!(patch("a base that is long enough", ""), None);
        assert_eq!(
            patch(
                "a base that is long enough",
                "something else entirely, and longer"
            ),
            None
        );
    }

    #[test]
    fn copies_do_not_cut_characters() {
        // é and è, А and Б, differ in their last byte alone.
        let (base, target) = ("résumé ".repeat(20), "résumè ".repeat(20));
        patch(&format!("{base}{base}é"), &format!("{base}{base}è")).unwrap();
        patch(&format!("А{base}{target}"), &format!("Б{base}{target}")).unwrap();
        patch(&format!("{base}😀{base}"), &format!("{base}😁{base}")).unwrap();
    }

    #[test]
    fn blocks_that_are_all_alike_cost_no_more_than_others() {
        let base = vec![b'a'; 1 << 20];
        let mut target = base.clone();
        for at in (0..target.len()).step_by(64) {
            target[at] = b'b';
        }
        let patch = fossil(&base, &target).unwrap();
        assert_eq!(apply(&base, &patch), Ok(target));
    }

    proptest! {
        #[test]
        fn every_patch_gives_the_target(
            base in prop::collection::vec(0_u8..3, 0..400),
            target in prop::collection::vec(0_u8..3, 0..400),
        ) {
            if let Some(patch) = fossil(&base, &target) {
                prop_assert!(patch.len() < target.len());
                prop_assert_eq!(apply(&base, &patch), Ok(target));
            }
        }

        #[test]
        fn every_edit_of_bytes_gives_the_target(
            base in prop::collection::vec(any::<u8>(), 0..600),
            cut in any::<prop::sample::Index>(),
            length in 0_usize..40,
            new in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut target = base.clone();
            let start = cut.index(base.len() + 1);
            target.splice(start..(start + length).min(base.len()), new);
            if let Some(patch) = fossil(&base, &target) {
                prop_assert!(patch.len() < target.len());
                prop_assert_eq!(apply(&base, &patch), Ok(target));
            }
        }

        #[test]
        fn every_edit_of_text_is_text(
            base in "[a-céèА-Я😀-😄]{0,150}",
            cut in any::<prop::sample::Index>(),
            new in "[a-céèА-Я😀-😄]{0,9}",
        ) {
            let at = cut.index(base.chars().count() + 1);
            let target: String = base.chars().take(at).chain(new.chars()).chain(base.chars().skip(at + 1)).collect();
            patch(&base, &target);
        }
    }
}
