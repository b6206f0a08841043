//! `tidings listen`: a client that prints what it hears, and comes back by itself.
//!
//! [`session`] has the rules, [`wire`] the messages, [`backoff`] the patience, and [`connection`] the socket.

mod backoff;
mod connection;
mod session;
mod wire;

use std::io;

use rand::{SeedableRng as _, rngs::SmallRng};
use tidings_core::{Channel, Secret};
use url::Url;

use self::{
    connection::{Over, Screen},
    session::Session,
};
use super::Global;
use crate::{doors::Doors, failure::Failure};

/// Where the Centrifuge protocol is spoken.
const PATH: &str = "/connection/websocket";

/// Print what is published to channels, one line each: the channel and the data
#[derive(Debug, clap::Args)]
pub(crate) struct Listen {
    /// What to listen to
    #[arg(required = true, value_name = "CHANNEL")]
    channels: Vec<Channel>,
    /// The clients' door [default: this machine's, as configured: ws://127.0.0.1:8000]
    #[arg(long, value_name = "URL", value_parser = server)]
    server: Option<Url>,
    /// The connection token, if one is needed [env: TIDINGS_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    token: Option<Secret>,
    /// Print each publication as the protocol's JSON push
    #[arg(long)]
    json: bool,
}

impl Listen {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let source = global.source()?;
        let url = match self.server {
            Some(url) => url,
            None => {
                server(&format!("ws://{}", Doors::load(&source)?.reach().clients)).map_err(Failure::Usage)?
            }
        };
        let token = self
            .token
            .as_ref()
            .map(Secret::expose)
            .or_else(|| source.environment.get("TIDINGS_TOKEN"))
            .map(str::to_owned);
        let mut channels = self.channels;
        channels.sort();
        channels.dedup();

        let session = Session::new(channels, token, SmallRng::from_os_rng());
        let screen = Screen {
            out: io::stdout(),
            notices: io::stderr(),
            json: self.json,
        };
        match connection::run(&url, session, screen).await {
            Over::Stopped(why) => Err(Failure::runtime(why)),
            // As in `tidings listen news | head -1`.
            Over::Unread(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Over::Unread(error) => Err(anyhow::Error::new(error).context("cannot print").into()),
        }
    }
}

/// The URL to connect to: `http` stands for `ws`, and a URL without a path for the protocol's own.
fn server(text: &str) -> Result<Url, String> {
    let mut url = Url::parse(text).map_err(|error| format!("{error}; write it as ws://HOST:PORT"))?;
    let scheme = match url.scheme() {
        "ws" | "http" => "ws",
        "wss" | "https" => "wss",
        other => return Err(format!("scheme `{other}` is not one of ws, wss, http, https")),
    };
    if url.set_scheme(scheme).is_err() || url.host().is_none() {
        return Err("there is no host in it; write it as ws://HOST:PORT".to_owned());
    }
    if matches!(url.path(), "" | "/") {
        url.set_path(PATH);
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_where_the_protocol_is_spoken_unless_a_path_says_otherwise() {
        let check = |text: &str, expected: &str| assert_eq!(server(text).unwrap().as_str(), expected);
        check("ws://127.0.0.1:8000", "ws://127.0.0.1:8000/connection/websocket");
        check(
            "http://localhost:8000/",
            "ws://localhost:8000/connection/websocket",
        );
        check(
            "https://push.example.com",
            "wss://push.example.com/connection/websocket",
        );
        check("wss://example.com/rt/ws?x=1", "wss://example.com/rt/ws?x=1");
    }

    #[test]
    fn a_server_that_cannot_be_meant_is_refused() {
        assert_eq!(
            server("ftp://a").unwrap_err(),
            "scheme `ftp` is not one of ws, wss, http, https"
        );
        assert_eq!(
            server("127.0.0.1").unwrap_err(),
            "relative URL without a base; write it as ws://HOST:PORT"
        );
        assert_eq!(
            server("localhost:8000").unwrap_err(),
            "scheme `localhost` is not one of ws, wss, http, https"
        );
    }
}
