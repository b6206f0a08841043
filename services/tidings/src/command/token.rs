//! `tidings token`: mints a connection token with the configured key.

use std::time::{Duration, SystemTime};

use serde_json::value::RawValue;
use tidings_core::Channel;

use super::Global;
use crate::{config::Config, failure::Failure};

/// Mint a connection token for a client, with the configured key
#[derive(Debug, clap::Args)]
pub(crate) struct Token {
    /// The person behind the client; empty for nobody in particular
    #[arg(long)]
    user: String,
    /// Subscribe the client to this channel when it connects; may be repeated
    #[arg(long = "channel", value_name = "CHANNEL")]
    channels: Vec<Channel>,
    /// How long the token is good
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    ttl: Duration,
    /// What others may see of the client
    #[arg(long, value_name = "JSON", value_parser = json)]
    info: Option<Box<RawValue>>,
}

impl Token {
    pub(super) fn run(self, global: &Global) -> Result<(), Failure> {
        let config = Config::load(&global.source()?)?;
        let minter = config.minter()?.ok_or_else(|| {
            Failure::usage(
                "no key for clients' tokens is configured: set `clients.token.hmac_secret`, \
                 or TIDINGS_CLIENTS__TOKEN__HMAC_SECRET, to the key of the node that will check the token",
            )
        })?;
        let channels: Vec<_> = self.channels.iter().map(ToString::to_string).collect();
        println!(
            "{}",
            minter.connection(
                &self.user,
                &channels,
                self.info.as_deref(),
                self.ttl,
                SystemTime::now()
            )
        );
        Ok(())
    }
}

fn json(text: &str) -> Result<Box<RawValue>, serde_json::Error> {
    serde_json::from_str(text)
}
