//! What the delivery path costs, as ratios to a bare `write(2)` per client measured in the same run.
//!
//! Absolute figures drift with the machine and whoever shares it, so a floor is measured beside the gateway, round
//! by round. Every part is a process of its own, so that its CPU time is its own: [`floor`] and [`node`] send,
//! [`clients`] receive, and [`run`] directs them over their standard input and output.
//!
//! In reading order: [`run`], [`measure`], [`report`]; [`child`] and [`orders`] are how processes talk, [`server`]
//! what both senders have in common, [`frame`] what they send.

mod child;
mod clients;
mod floor;
mod frame;
mod measure;
mod node;
mod orders;
mod process;
mod report;
mod run;
mod server;

use std::num::NonZeroUsize;

use clap::{Parser, Subcommand};

/// Measures the gateway's delivery path against its budgets.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: run::Options,
    #[command(subcommand)]
    role: Option<Role>,
}

/// The parts, which the measurement starts by itself.
#[derive(Subcommand)]
#[command(hide = true)]
enum Role {
    /// Writes to plain TCP connections.
    Floor,
    /// Is a gateway with a memory bus.
    Node {
        /// Threads that hold connections.
        #[arg(long)]
        cores: NonZeroUsize,
    },
    /// Holds the clients' ends.
    Clients,
}

fn main() -> anyhow::Result<()> {
    let Arguments { options, role } = Arguments::parse();
    match role {
        None => run::run(&options),
        Some(Role::Floor) => floor::run(),
        Some(Role::Node { cores }) => node::run(cores),
        Some(Role::Clients) => clients::run(),
    }
}
