//! HTTP/2 in cleartext, on the same ports as HTTP/1.1.

use super::*;

#[tokio::test]
async fn cleartext_http2_is_spoken_on_the_same_port() {
    let (address, shutdown) = open(hello(), Limits::DEFAULT);
    let socket = TcpStream::connect(address).await.unwrap();
    let (mut requests, connection) =
        hyper::client::conn::http2::handshake::<_, _, String>(TokioExecutor::new(), TokioIo::new(socket))
            .await
            .unwrap();
    drop(shutdown.spawn(async { connection.await.unwrap() }));
    let request = hyper::Request::get(format!("http://{address}/"))
        .body(String::new())
        .unwrap();
    assert_eq!(requests.send_request(request).await.unwrap().status(), 200);
    drop(requests);
    shutdown.request();
    shutdown.wait().await;
}

#[tokio::test(start_paused = true)]
async fn an_http2_connection_that_was_opened_ahead_of_its_calls_is_closed_without_an_error() {
    let (address, shutdown) = open(hello(), Limits::DEFAULT);
    let socket = TcpStream::connect(address).await.unwrap();
    let (requests, connection) =
        hyper::client::conn::http2::handshake::<_, _, String>(TokioExecutor::new(), TokioIo::new(socket))
            .await
            .unwrap();
    connection.await.unwrap();
    assert!(requests.is_closed());
    shutdown.request();
    shutdown.wait().await;
}

/// A client of cleartext HTTP/2 that gives each response so many bytes of room.
async fn http2(
    address: SocketAddr,
    window: u32,
) -> (
    hyper::client::conn::http2::SendRequest<String>,
    impl Future<Output = hyper::Result<()>>,
) {
    let socket = TcpStream::connect(address).await.unwrap();
    hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window)
        .handshake(TokioIo::new(socket))
        .await
        .unwrap()
}

fn request(address: SocketAddr) -> hyper::Request<String> {
    let request = hyper::Request::get(format!("http://{address}/"));
    request.body(String::new()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_http2_connection_without_requests_is_closed_and_one_with_a_long_answer_is_not() {
    let slow = Router::new().route(
        "/",
        get(|| async {
            tokio::time::sleep(Duration::from_secs(15)).await;
            "late"
        }),
    );
    let limits = Limits {
        idle_timeout: Duration::from_secs(5),
        ..Limits::DEFAULT
    };
    let (address, shutdown) = open(slow, limits);
    let (mut requests, connection) = http2(address, 1000).await;
    let running = shutdown.spawn(connection);
    let response = requests.send_request(request(address)).await.unwrap();
    assert_eq!(response.status(), 200);
    let body = axum::body::to_bytes(axum::body::Body::new(response.into_body()), 100).await;
    assert_eq!(body.unwrap(), "late");
    running.await.unwrap().unwrap().unwrap();
    assert!(requests.is_closed());
    shutdown.request();
    shutdown.wait().await;
}

#[tokio::test(start_paused = true)]
async fn an_http2_peer_has_a_while_for_what_is_left_of_a_response_that_is_over() {
    let (held, holds) = tokio::sync::oneshot::channel::<()>();
    let held = Arc::new(parking_lot::Mutex::new(Some(held)));
    let endless = Router::new().route(
        "/",
        get(move |farewell: axum::Extension<Farewell>| async move {
            farewell.begin();
            let held = held.lock().take();
            let more = futures_util::stream::repeat_with(move || {
                let _ = &held;
                Ok::<_, std::convert::Infallible>("x")
            });
            axum::body::Body::from_stream(more)
        }),
    );
    let (address, shutdown) = open(endless, Limits::DEFAULT);
    let (mut requests, connection) = http2(address, 0).await;
    drop(shutdown.spawn(async { drop(connection.await) }));
    let response = requests.send_request(request(address)).await.unwrap();
    assert!(holds.await.is_err(), "the response is let go of");
    let body = axum::body::to_bytes(axum::body::Body::new(response.into_body()), 100).await;
    assert!(body.is_err(), "its stream was reset");
    drop(requests);
    shutdown.request();
    shutdown.wait().await;
}

/// A gRPC stream of small messages is one: each in a frame of its own, and read no faster than they are worked on.
#[tokio::test]
async fn a_request_of_small_frames_that_are_not_read_yet_waits_and_ends_no_connection() {
    const FRAMES: usize = 10_000;
    let gate = Arc::new(tokio::sync::Notify::new());
    let opened = gate.clone();
    let slow = hello().route(
        "/slow",
        post(move |request: Request| async move {
            opened.notified().await;
            let body = axum::body::to_bytes(request.into_body(), 1_000_000).await;
            body.unwrap().len().to_string()
        }),
    );
    let (address, shutdown) = open(slow, Limits::DEFAULT);
    let socket = TcpStream::connect(address).await.unwrap();
    let (mut requests, connection) = hyper::client::conn::http2::handshake::<_, _, axum::body::Body>(
        TokioExecutor::new(),
        TokioIo::new(socket),
    )
    .await
    .unwrap();
    drop(shutdown.spawn(async { drop(connection.await) }));
    let frames = futures_util::stream::iter(std::iter::repeat_n(
        Ok::<_, std::convert::Infallible>("0123456789"),
        FRAMES,
    ));
    let body = axum::body::Body::from_stream(frames);
    let request = hyper::Request::post(format!("http://{address}/slow"));
    let answered = requests.send_request(request.body(body).unwrap());
    let beside = async {
        // Others on the connection go on while all that may be sent waits.
        for _ in 0..100 {
            let request = hyper::Request::get(format!("http://{address}/"));
            let response = requests
                .clone()
                .send_request(request.body(axum::body::Body::empty()).unwrap());
            assert_eq!(response.await.unwrap().status(), 200);
        }
        gate.notify_one();
    };
    let (answered, ()) = tokio::join!(answered, beside);
    let body = axum::body::Body::new(answered.unwrap().into_body());
    let length = axum::body::to_bytes(body, 100).await.unwrap();
    assert_eq!(length, (10 * FRAMES).to_string());
    drop(requests);
    shutdown.request();
    shutdown.wait().await;
}
