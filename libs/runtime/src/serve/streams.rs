//! The HTTP/2 streams of one connection: how many are open, and how one ends whose peer does not take what is left of it.
//!
//! hyper runs each stream in a task of its own, given to the connection's executor: here. A response that waits for its
//! peer's flow control window is not asked for more, so it cannot end itself; its task can be ended.

use std::{sync::Arc, time::Duration};

use hyper::rt::Executor;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a peer has for what is left of a response that is over.
const REST: Duration = Duration::from_secs(5);

tokio::task_local! {
    static FAREWELL: Farewell;
}

/// Says that the response to a request is over: its peer has five seconds to take what is left, then its stream is reset.
/// Found in the extensions of every HTTP/2 request. (Over HTTP/1.1 a peer that takes nothing loses its connection after
/// [`Limits::write_timeout`](super::Limits::write_timeout).)
#[derive(Debug, Clone, Default)]
pub struct Farewell(CancellationToken);

impl Farewell {
    /// Begins the five seconds.
    pub fn begin(&self) {
        self.0.cancel();
    }

    /// That of the stream whose task this is.
    pub(super) fn current() -> Option<Self> {
        FAREWELL.try_with(Self::clone).ok()
    }

    async fn over(&self) {
        self.0.cancelled().await;
        tokio::time::sleep(REST).await;
    }
}

/// The streams of one connection.
#[derive(Clone, Default)]
pub(super) struct Streams(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    open: usize,
    quiet_since: Option<Instant>,
}

/// What the streams of a connection are doing.
pub(super) enum Activity {
    /// There has been none: this is not HTTP/2, or there was no request yet.
    None,
    /// Some are open.
    Busy,
    /// The last one ended then.
    QuietSince(Instant),
}

impl Streams {
    pub(super) fn activity(&self) -> Activity {
        let state = self.0.lock();
        match state.quiet_since {
            _ if state.open > 0 => Activity::Busy,
            Some(since) => Activity::QuietSince(since),
            None => Activity::None,
        }
    }
}

/// An open stream.
struct Open(Streams);

impl Open {
    fn new(streams: &Streams) -> Self {
        streams.0.lock().open += 1;
        Self(streams.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        state.open -= 1;
        state.quiet_since = Some(Instant::now());
    }
}

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        let (open, farewell) = (Open::new(self), Farewell::default());
        let task = FAREWELL.scope(farewell.clone(), async move {
            let _open = open;
            tokio::select! {
                _ = stream => {}
                () = farewell.over() => {}
            }
        });
        TokioExecutor::new().execute(task);
    }
}
