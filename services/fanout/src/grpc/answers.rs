//! The answers to a stream, which go on being made while their caller does not read them.
//!
//! What is under way takes room from all other callers until it is done, and is done only when it is polled. While the caller
//! reads, the response polls, which costs nothing more. When the caller stops, a task of its own polls once a second: what is
//! under way is finished and its answers are kept, and no further request is read.

use std::{
    collections::VecDeque,
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::{Stream, stream};
use parking_lot::Mutex;
use tokio::{task::JoinSet, time::interval};

/// How often it is looked whether the caller reads.
const LOOK: Duration = Duration::from_secs(1);

type Boxed<T> = Pin<Box<dyn Stream<Item = T> + Send>>;

/// Whether further requests may be read.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    closed: Arc<AtomicBool>,
}

/// The answers, in order. Dropping it gives up what is under way.
pub(crate) struct Answers<T> {
    work: Arc<Mutex<Work<T>>>,
    _finishing: JoinSet<()>,
}

struct Work<T> {
    answers: Boxed<T>,
    /// Answers that the caller did not read. As many as were under way when it stopped.
    unread: VecDeque<T>,
    /// Whether the response has polled since this was last looked at.
    polled: bool,
    /// Whether the response waits for an answer, and is told of it.
    waiting: bool,
}

impl Gate {
    /// The requests, while the gate is open.
    pub(super) fn before<T, S>(&self, requests: S) -> impl Stream<Item = T> + Send + use<T, S>
    where
        S: Stream<Item = T> + Send + 'static,
    {
        let (closed, mut requests) = (self.closed.clone(), Box::pin(requests));
        stream::poll_fn(move |context| {
            if closed.load(Relaxed) {
                // Nobody is to be woken: the response polls again when its caller reads.
                return Poll::Pending;
            }
            requests.as_mut().poll_next(context)
        })
    }
}

impl<T: Send + 'static> Answers<T> {
    /// `gate`: before the requests that `answers` are made of.
    pub(super) fn new(answers: impl Stream<Item = T> + Send + 'static, gate: Gate) -> Self {
        let work = Arc::new(Mutex::new(Work {
            answers: Box::pin(answers),
            unread: VecDeque::new(),
            polled: false,
            waiting: false,
        }));
        let mut finishing = JoinSet::new();
        finishing.spawn(finish(work.clone(), gate));
        Self {
            work,
            _finishing: finishing,
        }
    }
}

impl<T> Stream for Answers<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut work = self.work.lock();
        let next = match work.unread.pop_front() {
            Some(answer) => Poll::Ready(Some(answer)),
            None => work.answers.as_mut().poll_next(context),
        };
        work.polled = true;
        work.waiting = next.is_pending();
        next
    }
}

/// Finishes what is under way whenever the response is not polled.
async fn finish<T>(work: Arc<Mutex<Work<T>>>, gate: Gate) {
    let mut look = interval(LOOK);
    loop {
        look.tick().await;
        let mut work = work.lock();
        if mem::take(&mut work.polled) || work.waiting {
            continue;
        }
        gate.closed.store(true, Relaxed);
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(answer)) = work.answers.as_mut().poll_next(&mut context) {
            work.unread.push_back(answer);
        }
        gate.closed.store(false, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, poll};
    use tokio::sync::{Semaphore, mpsc, oneshot};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_is_finished_while_the_caller_does_not_read_and_nothing_new_is_begun() {
        let room = Arc::new(Semaphore::new(3));
        let (done, requests) = mpsc::channel::<oneshot::Receiver<u32>>(8);
        let gate = Gate::default();
        let requests = gate.before(tokio_stream::wrappers::ReceiverStream::new(requests));
        let taken = room.clone();
        let answers = requests.map(move |answer| {
            let permit = taken.clone().try_acquire_owned().unwrap();
            async move {
                let answer = answer.await.unwrap();
                drop(permit);
                answer
            }
        });
        let mut answers = Answers::new(answers.buffered(2), gate);
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..3).map(|_| oneshot::channel()).unzip();
        for receiver in receivers {
            done.send(receiver).await.unwrap();
        }
        assert!(poll!(answers.next()).is_pending());
        assert_eq!(room.available_permits(), 1, "two are under way");
        let mut senders = senders.into_iter();
        senders.next().unwrap().send(1).unwrap();
        assert_eq!(answers.next().await, Some(1));
        senders.next().unwrap().send(2).unwrap();
        tokio::time::sleep(3 * LOOK).await;
        assert_eq!(
            room.available_permits(),
            3,
            "the second is finished, the third was not begun"
        );
        senders.next().unwrap().send(3).unwrap();
        drop(done);
        assert_eq!(answers.collect::<Vec<_>>().await, [2, 3]);
    }
}
