//! Publications of one caller, in order in each channel.
//!
//! Of each channel one command is under way at a time. What the caller publishes meanwhile waits, and goes out together with
//! the next command, which is one script and so takes effect as a whole: whatever a command meets (a script that Redis does not
//! know, another primary, a lost connection), it is repeated before anything later is sent, and nothing comes in between.
//! A busy channel costs fewer round trips than without an order, not more.
//!
//! A publication that fails for good breaks its channel: what the caller publishes there afterwards would overtake it, and is
//! refused until the caller has published that one again.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::Arc,
};

use bytes::Bytes;
use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use parking_lot::Mutex;
use tidings_core::Channel;
use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Bus,
    commands::Failure,
    slots::Address,
    streams::Item,
    waiting::{Permit, again, answered, keyed},
};
use crate::{Error, Published, Target};

/// The most publications of one command, and their bytes, but for the first: a script holds up all others at its Redis.
const ITEMS: usize = 64;
const BYTES: usize = 256 << 10;

type Answer = Result<Published, Error>;

/// One caller's publisher. Dropping it gives up what has no answer.
pub(crate) struct Ordered {
    shared: Arc<Shared>,
    _driver: AbortOnDropHandle<()>,
}

struct Shared {
    bus: Arc<Bus>,
    queues: Mutex<Queues>,
    /// Some channel has something to send.
    ready: Notify,
}

#[derive(Default)]
struct Queues {
    by_channel: HashMap<Channel, Queue>,
    ready: Vec<Channel>,
}

/// What is to be published to one channel.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// A command is under way, or will be tried again.
    busy: bool,
    broken: Option<Broken>,
}

/// That a publication failed, by the key that its caller gave it, if it did: known by it, it may be published again.
struct Broken(Option<Arc<str>>);

/// One publication to one channel.
struct Waiting {
    /// As it was given, and as it is sent: with a key by which it can be tried again.
    given: Target,
    target: Target,
    envelope: Bytes,
    deadline: Instant,
    reply: oneshot::Sender<Answer>,
}

/// The publications of one command.
struct Batch {
    channel: Channel,
    items: Vec<Waiting>,
    /// For as long as they wait for Redis.
    permit: Option<Permit>,
    failure: Option<Failure>,
}

impl Ordered {
    /// Must be called within a runtime.
    pub(crate) fn new(bus: Arc<Bus>) -> Self {
        let shared = Arc::new(Shared {
            bus,
            queues: Mutex::default(),
            ready: Notify::new(),
        });
        Self {
            // The handle is what tracks it.
            _driver: AbortOnDropHandle::new(Handle::current().spawn(drive(shared.clone()))),
            shared,
        }
    }

    /// Takes a publication into the order of each of its channels, before this returns. The answers, one per target.
    pub(crate) fn publish(
        &self,
        targets: &[Target],
        envelope: &Bytes,
        deadline: Option<Instant>,
    ) -> BoxFuture<'static, Vec<Answer>> {
        let deadline = deadline.unwrap_or_else(|| Instant::now() + self.shared.bus.timeout);
        let keyed = keyed(targets, deadline);
        let mut queues = self.shared.queues.lock();
        let answers = targets.iter().zip(keyed).map(|(given, target)| {
            let (reply, answer) = oneshot::channel();
            queues.push(Waiting {
                given: given.clone(),
                target,
                envelope: envelope.clone(),
                deadline,
                reply,
            });
            answer
        });
        let answers: Vec<_> = answers.collect();
        drop(queues);
        self.shared.ready.notify_one();
        let given_up = self.shared.bus.peer.away("the publisher was dropped");
        async move {
            let answers = join_all(answers).await.into_iter();
            let answers = answers.map(|answer| answer.unwrap_or_else(|_| Err(given_up.clone())));
            answers.collect()
        }
        .boxed()
    }
}

impl Queues {
    fn push(&mut self, waiting: Waiting) {
        let channel = waiting.target.channel.clone();
        let queue = self.by_channel.entry(channel.clone()).or_default();
        if let Some(Broken(failed)) = &queue.broken {
            let key = waiting.given.once.as_ref().map(|once| &once.key);
            if failed.is_none() || failed.as_ref() != key {
                waiting.abort();
                return;
            }
            queue.broken = None;
        }
        queue.waiting.push_back(waiting);
        if !mem::replace(&mut queue.busy, true) {
            self.ready.push(channel);
        }
    }

    /// What is to be sent now, by channel.
    fn take(&mut self) -> Vec<Batch> {
        let ready = mem::take(&mut self.ready);
        let batches = ready.into_iter().map(|channel| {
            let waiting = self.by_channel.get_mut(&channel).map(|queue| &mut queue.waiting);
            Batch {
                items: waiting.map(first).unwrap_or_default(),
                channel,
                permit: None,
                failure: None,
            }
        });
        batches.collect()
    }

    /// A command has ended well, or for good: `failed` is the key of the publication that failed.
    fn settle(&mut self, channel: Channel, failed: Option<Broken>) {
        let Some(queue) = self.by_channel.get_mut(&channel) else {
            return;
        };
        if failed.is_some() {
            queue.broken = failed;
            queue.waiting.drain(..).for_each(Waiting::abort);
        }
        queue.busy = !queue.waiting.is_empty();
        if queue.busy {
            self.ready.push(channel);
        } else if queue.broken.is_none() {
            self.by_channel.remove(&channel);
        }
    }
}

/// As many as go into one command.
fn first(waiting: &mut VecDeque<Waiting>) -> Vec<Waiting> {
    let mut bytes = 0;
    let kind = waiting.front().map(|it| kind(&it.target));
    let fits = waiting.iter().take(ITEMS).take_while(|it| {
        let fits = bytes == 0 || bytes + it.envelope.len() <= BYTES;
        bytes += it.envelope.len().max(1);
        fits && Some(self::kind(&it.target)) == kind
    });
    let count = fits.count();
    waiting.drain(..count).collect()
}

/// What travels together: what has no key cannot be tried again, and what is kept is another script.
fn kind(target: &Target) -> (bool, bool) {
    (target.once.is_some(), target.retention.is_some())
}

impl Waiting {
    fn abort(self) {
        let channel = self.target.channel.clone();
        self.answer(Err(Error::Aborted { channel }));
    }

    fn answer(self, answer: Answer) {
        // The caller may have stopped waiting.
        let _ = self.reply.send(answer);
    }
}

/// Sends what is ready until it is dropped: all that is ready at a time in one request per node of Redis.
async fn drive(shared: Arc<Shared>) {
    let mut requests: FuturesUnordered<BoxFuture<'static, Vec<Batch>>> = FuturesUnordered::new();
    loop {
        let batches = shared.queues.lock().take();
        for batches in by_node(&shared.bus, batches) {
            requests.push(send(shared.clone(), batches).boxed());
        }
        tokio::select! {
            () = shared.ready.notified() => {}
            Some(open) = requests.next(), if !requests.is_empty() => for batch in open {
                requests.push(send_later(shared.clone(), batch).boxed());
            }
        }
    }
}

/// What is wrong with one node must not hold up the channels of others.
fn by_node(bus: &Bus, batches: Vec<Batch>) -> Vec<Vec<Batch>> {
    let mut nodes: HashMap<Option<Address>, Vec<Batch>> = HashMap::new();
    for batch in batches {
        let node = bus.servers.owner(batch.channel.as_str());
        nodes.entry(node).or_default().push(batch);
    }
    nodes.into_values().collect()
}

/// Tries to publish batches, and answers those that ended. Those to be tried again are returned.
async fn send(shared: Arc<Shared>, batches: Vec<Batch>) -> Vec<Batch> {
    let items = batches.iter().flat_map(|batch| &batch.items);
    let deadline = items.clone().map(|it| it.deadline).max();
    let items: Vec<_> = items
        .map(|it| Item {
            target: &it.target,
            envelope: &it.envelope,
        })
        .collect();
    let Some(deadline) = deadline else {
        return Vec::new();
    };
    let together = |one: &Item<'_>, next: &Item<'_>| {
        one.target.channel == next.target.channel && kind(one.target) == kind(next.target)
    };
    let results = shared.bus.attempt(&items, together, deadline).await;
    drop(items);
    let mut results = results.into_iter();
    let mut open = Vec::new();
    for batch in batches {
        let results: Vec<_> = results.by_ref().take(batch.items.len()).collect();
        open.extend(finish(&shared, batch, results));
    }
    open
}

/// Answers a batch, or gives it back to be tried again: as a whole, since none of it was published.
fn finish(shared: &Shared, mut batch: Batch, results: Vec<Result<Published, Failure>>) -> Option<Batch> {
    let retry = results.iter().zip(&batch.items).find_map(|(result, it)| {
        let failure = result.as_ref().err()?;
        again(&it.target, failure).then(|| failure.clone())
    });
    if let Some(failure) = retry {
        if batch.permit.is_none() {
            let bytes = batch.items.iter().map(|it| it.envelope.len()).sum();
            batch.permit = shared.bus.waiting.permit(bytes);
        }
        batch.failure = Some(if batch.permit.is_some() {
            failure
        } else {
            shared.bus.full()
        });
        return match batch.permit {
            Some(_) => Some(batch),
            None => {
                give_up(shared, batch);
                None
            }
        };
    }
    let mut failed = None;
    for (result, it) in results.into_iter().zip(batch.items) {
        let answer = result.map(|published| answered(&it.given, published));
        if answer.is_err() && failed.is_none() {
            failed = Some(it.broken());
        }
        it.answer(answer.map_err(Error::from));
    }
    shared.queues.lock().settle(batch.channel, failed);
    None
}

/// Tries again once Redis may be back, unless the first of the batch has to be answered by then.
async fn send_later(shared: Arc<Shared>, batch: Batch) -> Vec<Batch> {
    let deadline = batch.items.first().map_or_else(Instant::now, |it| it.deadline);
    let returned = tokio::time::timeout_at(deadline, shared.bus.returned()).await;
    if returned.is_err() || Instant::now() >= deadline {
        give_up(&shared, batch);
        return Vec::new();
    }
    send(shared, vec![batch]).await
}

/// The first publication of the batch fails, and all later ones with it.
fn give_up(shared: &Shared, batch: Batch) {
    let mut failed = None;
    let failure = batch.failure.unwrap_or_else(|| shared.bus.full());
    for it in batch.items {
        if failed.is_some() {
            it.abort();
            continue;
        }
        failed = Some(it.broken());
        it.answer(Err(failure.error.clone()));
    }
    shared.queues.lock().settle(batch.channel, failed);
}

impl Waiting {
    /// What its failure does to its channel.
    fn broken(&self) -> Broken {
        Broken(self.given.once.as_ref().map(|once| once.key.clone()))
    }
}
