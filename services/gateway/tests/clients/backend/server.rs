//! A backend of our users, which speaks HTTP or gRPC, and keeps what it is asked.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::HeaderMap,
    routing::post,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tidings_core::Secret;
use tidings_gateway::{Proxies, ProxyConfig};
use tidings_proto::proxy::{
    self as wire,
    centrifugo_proxy_server::{CentrifugoProxy, CentrifugoProxyServer},
};
use tidings_runtime::{Shutdown, serve};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use crate::node::PATIENCE;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Speaks {
    Http,
    Grpc,
}

/// What is asked: the event, the headers, and the question.
type Asked = (String, HeaderMap, Value);

/// What it answers; `None`: nothing, ever.
type Opinion = dyn Fn(&str, &Value) -> Option<Value> + Send + Sync;

/// A running backend; gone when dropped.
pub(super) struct Server {
    speaks: Speaks,
    address: SocketAddr,
    asked: mpsc::Receiver<Asked>,
    _running: Running,
}

#[derive(Clone)]
struct Backend {
    opinion: Arc<Opinion>,
    asked: mpsc::Sender<Asked>,
}

pub(super) async fn start(
    speaks: Speaks,
    opinion: impl Fn(&str, &Value) -> Option<Value> + Send + Sync + 'static,
) -> Server {
    let (sender, asked) = mpsc::channel(100);
    let backend = Backend {
        opinion: Arc::new(opinion),
        asked: sender,
    };
    let router = match speaks {
        Speaks::Http => Router::new().route("/{event}", post(posted)).with_state(backend),
        Speaks::Grpc => tonic::service::Routes::new(CentrifugoProxyServer::new(backend)).into_axum_router(),
    };
    let (address, running) = serve(router);
    Server {
        speaks,
        address,
        asked,
        _running: running,
    }
}

/// Serves until it is dropped.
pub(super) fn serve(router: Router) -> (SocketAddr, Running) {
    let listener = serve::bind("backend", ([127, 0, 0, 1], 0).into()).expect("a free port");
    let (address, shutdown) = (listener.local_addr().expect("bound"), Shutdown::new());
    drop(shutdown.spawn(serve::serve(
        listener,
        router,
        serve::Limits::default(),
        shutdown.clone(),
    )));
    (address, Running(shutdown))
}

pub(super) struct Running(Shutdown);

impl Server {
    /// Everything is asked here.
    pub(super) fn proxies(&self, change: impl Fn(&str, &mut ProxyConfig)) -> Proxies {
        let proxy = |event: &str| {
            let endpoint = match self.speaks {
                Speaks::Http => format!("http://{}/{event}", self.address),
                Speaks::Grpc => format!("grpc://{}", self.address),
            };
            let fixed = Secret::from("from the gateway".to_owned());
            let mut proxy = ProxyConfig {
                endpoint,
                http_headers: vec!["Cookie".into(), "traceparent".into(), "x-fixed".into()],
                static_headers: [("x-fixed".to_owned(), fixed)].into(),
                timeout: PATIENCE,
                ..ProxyConfig::default()
            };
            change(event, &mut proxy);
            Some(proxy)
        };
        Proxies {
            connect: proxy("connect"),
            refresh: proxy("refresh"),
            subscribe: proxy("subscribe"),
            publish: proxy("publish"),
            sub_refresh: proxy("sub_refresh"),
            rpc: proxy("rpc"),
        }
    }

    pub(super) async fn asked(&mut self) -> Asked {
        let asked = tokio::time::timeout(PATIENCE, self.asked.recv()).await;
        asked.expect("a question in time").expect("a question")
    }

    /// The next question of this kind.
    pub(super) async fn asked_about(&mut self, event: &str) -> Asked {
        loop {
            let asked = self.asked().await;
            if asked.0 == event {
                return asked;
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.force();
    }
}

impl Backend {
    async fn answer(&self, event: &str, headers: HeaderMap, question: Value) -> Value {
        let answer = (self.opinion)(event, &question);
        let _ = self.asked.try_send((event.to_owned(), headers, question));
        match answer {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    /// The same in gRPC: the messages stand for each other.
    async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        event: &str,
        request: Request<Q>,
    ) -> Result<Response<A>, Status> {
        let (metadata, _, question) = request.into_parts();
        let question = serde_json::to_value(question).expect("JSON");
        let answer = self.answer(event, metadata.into_headers(), question).await;
        Ok(Response::new(serde_json::from_value(answer).expect("an answer")))
    }
}

async fn posted(
    State(backend): State<Backend>,
    Path(event): Path<String>,
    headers: HeaderMap,
    Json(question): Json<Value>,
) -> Json<Value> {
    Json(backend.answer(&event, headers, question).await)
}

#[tonic::async_trait]
impl CentrifugoProxy for Backend {
    async fn connect(
        &self,
        request: Request<wire::ConnectRequest>,
    ) -> Result<Response<wire::ConnectResponse>, Status> {
        self.call("connect", request).await
    }

    async fn refresh(
        &self,
        request: Request<wire::RefreshRequest>,
    ) -> Result<Response<wire::RefreshResponse>, Status> {
        self.call("refresh", request).await
    }

    async fn subscribe(
        &self,
        request: Request<wire::SubscribeRequest>,
    ) -> Result<Response<wire::SubscribeResponse>, Status> {
        self.call("subscribe", request).await
    }

    async fn publish(
        &self,
        request: Request<wire::PublishRequest>,
    ) -> Result<Response<wire::PublishResponse>, Status> {
        self.call("publish", request).await
    }

    async fn rpc(&self, request: Request<wire::RpcRequest>) -> Result<Response<wire::RpcResponse>, Status> {
        self.call("rpc", request).await
    }

    async fn sub_refresh(
        &self,
        request: Request<wire::SubRefreshRequest>,
    ) -> Result<Response<wire::SubRefreshResponse>, Status> {
        self.call("sub_refresh", request).await
    }
}
