//! Whose turn it is: which command may start while the answer to another is awaited.
//!
//! Commands take effect in the order they were sent. Only subscribes overlap, with each other: an SDK sends all
//! of its own at once and the bus confirms them together, as does whoever authorizes them. Everything else waits until
//! nothing is under way, so that a client that subscribes and then publishes hears itself; but an unsubscribe does not
//! wait for the authorization that it makes pointless.

use std::collections::VecDeque;

use tidings_protocol::{Command, Request};

/// The most commands that may wait, and the most bytes in them.
const WAITING: usize = 256;
const WAITING_BYTES: usize = 256 * 1024;

/// The most subscribes that may be under way together.
const OVERLAPPING: u32 = 256;

#[derive(Debug, Default)]
pub(crate) struct Turn {
    busy: Busy,
    waiting: VecDeque<Command>,
    bytes: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Busy {
    #[default]
    No,
    Subscribing(u32),
    Alone(u32),
}

/// More commands wait than a client may leave waiting.
pub(crate) struct TooMany;

impl Turn {
    /// The command, if it may start now; otherwise it waits. `cancels`: it undoes a subscribe that is being authorized.
    pub(crate) fn take(
        &mut self,
        command: Command,
        cancels: impl FnOnce(&Command) -> bool,
    ) -> Result<Option<Command>, TooMany> {
        if self.waiting.is_empty() && self.may_start(&command, cancels) {
            return Ok(Some(command));
        }
        let bytes = self.bytes + command.size();
        if self.waiting.len() >= WAITING || bytes > WAITING_BYTES {
            return Err(TooMany);
        }
        self.bytes = bytes;
        self.waiting.push_back(command);
        Ok(None)
    }

    /// The command that waited longest, if it may start now.
    pub(crate) fn next(&mut self, cancels: impl FnOnce(&Command) -> bool) -> Option<Command> {
        let front = self.waiting.front()?;
        if !self.may_start(front, cancels) {
            return None;
        }
        let command = self.waiting.pop_front()?;
        self.bytes -= command.size();
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new(); // an idle connection holds nothing
        }
        Some(command)
    }

    /// An answer is awaited from here on.
    pub(crate) fn begin_subscribe(&mut self) {
        self.busy = match self.busy {
            Busy::Subscribing(n) => Busy::Subscribing(n + 1),
            _ => Busy::Subscribing(1),
        };
    }

    /// This many answers are awaited from here on, and nothing else happens before the last.
    pub(crate) fn begin_alone(&mut self, answers: u32) {
        self.busy = Busy::Alone(answers);
    }

    /// An awaited answer came.
    pub(crate) fn end(&mut self) {
        self.busy = match self.busy {
            Busy::Subscribing(n) if n > 1 => Busy::Subscribing(n - 1),
            Busy::Alone(n) if n > 1 => Busy::Alone(n - 1),
            _ => Busy::No,
        };
    }

    /// Only one command is under way, and nothing overlaps with it.
    pub(crate) fn is_alone(&self) -> bool {
        matches!(self.busy, Busy::Alone(_))
    }

    fn may_start(&self, command: &Command, cancels: impl FnOnce(&Command) -> bool) -> bool {
        match self.busy {
            Busy::No => true,
            // Authorizations that were cancelled are under way too: there is an end to them.
            Busy::Subscribing(n) if n >= OVERLAPPING => false,
            Busy::Subscribing(_) => matches!(command.request, Request::Subscribe(_)) || cancels(command),
            Busy::Alone(_) => false,
        }
    }
}
