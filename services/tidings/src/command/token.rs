//! `tidings token`: mints a token for a client with the configured key: to connect, or to subscribe to one channel.

use std::time::{Duration, SystemTime};

use serde_json::value::RawValue;
use tidings_auth::token;
use tidings_core::Channel;

use super::Global;
use crate::{
    config::{Config, SUBSCRIPTION_TOKEN, TOKEN},
    failure::Failure,
};

/// Mint a token for a client, with the configured key
#[derive(Debug, clap::Args)]
pub(crate) struct Token {
    /// The person behind the client; empty for nobody in particular
    #[arg(long)]
    user: String,
    /// Subscribe the client to this channel when it connects; may be repeated
    #[arg(long = "channel", value_name = "CHANNEL")]
    channels: Vec<Channel>,
    /// Mint a subscription token, which lets the client into this one channel, instead of a connection token
    #[arg(long, value_name = "CHANNEL", conflicts_with = "channels")]
    subscribe: Option<Channel>,
    /// How long the token is good
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    ttl: Duration,
    /// What others may see of the client; in a subscription token, those in the channel
    #[arg(long, value_name = "JSON", value_parser = json)]
    info: Option<Box<RawValue>>,
}

impl Token {
    pub(super) fn run(self, global: &Global) -> Result<(), Failure> {
        let config = Config::load(&global.source()?)?;
        let token = match &self.subscribe {
            Some(channel) => self.subscription(channel, &config)?,
            None => self.connection(&config)?,
        };
        println!("{token}");
        Ok(())
    }

    fn connection(&self, config: &Config) -> Result<String, Failure> {
        let minter = config.minter()?;
        let minter = minter.ok_or_else(|| no_secret(TOKEN, &config.clients.token))?;
        let channels: Vec<_> = self.channels.iter().map(ToString::to_string).collect();
        let info = self.info.as_deref();
        Ok(minter.connection(&self.user, &channels, info, self.ttl, SystemTime::now()))
    }

    fn subscription(&self, channel: &Channel, config: &Config) -> Result<String, Failure> {
        let minter = config.subscription_minter()?;
        let minter = minter.ok_or_else(|| match &config.clients.subscription_token {
            Some(keys) => no_secret(SUBSCRIPTION_TOKEN, keys),
            None => no_secret(TOKEN, &config.clients.token),
        })?;
        let info = self.info.as_deref();
        Ok(minter.subscription(&self.user, channel.as_str(), info, self.ttl, SystemTime::now()))
    }
}

/// Tokens can be checked by public keys, but signed only with a secret.
fn no_secret(table: &str, keys: &token::Config) -> Failure {
    if keys.public_key_file.is_some() || keys.jwks_url.is_some() {
        return Failure::usage(format!(
            "`{table}` has public keys alone, which check tokens and sign none: ask for a token where the private key is"
        ));
    }
    let variable = format!(
        "TIDINGS_{}__HMAC_SECRET",
        table.replace('.', "__").to_ascii_uppercase()
    );
    Failure::usage(format!(
        "no key for clients' tokens is configured: set `{table}.hmac_secret`, or {variable}, to the key of the node that \
         will check the token"
    ))
}

fn json(text: &str) -> Result<Box<RawValue>, serde_json::Error> {
    serde_json::from_str(text)
}
