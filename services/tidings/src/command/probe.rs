//! `tidings probe`: is the node on this machine ready? For health checks, where there is no shell and no curl.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tonic::transport::Endpoint;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{Global, tls::Tls};
use crate::{
    doors::Doors,
    failure::{Failure, one_line},
};

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The most bytes of an answer that are looked at.
const ANSWER: u64 = 64 * 1024;

/// Ask the node on this machine whether it is ready: exit code 0 when it is, 1 when it is not
///
/// The operators' door is asked, by HTTP. With --backends it is the backends' door, by gRPC (`grpc.health.v1`), by TLS
/// where it speaks that: so a client's certificate is probed, too.
#[derive(Debug, clap::Args)]
pub(crate) struct Probe {
    /// What to ask at the operators' door: /health/live, /health/ready, /health/redis
    #[arg(default_value = "/health/ready")]
    path: String,
    /// Where the operators' door is [default: where the configuration says]
    #[arg(long, value_name = "ADDRESS")]
    operators: Option<SocketAddr>,
    /// Ask the backends' door at this URL instead: http://host:9000, or https://host:9000
    #[arg(long, value_name = "URL", conflicts_with_all = ["path", "operators"])]
    backends: Option<String>,
    #[command(flatten)]
    tls: Tls,
}

impl Probe {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        if let Some(url) = &self.backends {
            let endpoint = self.tls.endpoint(url, "--backends")?;
            let asked = timeout(PATIENCE, serving(endpoint)).await;
            let late = || Failure::runtime(format!("no answer from {url} within {PATIENCE:?}"));
            return match asked.map_err(|_| late())? {
                Ok(ServingStatus::Serving) => Ok(()),
                Ok(status) => Err(Failure::runtime(format!(
                    "{url} answers {}",
                    status.as_str_name()
                ))),
                Err(error) => {
                    let hint = error
                        .downcast_ref()
                        .map_or("", |status| self.tls.hint(url, status));
                    let why = one_line(&error);
                    Err(Failure::runtime(format!("nobody answers at {url}: {why}{hint}")))
                }
            };
        }
        if !self.path.starts_with('/') || self.path.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(Failure::usage("the path begins with / and has no spaces in it"));
        }
        let door = match self.operators {
            Some(door) => door,
            None => Doors::load(&global.source()?)?.reach().operators,
        };
        let answer = match timeout(PATIENCE, ask(door, &self.path)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(Failure::runtime(format!("nobody answers at {door}: {error}"))),
            Err(_) => {
                return Err(Failure::runtime(format!(
                    "no answer from {door} within {PATIENCE:?}"
                )));
            }
        };
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        println!("{body}");
        match head.split(' ').nth(1) {
            Some("200") => Ok(()),
            status => Err(Failure::runtime(format!(
                "{door}{} answers {}",
                self.path,
                status.unwrap_or("nothing that can be understood")
            ))),
        }
    }
}

/// What the server at the backends' door says of itself as a whole.
async fn serving(endpoint: Endpoint) -> anyhow::Result<ServingStatus> {
    let mut health = HealthClient::new(endpoint.connect().await?);
    let answer = health.check(HealthCheckRequest::default()).await?;
    Ok(answer.into_inner().status())
}

/// What `GET path` answers. HTTP/1.0: the answer ends where the connection does.
async fn ask(door: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(door).await?;
    stream
        .write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())
        .await?;
    let mut answer = Vec::new();
    stream.take(ANSWER).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
