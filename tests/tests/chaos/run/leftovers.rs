//! The end of a run for everything else: no connections, no work for Redis, no keys for ever, bounded memory.

use std::time::Duration;

use tokio::{
    task::block_in_place,
    time::{Instant, sleep},
};

use super::{RECOVERY, Run, members::AGREEMENT};
use crate::plan::World;

/// Commands that Redis may run in a second when there are neither clients nor publishers: heartbeats, checks of health.
const IDLE: u64 = 150;

/// What a process of a debug build may have in memory.
const MEMORY_KIB: u64 = 400 * 1024;

impl Run<'_> {
    /// Clients go; then there are no connections and subscriptions, no work for Redis, and nothing kept for ever.
    pub(super) async fn nothing_is_left(&mut self) {
        self.clients.clients.clear();
        self.clients.members.visitors.clear();
        self.clients.members.residents.clear();
        self.clients.members.observer.leave();
        for gateway in self.nodes.gateways() {
            for metric in ["tidings_connections", "tidings_subscriptions"] {
                let since = Instant::now();
                while gateway.metric(metric).await > 0.0 {
                    if since.elapsed() > RECOVERY {
                        let what = format!("{metric} of a gateway is {}", gateway.metric(metric).await);
                        self.findings.fault("leftovers", what);
                        break;
                    }
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
        for node in self.nodes.all() {
            let memory = memory(node.id());
            if memory > MEMORY_KIB {
                self.findings
                    .fault("leftovers", format!("a process has {memory} KiB"));
            }
        }
        if self.plan.world == World::Memory {
            return;
        }
        self.redis_is_idle().await;
        // Members who are gone without a word are swept first.
        let since = Instant::now();
        loop {
            let keys = block_in_place(|| self.servers.keys_for_ever());
            if keys.is_empty() {
                return;
            }
            if since.elapsed() > AGREEMENT {
                self.findings
                    .fault("leftovers", format!("keys never expire: {keys:#?}"));
                return;
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    async fn redis_is_idle(&mut self) {
        let since = Instant::now();
        loop {
            let (before, began) = (block_in_place(|| self.servers.commands()), Instant::now());
            sleep(Duration::from_secs(2)).await;
            let commands = block_in_place(|| self.servers.commands()).saturating_sub(before);
            let each = commands * 1000 / u64::try_from(began.elapsed().as_millis()).expect("seconds");
            println!("    {each} commands per second when idle");
            if each <= IDLE {
                return;
            }
            if since.elapsed() > RECOVERY {
                self.findings
                    .fault("Redis is not idle", format!("{each} commands per second"));
                return;
            }
        }
    }
}

/// What a process has in memory.
fn memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.unwrap_or_default()
}
