//! The image is built and the compose file comes up, by a Docker of the test's own; the base images are stand-ins.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;
use tidings_tests::{binary, command, eventually};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout},
};

/// What the compose file has where nobody says otherwise.
const TOKEN_SECRET: &str = "a-secret-that-everybody-knows-change-it";
const API_KEY: &str = "a-key-that-everybody-knows";

const CHANNEL: &str = "tasks:demo";

#[tokio::test(flavor = "multi_thread")]
async fn the_compose_file_comes_up_and_clients_of_a_gateway_that_stops_move_to_the_other() {
    let Some(docker) = Docker::start().await else {
        return;
    };
    docker.must(&mut docker.compose(&["up", "-d", "--build"]));
    for service in ["gateway-1", "gateway-2", "fanout", "presence"] {
        eventually(&format!("{service} misses nothing"), async || {
            let ready = docker.ask(service, "/health/ready")?;
            (ready["status"] == "ready").then_some(())
        })
        .await;
    }
    let mut clients = [docker.listen("ada").await, docker.listen("bob").await];
    eventually(
        "each gateway has one client, and each is subscribed",
        async || {
            ["gateway-1", "gateway-2"]
                .iter()
                .all(|gateway| docker.connections(gateway) == Some(1))
                .then_some(())
        },
    )
    .await;
    // A client that is not subscribed yet when this is published finds it in the stream when it comes back, not now.
    heard(&docker, &mut clients, "first").await;

    docker.must(&mut docker.compose(&["stop", "gateway-1"]));
    eventually("both clients are on the gateway that is left", async || {
        (docker.connections("gateway-2") == Some(2)).then_some(())
    })
    .await;
    heard(&docker, &mut clients, "second").await;
    let stopped = docker.must(&mut docker.compose(&["ps", "-q", "gateway-1"]));
    let id = String::from_utf8_lossy(&stopped.stdout).trim().to_owned();
    let exit = docker.must(
        docker
            .docker()
            .args(["inspect", "-f", "{{.State.ExitCode}}", &id]),
    );
    assert_eq!(
        String::from_utf8_lossy(&exit.stdout).trim(),
        "0",
        "SIGTERM reached the process, and it drained"
    );
    let config = docker.must(
        docker
            .docker()
            .args(["inspect", "-f", "{{.Config.User}}", "tidings:local"]),
    );
    assert_eq!(String::from_utf8_lossy(&config.stdout).trim(), "65532:65532");
}

/// Publishes from the host until every client has heard it.
async fn heard(docker: &Docker, clients: &mut [Listener], what: &str) {
    let server = format!("http://127.0.0.1:{}", docker.backends);
    let data = format!("{{\"said\":\"{what}\"}}");
    for client in clients {
        eventually(&format!("a client hears {what}"), async || {
            let published = command(
                &[
                    "publish",
                    "--server",
                    &server,
                    "--type",
                    "task.created",
                    "--channel",
                    CHANNEL,
                    "--data",
                    &data,
                ],
                &[("TIDINGS_API_KEY", API_KEY)],
            )
            .await;
            assert_eq!(published.code, Some(0), "{}", published.output);
            let next = tokio::time::timeout(std::time::Duration::from_secs(2), async {
                while let Ok(Some(line)) = client.lines.next_line().await {
                    if line.contains(what) {
                        return;
                    }
                }
                panic!("a client ended");
            });
            next.await.ok()
        })
        .await;
    }
}

/// `tidings listen`, by way of the balancer.
struct Listener {
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

/// A daemon, which ends with everything in it when this is dropped.
struct Docker {
    daemon: std::process::Child,
    dir: TempDir,
    clients: u16,
    backends: u16,
}

impl Docker {
    /// Starts a daemon and makes the base images. `None`, said on standard output, where that cannot be.
    async fn start() -> Option<Self> {
        for program in ["dockerd", "docker-compose", "haproxy"] {
            if Command::new(program).arg("--version").output().is_err() {
                return skipped(&format!("{program} is not installed"));
            }
        }
        let dir = tempfile::tempdir().expect("a directory for temporary files");
        let log = std::fs::File::create(dir.path().join("log")).expect("a file in it");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let daemon = Command::new("dockerd")
            .args(["--data-root", &path("data"), "--exec-root", &path("exec")])
            .args([
                "--pidfile",
                &path("pid"),
                "--host",
                &format!("unix://{}", path("socket")),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("dockerd runs");
        let port = || {
            let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            free.expect("a free port").port()
        };
        let mut docker = Self {
            daemon,
            dir,
            clients: port(),
            backends: port(),
        };
        let up = eventually("dockerd answers, or has ended", async || {
            if matches!(docker.daemon.try_wait(), Ok(Some(_))) {
                return Some(false);
            }
            let answer = docker.docker().arg("info").output().ok()?;
            answer.status.success().then_some(true)
        })
        .await;
        if !up {
            let log = std::fs::read_to_string(docker.dir.path().join("log")).unwrap_or_default();
            let why = log.lines().last().unwrap_or("it does not say why").to_owned();
            return skipped(&format!("dockerd does not start here: {why}"));
        }
        let stand_ins = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/operators/stand-ins.sh");
        docker.must(docker.with(stand_ins.to_str().expect("a path")).arg(binary()));
        Some(docker)
    }

    fn with(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let socket = self.dir.path().join("socket");
        command
            .env("DOCKER_HOST", format!("unix://{}", socket.display()))
            // What this machine may have of newer tools speaks to newer daemons.
            .env("DOCKER_API_VERSION", "1.41")
            .env("CLIENTS_PORT", self.clients.to_string())
            .env("BACKENDS_PORT", self.backends.to_string())
            .stdin(Stdio::null());
        command
    }

    fn docker(&self) -> Command {
        self.with("docker")
    }

    fn compose(&self, arguments: &[&str]) -> Command {
        let mut compose = self.with("docker-compose");
        compose
            .arg("--file")
            .arg(file())
            .args(["--project-name", "tidings"]);
        compose.args(arguments);
        compose
    }

    /// Runs a command that must end well.
    fn must(&self, command: &mut Command) -> Output {
        let output = command.output().expect("it is installed");
        assert!(
            output.status.success(),
            "{command:?}\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        output
    }

    /// What a service answers at its operators' door, if it runs.
    fn ask(&self, service: &str, path: &str) -> Option<Value> {
        let arguments = ["exec", "-T", service, "/usr/local/bin/tidings", "probe", path];
        let answer = self.compose(&arguments).output().ok()?;
        serde_json::from_slice(&answer.stdout).ok()
    }

    fn connections(&self, gateway: &str) -> Option<u64> {
        self.ask(gateway, "/stats")?["local_connections"].as_u64()
    }

    async fn listen(&self, user: &str) -> Listener {
        let secret = [("TIDINGS_CLIENTS__TOKEN__HMAC_SECRET", TOKEN_SECRET)];
        let token = command(&["token", "--user", user], &secret).await;
        assert_eq!(token.code, Some(0), "{}", token.output);
        let mut child = tokio::process::Command::new(binary())
            .args(["listen", CHANNEL, "--server"])
            .arg(format!("ws://127.0.0.1:{}", self.clients))
            .args(["--token", token.output.trim()])
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the tidings binary runs");
        let output = child.stdout.take().expect("it is piped");
        Listener {
            lines: BufReader::new(output).lines(),
            _child: child,
        }
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = self.compose(&["logs", "--tail=20", "--no-color"]).output();
            println!(
                "{}",
                String::from_utf8_lossy(&logs.map(|it| it.stdout).unwrap_or_default())
            );
        }
        let _ = self.compose(&["down", "--volumes", "--timeout", "1"]).output();
        // SIGTERM: it unmounts what is mounted in the directory, which can be removed then.
        let _ = Command::new("kill").arg(self.daemon.id().to_string()).status();
        let _ = self.daemon.wait();
    }
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/compose/compose.yml")
}

fn skipped<T>(why: &str) -> Option<T> {
    println!("SKIPPED: {why}");
    None
}
