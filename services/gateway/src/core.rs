//! A core: one thread that owns its connections, their sessions and its own hub.
//!
//! Inside a core nothing is shared and nothing is locked: whatever happens to its connections happens in one order,
//! that of its [`inbox`](crate::inbox) and its sockets. It never waits for anybody: a socket that takes no more
//! keeps its frames, slow work is done elsewhere and comes back as a letter.
//!
//! `arrival` takes clients in, `connection` is one of them, `socket` its end where it has one, `drive` its task,
//! `incoming` what clients send, `actions` what sessions ask for, of which `questions` are for others, `orders` what
//! backends want, `clock` what is due when. `subscriptions` is who gets what, `broadcast` how they get it, `stream` and
//! `streams` what of it nobody may miss, `recovery` how clients come back to it, `comparing` and `retry` what is asked of
//! Redis because something may have been lost, or was not answered.

mod actions;
mod arrival;
mod broadcast;
pub(crate) mod clock;
mod comparing;
mod connection;
mod drive;
mod incoming;
mod orders;
mod questions;
mod recovery;
mod retry;
mod socket;
mod stream;
mod streams;
mod subscriptions;

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap, VecDeque},
    io,
    rc::Rc,
    sync::Arc,
    thread,
    time::Instant,
};

use slab::Slab;
use tidings_core::Channel;
use tidings_hub::Hub;
use tidings_runtime::Shutdown;
use tokio::{runtime, task::LocalSet};
use tokio_util::task::task_tracker::TaskTrackerToken;

pub(crate) use self::stream::{Compared, Waiting};
use self::{clock::Drain, connection::Connection, drive::Drive, streams::Streams, subscriptions::Member};
use crate::{
    inbox::{Address, Census, Inbox, Letter},
    node::Node,
};

/// What one read takes at most; shared by all connections of the core.
const SCRATCH: usize = 64 * 1024;

pub(crate) struct Core {
    number: usize,
    node: Arc<Node>,
    inbox: Arc<Inbox>,
    connections: Slab<Box<Connection>>,
    hub: Hub<usize, Member>,
    /// Subscribes that wait for the bus.
    awaited: HashMap<Channel, Vec<Waiting>>,
    /// Subscribes to channels that this core listens to already.
    ready: VecDeque<(Channel, Waiting)>,
    /// They are being answered.
    answering: bool,
    streams: Streams,
    /// When to look whether quiet streams are where their members are; `None`: nothing can be lost on the way.
    check: Option<Instant>,
    /// Connections with frames that nobody has tried to write yet.
    touched: Vec<usize>,
    deadlines: BTreeSet<(Instant, usize)>,
    /// Until when the core sleeps, if nothing happens.
    sleeps_until: Option<Instant>,
    drain: Option<Drain>,
    scratch: Vec<u8>,
}

/// Starts a core's thread, which ends after a [`Letter::Drain`], or at once when shutdown is forced. `running` is
/// held until then.
pub(crate) fn start(
    number: usize,
    node: Arc<Node>,
    inbox: Arc<Inbox>,
    running: TaskTrackerToken,
) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let shutdown = node.shutdown.clone();
    thread::Builder::new()
        .name(format!("core-{number}"))
        .spawn(move || {
            let _running = running;
            let _close = inbox.close_on_drop();
            let _end = EndOnPanic(shutdown.clone());
            let check = node.deliver.is_shared();
            let streams = Streams::new(node.evidence.clone());
            let core = Core {
                number,
                node,
                inbox,
                connections: Slab::new(),
                hub: Hub::new(),
                awaited: HashMap::new(),
                ready: VecDeque::new(),
                answering: false,
                streams,
                check: check.then(clock::now),
                touched: Vec::new(),
                deadlines: BTreeSet::new(),
                sleeps_until: None,
                drain: None,
                scratch: vec![0; SCRATCH],
            };
            LocalSet::new().block_on(&runtime, async {
                tokio::select! {
                    () = Core::run(Rc::new(RefCell::new(core))) => {}
                    () = shutdown.forced() => {}
                }
            });
        })?;
    Ok(())
}

/// A process that has lost a core cannot serve its share of the clients any more: it had better be replaced.
struct EndOnPanic(Shutdown);

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!("a core has panicked; its clients are gone, and this process ends");
            self.0.request();
        }
    }
}

impl Core {
    /// Takes everything that has come, does everything that is due, then writes to everyone who was touched, once.
    async fn run(this: Rc<RefCell<Self>>) {
        let inbox = this.borrow().inbox.clone();
        let mut letters = Vec::new();
        loop {
            let next = this.borrow_mut().next_wake();
            tokio::select! {
                () = inbox.arrived() => {}
                () = clock::sleep_until(next) => {}
            }
            if clock::overslept(next) {
                // The thread stood still, or the machine did. What clients have answered meanwhile is read first.
                clock::catch_up().await;
            }
            inbox.take(&mut letters);
            if Self::round(&this, &mut letters) {
                return;
            }
            // While letters keep coming the sockets have their turn all the same.
            tokio::task::yield_now().await;
        }
    }

    /// Reads the letters, does what is due, writes. True when the core has ended.
    fn round(this: &Rc<RefCell<Self>>, letters: &mut Vec<Letter>) -> bool {
        let mut core = this.borrow_mut();
        let now = clock::now();
        let mut room = core.node.outbox / 4;
        for letter in letters.drain(..) {
            // Written in between, however much has come: outboxes are for those who do not read, not for bursts.
            if let Letter::Deliver(delivery) = &letter {
                if delivery.size() > room {
                    core.flush();
                    room = core.node.outbox / 4;
                }
                room = room.saturating_sub(delivery.size());
            }
            if let Some(address) = core.letter(letter, now) {
                tokio::task::spawn_local(Drive {
                    core: this.clone(),
                    address,
                });
            }
        }
        core.tick(now);
        core.flush();
        core.is_finished()
    }

    /// Answers the address of a connection that needs a task.
    fn letter(&mut self, letter: Letter, now: Instant) -> Option<Address> {
        match letter {
            Letter::Adopt(adoption) => return self.adopt(*adoption, now),
            Letter::Deliver(delivery) => self.deliver(&delivery, now),
            Letter::Notice(notice) => self.announce(&notice, now),
            Letter::Gap => self.doubt_streams(now),
            Letter::Lost => {
                self.node.metrics.lost();
                self.doubt_streams(now);
            }
            Letter::Read(channel, life, outcome) => self.stream_read(&channel, life, outcome, now),
            Letter::Recovered(waiting, channel, outcome) => self.recovered(&channel, *waiting, outcome, now),
            Letter::Positions(positions) => self.positions(positions, now),
            Letter::Interest(channel, result) => self.interest(&channel, &result, now),
            Letter::Completed(from, answer) => self.completed(from, answer, now),
            Letter::Emulated(emulated) => self.emulated(*emulated, now),
            Letter::Order(errand) => self.order(errand, now),
            Letter::Count(channels, asker) => drop(asker.send(self.count(&channels))),
            Letter::Census(asker) => drop(asker.send(self.census())),
            Letter::Drain(over) => self.drain = Some(Drain::begin(over, now)),
        }
        None
    }

    /// Puts a connection on the list of those to flush.
    fn touch(&mut self, key: usize) {
        if let Some(connection) = self.connections.get_mut(key)
            && !connection.touched
        {
            connection.touched = true;
            self.touched.push(key);
        }
    }

    /// Writes what every touched connection has queued, once each.
    fn flush(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        for key in touched.drain(..) {
            let Some(connection) = self.connections.get_mut(key) else {
                continue;
            };
            connection.touched = false;
            let broken = connection.flush().is_err();
            let (before, now) = connection.recount();
            self.node.metrics.waiting(before, now);
            let over = connection.is_over();
            if broken {
                self.gone(key);
            } else if over {
                self.remove(key);
            }
        }
        // Closing a broken connection touches nobody, so the list can be kept for the next round.
        if self.touched.is_empty() {
            self.touched = touched;
        }
    }

    fn connection(&mut self, address: Address) -> Option<&mut Connection> {
        let connection = self.connections.get_mut(address.key)?;
        (connection.session.client() == address.client).then_some(&mut **connection)
    }

    fn remove(&mut self, key: usize) {
        let Some(connection) = self.connections.try_remove(key) else {
            return;
        };
        if let Some(at) = connection.deadline {
            self.deadlines.remove(&(at, key));
        }
        connection.wake(); // its task finds it gone, and ends
        self.node.metrics.waiting(connection.counted, 0);
        self.node.metrics.disconnected();
    }

    fn count(&self, channels: &[Channel]) -> Vec<u32> {
        let count = |channel| u32::try_from(self.hub.count(channel)).unwrap_or(u32::MAX);
        channels.iter().map(count).collect()
    }

    fn census(&self) -> Census {
        Census {
            connections: self.connections.len(),
            users: self
                .connections
                .iter()
                .filter_map(|(_, c)| c.session.user().cloned())
                .collect(),
        }
    }
}
