//! `tidings probe`: is the node on this machine ready? For health checks, where there is no shell and no curl.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::Global;
use crate::{doors::Doors, failure::Failure};

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The most bytes of an answer that are looked at.
const ANSWER: u64 = 64 * 1024;

/// Ask the node on this machine whether it is ready: exit code 0 when it is, 1 when it is not
#[derive(Debug, clap::Args)]
pub(crate) struct Probe {
    /// What to ask at the operators' door: /health/live, /health/ready, /health/redis
    #[arg(default_value = "/health/ready")]
    path: String,
    /// Where the operators' door is [default: where the configuration says]
    #[arg(long, value_name = "ADDRESS")]
    operators: Option<SocketAddr>,
}

impl Probe {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
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
