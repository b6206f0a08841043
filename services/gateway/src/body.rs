//! The response of a client that is reached by HTTP: a core writes it, the HTTP server reads it, at the pace of each.
//!
//! Between them is one outbox, bounded as a socket's is. What has queued leaves together. Idle, it holds nothing.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::Frame;
use parking_lot::Mutex;
use tidings_hub::{Full, Outbox};
use tidings_protocol::CloseReason;
use tidings_runtime::serve::Farewell;
use tokio::sync::oneshot;

/// The most bytes that leave in one piece.
const PIECE: usize = 64 * 1024;

/// How a session has begun: it has something to say, or it is over before it had.
pub(crate) type Verdict = Result<(), CloseReason>;

/// The two ends of a response. The client's place is held until the HTTP server has let go of its end, which a client that
/// reads nothing cannot put off for ever: the `farewell` of its stream begins with the end of the response.
pub(crate) fn pair<P>(place: P, farewell: Option<Farewell>) -> (Writer, Body<P>) {
    let shared = Arc::new(Mutex::new(State::default()));
    let writer = Writer {
        shared: shared.clone(),
        verdict: None,
        farewell,
    };
    let body = Body {
        shared,
        _place: place,
    };
    (writer, body)
}

#[derive(Default)]
struct State {
    outbox: Outbox,
    /// The server's task, while it waits for more.
    reader: Option<Waker>,
    /// The core's task, which wants to know when the client goes.
    writer: Option<Waker>,
    /// Nothing more will come.
    finished: bool,
    /// Nobody reads any more.
    gone: bool,
}

/// The core's end. Dropping it ends the response after what has been queued.
pub(crate) struct Writer {
    shared: Arc<Mutex<State>>,
    verdict: Option<oneshot::Sender<Verdict>>,
    farewell: Option<Farewell>,
}

impl Writer {
    /// Tells how the session begins, once: with the first frame, or with an end before it. An error says that the core
    /// itself has ended.
    pub(crate) fn verdict(&mut self) -> oneshot::Receiver<Verdict> {
        let (tell, told) = oneshot::channel();
        self.verdict = Some(tell);
        told
    }

    /// Bytes that wait for the client.
    pub(crate) fn bytes(&self) -> usize {
        self.shared.lock().outbox.bytes()
    }

    /// Queues a frame. It leaves with the next [`flush`](Self::flush), or earlier.
    pub(crate) fn push(&mut self, frame: Bytes, limit: usize) -> Result<(), Full> {
        self.shared.lock().outbox.push(frame, limit)?;
        self.begin(Ok(()));
        Ok(())
    }

    /// Makes the server look at what has been queued.
    pub(crate) fn flush(&self) {
        let reader = self.shared.lock().reader.take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Drops every frame that has not begun to leave.
    pub(crate) fn drop_unbegun(&self) {
        self.shared.lock().outbox.drop_unbegun();
    }

    /// The session is over. If it had nothing to say, this is what is to be known of it.
    pub(crate) fn begin(&mut self, verdict: Verdict) {
        if let Some(tell) = self.verdict.take() {
            let _ = tell.send(verdict); // nobody waits for it when the client has gone
        }
    }

    /// Whether the client has gone. If not, the task of `cx` is woken once it has.
    pub(crate) fn is_gone(&self, cx: &mut Context<'_>) -> bool {
        let mut state = self.shared.lock();
        if !state.gone {
            match &mut state.writer {
                Some(writer) => writer.clone_from(cx.waker()),
                None => state.writer = Some(cx.waker().clone()),
            }
        }
        state.gone
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.lock().finished = true;
        self.flush();
        if let Some(farewell) = &self.farewell {
            farewell.begin();
        }
    }
}

/// The HTTP server's end. Dropping it says that the client has gone.
pub(crate) struct Body<P> {
    shared: Arc<Mutex<State>>,
    _place: P,
}

impl<P> http_body::Body for Body<P> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut state = self.shared.lock();
        if let Some(piece) = state.outbox.take(PIECE) {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if state.finished {
            return Poll::Ready(None);
        }
        match &mut state.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            None => state.reader = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        let state = self.shared.lock();
        state.finished && state.outbox.is_empty()
    }
}

impl<P> Drop for Body<P> {
    fn drop(&mut self) {
        let (writer, left) = {
            let mut state = self.shared.lock();
            state.gone = true;
            (state.writer.take(), std::mem::take(&mut state.outbox))
        };
        drop(left); // outside the lock
        if let Some(writer) = writer {
            writer.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use http_body::Body as _;

    use super::*;

    #[derive(Default)]
    struct Woken(std::sync::atomic::AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// What the server gets when it asks: a piece, the end (`Some(None)`), or nothing for now.
    fn ask(body: &mut Body<()>, waker: &Waker) -> Option<Option<Bytes>> {
        match Pin::new(body).poll_frame(&mut Context::from_waker(waker)) {
            Poll::Ready(Some(Ok(frame))) => Some(frame.into_data().ok()),
            Poll::Ready(None) => Some(None),
            Poll::Pending => None,
        }
    }

    #[test]
    fn what_has_queued_leaves_together_and_the_server_is_woken_once() {
        let (mut writer, mut body) = pair((), None);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        assert_eq!(ask(&mut body, &waker), None);
        for frame in ["a", "b"] {
            writer.push(frame.into(), 1000).expect("room");
        }
        for _ in 0..2 {
            writer.flush();
        }
        assert_eq!(woken.0.load(std::sync::atomic::Ordering::Relaxed), 1);
        assert_eq!(ask(&mut body, &waker), Some(Some("ab".into())));
        assert_eq!(ask(&mut body, &waker), None);
    }

    #[test]
    fn a_client_that_reads_too_slowly_fills_its_own_response_and_nothing_else() {
        let (mut writer, mut body) = pair((), None);
        writer.push("abc".into(), 69).expect("room");
        assert_eq!(writer.push("def".into(), 69), Err(Full));
        writer.drop_unbegun();
        writer.push("bye".into(), usize::MAX).expect("room");
        drop(writer);
        assert_eq!(ask(&mut body, Waker::noop()), Some(Some("bye".into())));
        assert!(body.is_end_stream());
        assert_eq!(ask(&mut body, Waker::noop()), Some(None));
    }

    #[test]
    fn each_end_hears_when_the_other_has_gone() {
        let (writer, body) = pair((), None);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        assert!(!writer.is_gone(&mut Context::from_waker(&waker)));
        drop(body);
        assert_eq!(woken.0.load(std::sync::atomic::Ordering::Relaxed), 1);
        assert!(writer.is_gone(&mut Context::from_waker(&waker)));
    }

    #[test]
    fn the_verdict_is_the_first_frame_or_the_end_before_it() {
        let (mut writer, _body) = pair((), None);
        let mut told = writer.verdict();
        writer.push("a".into(), 1000).expect("room");
        writer.begin(Err(CloseReason::Slow));
        assert_eq!(told.try_recv(), Ok(Ok(())));
        let mut told = writer.verdict();
        writer.begin(Err(CloseReason::InvalidToken));
        assert_eq!(told.try_recv(), Ok(Err(CloseReason::InvalidToken)));
        let mut told = writer.verdict();
        drop(writer);
        assert!(told.try_recv().is_err());
    }
}
