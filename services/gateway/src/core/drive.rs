//! The task of one connection: it reads, and waits for room to write. All it holds is where to look.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use super::{Core, SCRATCH, connection::Read};
use crate::inbox::Address;

/// Reads per turn, after which the other connections have theirs.
const READS: usize = 4;

pub(super) struct Drive {
    pub(super) core: Rc<RefCell<Core>>,
    pub(super) address: Address,
}

impl Future for Drive {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.core.borrow_mut().drive(self.address, cx)
    }
}

impl Core {
    fn drive(&mut self, address: Address, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.resize(SCRATCH, 0); // it is empty only if a panic lost it
        let mut reads = 0;
        while let Some(connection) = self.connection(address) {
            connection.remember(cx.waker());
            if reads == READS {
                cx.waker().wake_by_ref();
                break;
            }
            reads += 1;
            match connection.read(cx, &mut scratch) {
                Read::Nothing => break,
                Read::Bytes(read) => self.received(address.key, &mut scratch[..read]),
                Read::End => self.gone(address.key),
            }
        }
        self.scratch = scratch;
        self.flush();
        // A socket that takes more for a moment and then no more has used its wakeup up: ask until it has none to give.
        while self
            .connection(address)
            .is_some_and(|connection| connection.unblocked(cx))
        {
            self.touch(address.key);
            self.flush();
        }
        self.nudge_if_earlier();
        if self.connection(address).is_some() {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }
}
