//! The user's application, which a gateway asks what it may not decide by itself: the other end of the proxies.

use std::{future::Future, net::SocketAddr, sync::Arc};

use axum::{Json, Router, extract::Path, http::HeaderMap, routing::post};
use serde_json::Value;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::eventually::in_time;

/// How many questions may wait for a test that does not look at them.
const UNSEEN: usize = 1024;

/// An HTTP server that answers questions as the test says. Ends when it is dropped.
pub struct Application {
    address: SocketAddr,
    asked: mpsc::Receiver<Asked>,
    _serving: AbortOnDropHandle<()>,
}

/// A question as it came.
#[derive(Debug)]
pub struct Asked {
    /// What it was about: `connect`, `rpc`, …
    pub about: String,
    /// The headers of the request.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Value,
}

impl Application {
    /// Starts one that gives `answer` to the question about the first argument with the body in the second.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start<F>(answer: impl Fn(String, Value) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Value> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (seen, asked) = mpsc::channel(UNSEEN);
        let answer = Arc::new(answer);
        let handler = async move |Path(about): Path<String>, headers: HeaderMap, Json(body): Json<Value>| {
            // Nobody looks, or not fast enough: the question is answered all the same.
            let _ = seen.try_send(Asked {
                about: about.clone(),
                headers,
                body: body.clone(),
            });
            Json(answer(about, body).await)
        };
        let router = Router::new().route("/{about}", post(handler));
        let serving = TaskTracker::new().spawn(async move {
            axum::serve(listener, router)
                .await
                .expect("it serves until it is dropped");
        });
        Self {
            address,
            asked,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    /// Where it answers questions about `about`.
    #[must_use]
    pub fn endpoint(&self, about: &str) -> String {
        format!("http://{}/{about}", self.address)
    }

    /// The next question.
    ///
    /// # Panics
    /// When there is none.
    pub async fn asked(&mut self) -> Asked {
        let asked = in_time("a question to the application", self.asked.recv()).await;
        asked.expect("it runs")
    }
}
