//! What one connection still has to send: finished frames, bounded in bytes and so in number.

use std::{collections::VecDeque, io::IoSlice, mem};

use bytes::{Buf, Bytes};

/// What a waiting frame costs beside its bytes, about: its place in the queue and its share of the heap. Counted
/// against the limit, so that a million tiny frames are as bounded as one large one.
const FRAME: usize = 64;

/// Frames in the order they leave. Frames are shared: pushing one copies a pointer, not the text.
///
/// The first frame lies in the outbox itself, so that a broadcast to idle connections allocates nothing per
/// recipient; the queue for more is given back as soon as it is empty, so an idle connection holds none.
#[derive(Debug, Default)]
pub struct Outbox {
    first: Bytes,
    rest: VecDeque<Bytes>,
    bytes: usize,
    /// Part of `first` has left.
    begun: bool,
}

/// The frame did not fit: the connection is too slow for what it subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Outbox {
    /// Appends a frame, unless more than `limit` bytes would wait (64 for each waiting frame included). An empty
    /// outbox takes one frame of any size.
    ///
    /// # Errors
    /// [`Full`]; the outbox is as it was.
    pub fn push(&mut self, frame: Bytes, limit: usize) -> Result<(), Full> {
        if frame.is_empty() {
            return Ok(());
        }
        if !self.has_room(frame.len(), limit) {
            return Err(Full);
        }
        self.bytes += frame.len();
        if self.first.is_empty() {
            self.first = frame;
        } else {
            self.rest.push_back(frame);
        }
        Ok(())
    }

    /// Whether a frame of `len` bytes would be taken.
    #[must_use]
    pub fn has_room(&self, len: usize, limit: usize) -> bool {
        let waiting = self.bytes + (self.rest.len() + 1) * FRAME;
        self.bytes == 0 || waiting.saturating_add(len) <= limit
    }

    /// Bytes that wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The frame that waits, if there is exactly one: a plain write does for it.
    #[must_use]
    pub fn only(&self) -> Option<&[u8]> {
        (!self.first.is_empty() && self.rest.is_empty()).then_some(&self.first)
    }

    /// Lends what waits, from the front, for one vectored write. Returns how many slices were filled.
    pub fn slices<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let frames = self.frames();
        let mut filled = 0;
        for (slot, frame) in into.iter_mut().zip(frames) {
            *slot = IoSlice::new(frame);
            filled += 1;
        }
        filled
    }

    /// Drops `written` bytes from the front; at most what waits.
    pub fn advance(&mut self, mut written: usize) {
        debug_assert!(written <= self.bytes, "more was written than waited");
        while written > 0 && self.bytes > 0 {
            let step = written.min(self.first.len());
            self.first.advance(step);
            self.bytes -= step;
            written -= step;
            self.begun = !self.first.is_empty();
            if self.first.is_empty() {
                self.first = self.rest.pop_front().unwrap_or_default();
            }
        }
        if self.rest.is_empty() && self.rest.capacity() > 0 {
            self.rest = VecDeque::new();
        }
    }

    /// Takes what waits, from the front, in one piece of at most `most` bytes, which must not be 0. `None`: nothing waits.
    /// A frame that leaves alone is shared, not copied.
    pub fn take(&mut self, most: usize) -> Option<Bytes> {
        if self.is_empty() {
            return None;
        }
        let alone = self
            .rest
            .front()
            .is_none_or(|next| self.first.len() + next.len() > most);
        let piece = if alone {
            self.first.slice(..self.first.len().min(most))
        } else {
            let mut piece = Vec::with_capacity(self.bytes.min(most));
            for frame in self.frames() {
                if piece.len() + frame.len() > most {
                    break;
                }
                piece.extend_from_slice(frame);
            }
            piece.into()
        };
        self.advance(piece.len());
        Some(piece)
    }

    /// Drops every frame that has not begun to leave, as when the connection is closed for being too slow. A
    /// frame that is half written stays, so that what follows does not fall into the middle of it.
    pub fn drop_unbegun(&mut self) {
        self.rest = VecDeque::new();
        if !self.begun {
            mem::take(&mut self.first);
        }
        self.bytes = self.first.len();
    }

    fn frames(&self) -> impl Iterator<Item = &Bytes> {
        (!self.first.is_empty())
            .then_some(&self.first)
            .into_iter()
            .chain(&self.rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn waiting(outbox: &Outbox) -> Vec<u8> {
        outbox.frames().flatten().copied().collect()
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_and_the_outbox_stays_as_it_was() {
        let mut outbox = Outbox::default();
        let limit = FRAME + 5;
        outbox.push(Bytes::from_static(b"abc"), limit).unwrap();
        assert_eq!(outbox.push(Bytes::from_static(b"def"), limit), Err(Full));
        outbox.push(Bytes::from_static(b"de"), limit).unwrap();
        assert_eq!(waiting(&outbox), b"abcde");
    }

    #[test]
    fn many_tiny_frames_fill_an_outbox_too() {
        let mut outbox = Outbox::default();
        let taken = (0..1_000_000)
            .take_while(|_| outbox.push(Bytes::from_static(b"x"), 1 << 20).is_ok())
            .count();
        assert!(taken < 17_000, "{taken} frames fit into 1 MiB");
    }

    #[test]
    fn an_empty_outbox_takes_a_frame_larger_than_its_limit() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(Bytes::from_static(b"abcdef"), 5), Ok(()));
    }

    #[test]
    fn an_emptied_outbox_holds_no_queue() {
        let mut outbox = Outbox::default();
        for _ in 0..10 {
            outbox.push(Bytes::from_static(b"frame"), 1000).unwrap();
        }
        outbox.advance(50);
        assert!(outbox.is_empty());
        assert_eq!(outbox.rest.capacity(), 0);
    }

    #[test]
    fn a_lone_frame_is_told_from_several() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.only(), None);
        outbox.push(Bytes::from_static(b"a"), 1000).unwrap();
        assert_eq!(outbox.only(), Some(&b"a"[..]));
        outbox.push(Bytes::from_static(b"b"), 1000).unwrap();
        assert_eq!(outbox.only(), None);
    }

    #[test]
    fn slices_lend_no_more_than_there_is_room_for() {
        let mut outbox = Outbox::default();
        for frame in [&b"a"[..], b"b", b"c"] {
            outbox.push(Bytes::from_static(frame), 1000).unwrap();
        }
        let mut slices = [IoSlice::new(&[]); 2];
        assert_eq!(outbox.slices(&mut slices), 2);
        assert_eq!((&*slices[0], &*slices[1]), (&b"a"[..], &b"b"[..]));
    }

    #[test]
    fn what_was_begun_is_kept_when_the_rest_is_dropped() {
        let mut outbox = Outbox::default();
        outbox.push(Bytes::from_static(b"abc"), 1000).unwrap();
        outbox.push(Bytes::from_static(b"def"), 1000).unwrap();
        outbox.advance(1);
        outbox.drop_unbegun();
        assert_eq!(waiting(&outbox), b"bc");
        outbox.advance(2);
        outbox.push(Bytes::from_static(b"ghi"), 1000).unwrap();
        outbox.drop_unbegun();
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_is_taken_at_once_is_as_much_as_fits_and_a_lone_frame_is_shared() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.take(4), None);
        let large = Bytes::from_static(b"abcdef");
        for frame in [large.clone(), "gh".into(), "ij".into(), "k".into()] {
            outbox.push(frame, 1000).unwrap();
        }
        let first = outbox.take(4).unwrap();
        assert_eq!((first.as_ptr(), &*first), (large.as_ptr(), &b"abcd"[..]));
        outbox.drop_unbegun();
        assert_eq!(waiting(&outbox), b"ef", "it has begun");
        for frame in ["gh", "ij", "k"] {
            outbox.push(frame.into(), 1000).unwrap();
        }
        assert_eq!(outbox.take(4).unwrap(), "efgh");
        assert_eq!(outbox.take(4).unwrap(), "ijk");
        assert!(outbox.is_empty());
    }

    proptest! {
        /// Whatever is pushed and written in whatever portions, the bytes leave once each and in order.
        #[test]
        fn bytes_leave_in_the_order_they_came(steps in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..20), 0..40_usize), 0..60)) {
            let (mut outbox, mut model) = (Outbox::default(), Vec::new());
            for (frame, write) in steps {
                if outbox.push(Bytes::from(frame.clone()), 2000).is_ok() {
                    model.extend(frame);
                }
                let write = write.min(outbox.bytes());
                outbox.advance(write);
                model.drain(..write);
                prop_assert_eq!(waiting(&outbox), model.clone());
                prop_assert_eq!(outbox.bytes(), model.len());
            }
        }
    }
}
