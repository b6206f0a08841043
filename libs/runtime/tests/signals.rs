//! Signals end a process in order. One test in a process of its own, because it sends signals to itself.
#![cfg(unix)]

use std::process::Command;

use tidings_runtime::Shutdown;

fn send(signal: &str) {
    let status = Command::new("kill")
        .args([signal, &std::process::id().to_string()])
        .status();
    assert!(status.expect("there is a kill").success());
}

#[tokio::test]
async fn the_first_signal_requests_and_the_second_forces() {
    let shutdown = Shutdown::on_signals().unwrap();
    let stuck = shutdown.spawn(std::future::pending::<()>());
    assert!(!shutdown.is_requested());
    send("-TERM");
    shutdown.requested().await;
    assert!(!stuck.is_finished());
    send("-INT");
    shutdown.forced().await;
    shutdown.wait().await;
    assert_eq!(stuck.await.unwrap(), None);
}
