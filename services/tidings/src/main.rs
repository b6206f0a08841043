//! The `tidings` command: every role of Tidings in one binary, and the tools to try it with.
//!
//! [`command`] is what can be typed, one small file each. [`config`] is the whole configuration, composed of
//! each component's own; [`doors`] and [`platform`] are what it takes from the platform's variables. [`node`]
//! wires the components of one process, in every mode the same way. [`failure`] is how a command ends badly.

mod command;
mod config;
mod doors;
mod failure;
mod grpc;
mod node;
mod platform;
mod roles;

use std::process::ExitCode;

use clap::Parser as _;

#[tokio::main]
async fn main() -> ExitCode {
    // TLS has one provider per process, chosen before the first connection. It can only be there already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match command::Cli::try_parse() {
        Ok(cli) => match cli.run().await {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.report(),
        },
        Err(error) => failure::command_line(&error),
    }
}
