//! One whole measurement: the floor and the gateway by turns, then the table.

use std::num::NonZeroUsize;

use clap::Args;

use crate::{measure::Pair, process, report};

/// Open files of a process beyond its clients' sockets.
const OTHER_FILES: u64 = 100;

/// How much is measured.
#[derive(Args)]
pub(crate) struct Options {
    /// Clients of each server.
    #[arg(long, default_value_t = 10_000)]
    clients: usize,
    /// The gateway's threads that hold connections. The floor has one.
    #[arg(long, default_value_t = NonZeroUsize::MIN)]
    cores: NonZeroUsize,
    /// Rounds; figures are their medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Single publications, and bursts, per round.
    #[arg(long, default_value_t = 10)]
    times: usize,
    /// Clients whose frames' ages are taken.
    #[arg(long, default_value_t = 1000)]
    paced_clients: usize,
    /// Publications a second to each of them.
    #[arg(long, default_value_t = 20)]
    paced_rate: u32,
    /// For how many seconds.
    #[arg(long, default_value_t = 10)]
    paced_seconds: u32,
}

/// What was measured of one server, an entry a round.
#[derive(Default)]
pub(crate) struct Figures {
    /// Seconds for all clients.
    pub(crate) connect: Vec<f64>,
    /// Kilobytes per client that has connected and subscribed.
    pub(crate) memory: Vec<f64>,
    /// The same after all deliveries of [`single`](Self::single) and [`burst`](Self::burst).
    pub(crate) memory_after: Vec<f64>,
    /// Microseconds of CPU per delivery of single publications.
    pub(crate) single: Vec<f64>,
    /// The same of bursts.
    pub(crate) burst: Vec<f64>,
    /// Milliseconds until one publication has reached everyone.
    pub(crate) reached: Vec<f64>,
    /// Milliseconds from publish to read, median and 99th percentile.
    pub(crate) p50: Vec<f64>,
    pub(crate) p99: Vec<f64>,
}

/// Measures, and prints the table.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let most = options.clients.max(options.paced_clients) as u64;
    process::allow_open_files(most + OTHER_FILES)?;

    let (mut floor, mut node) = (Figures::default(), Figures::default());
    deliveries(options, &mut floor, &mut node)?;
    ages(options, &mut floor, &mut node)?;
    report::print(options.clients, options.cores, &floor, &node);
    Ok(())
}

fn deliveries(options: &Options, floor: &mut Figures, node: &mut Figures) -> anyhow::Result<()> {
    let mut sides = [
        (Pair::floor(options.clients)?, floor, "floor"),
        (Pair::node(options.clients, options.cores)?, node, "node"),
    ];
    for (pair, figures, name) in &mut sides {
        eprintln!(
            "{name}: process {}, {} clients in {:?}",
            pair.id(),
            options.clients,
            pair.connected_in
        );
        figures.connect.push(pair.connected_in.as_secs_f64());
        figures.memory.push(pair.memory_per_client()? / 1024.0);
        pair.singles(1)?; // the first is slower: nothing is in a cache yet
    }
    for round in 1..=options.rounds {
        for (pair, figures, name) in &mut sides {
            let singles = pair.singles(options.times)?;
            let burst = pair.bursts(options.times)?;
            eprintln!(
                "round {round}, {name}: {:.2} us single, {burst:.2} us in bursts",
                singles.cpu
            );
            figures.single.push(singles.cpu);
            figures.reached.push(singles.reached_all_in.as_secs_f64() * 1e3);
            figures.burst.push(burst);
        }
    }
    for (pair, figures, _) in &mut sides {
        figures.memory_after.push(pair.memory_per_client()? / 1024.0);
    }
    Ok(())
}

fn ages(options: &Options, floor: &mut Figures, node: &mut Figures) -> anyhow::Result<()> {
    let sides = [
        (Pair::floor(options.paced_clients)?, floor),
        (Pair::node(options.paced_clients, options.cores)?, node),
    ];
    for (mut pair, figures) in sides {
        pair.singles(1)?;
        let ages = pair.paced(options.paced_rate, options.paced_rate * options.paced_seconds)?;
        figures.p50.push(ages.p50 as f64 / 1e3);
        figures.p99.push(ages.p99 as f64 / 1e3);
    }
    Ok(())
}
