//! `tidings dev`: everything in one process, on loopback, open to everyone there; says what to try next.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    net::SocketAddr,
};

use tidings_runtime::config::Environment;
use uuid::Uuid;

use super::Global;
use crate::{
    config::Config,
    failure::Failure,
    node::{Addresses, Node, Plan, reload::Origin},
    roles::Roles,
};

/// Runs it until it is told to stop.
pub(super) async fn run(global: &Global) -> Result<(), Failure> {
    let source = global.source()?;
    let config = Config::load_for_dev(&source)?;
    let namespaces = config.namespaces()?.with_undeclared_open();

    let backends = if config.backends.tls.is_some() {
        "https"
    } else {
        "http"
    };

    let id = Uuid::new_v4();
    let telemetry = global.telemetry(&source.environment, "dev", id)?;
    let node = Node::open(Plan {
        config,
        roles: Roles::ALL,
        namespaces,
        id,
        origin: Origin {
            source: source.clone(),
            load: Config::load_for_dev,
        },
    })?;
    let welcome = welcome(
        node.addresses,
        backends,
        &program(&source.environment),
        global.config.is_some(),
    );
    let left = node
        .run(|| {
            // Without a reader there is nobody to welcome.
            let _ = io::stdout().write_all(welcome.as_bytes());
        })
        .await;
    telemetry.shutdown().await;
    left
}

/// How this program was started, as somebody would type it: it may not be in the PATH.
fn program(environment: &Environment) -> String {
    // Cargo sets it for what it runs.
    if environment.get("CARGO").is_some() {
        let profile = if cfg!(debug_assertions) { "" } else { " --release" };
        return format!("cargo run{profile} --");
    }
    let invoked = std::env::args_os()
        .next()
        .and_then(|program| program.into_string().ok());
    match invoked {
        Some(path) if path.contains(char::is_whitespace) => format!("'{path}'"),
        Some(path) => path,
        None => "tidings".to_owned(),
    }
}

/// Where the doors are (that of backends by `scheme`), and lines that work when they are pasted into another terminal. With `explicit`, what is
/// pasted does not rely on the other terminal finding the same configuration.
fn welcome(addresses: Addresses, scheme: &str, program: &str, explicit: bool) -> String {
    let Addresses {
        clients,
        backends,
        operators,
        ..
    } = addresses;
    let (Some(clients), Some(backends), Some(operators)) = (clients, backends, operators) else {
        return String::new();
    };
    let server = |scheme: &str, address: SocketAddr, default: u16| {
        if explicit || address.port() != default {
            format!(" --server {scheme}://{address}")
        } else {
            String::new()
        }
    };
    let (listen_at, publish_at) = (server("ws", clients, 8000), server(scheme, backends, 9000));
    let mut text = String::new();
    let _ = writeln!(
        text,
        "\
Tidings is ready.

  clients    ws://{clients}/connection/websocket, or ws://{clients}/ws/CHANNEL
  backends   {scheme}://{backends} (gRPC)
  operators  http://{operators}/health/ready

Listen, in a second terminal:

  {program} listen tasks:1{listen_at}

Publish, in a third:

  {program} publish --type task.created --channel tasks:1 --data '{{\"title\":\"Hello\"}}'{publish_at}
"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(clients: u16) -> Addresses {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Addresses {
            clients: Some(at(clients)),
            backends: Some(at(clients + 1000)),
            presence: None,
            operators: Some(at(clients + 1100)),
        }
    }

    #[test]
    fn the_welcome_has_the_addresses_and_what_to_try_next() {
        let text = welcome(addresses(8000), "http", "tidings", false);
        for line in [
            "  clients    ws://127.0.0.1:8000/connection/websocket, or ws://127.0.0.1:8000/ws/CHANNEL\n",
            "  backends   http://127.0.0.1:9000 (gRPC)\n",
            "  operators  http://127.0.0.1:9100/health/ready\n",
            "\n  tidings listen tasks:1\n",
            "\n  tidings publish --type task.created --channel tasks:1 --data '{\"title\":\"Hello\"}'\n",
        ] {
            assert!(text.contains(line), "{line:?} is not in:\n{text}");
        }
    }

    #[test]
    fn what_is_pasted_finds_a_node_on_other_ports() {
        let text = welcome(addresses(4000), "http", "cargo run --", false);
        assert!(
            text.contains("  cargo run -- listen tasks:1 --server ws://127.0.0.1:4000\n"),
            "{text}"
        );
        assert!(text.contains("' --server http://127.0.0.1:5000\n"), "{text}");
        assert!(
            welcome(addresses(8000), "http", "tidings", true)
                .contains("tasks:1 --server ws://127.0.0.1:8000\n")
        );
    }

    #[test]
    fn a_program_that_cargo_runs_is_run_by_cargo_again() {
        let environment = [("CARGO", "/usr/bin/cargo")].into_iter().collect();
        assert!(program(&environment).starts_with("cargo run"));
        assert!(!program(&Environment::default()).starts_with("cargo run"));
    }
}
