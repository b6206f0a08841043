//! Faults as they are done: each breaks something, makes it whole again, and says since when it is.

use std::time::Duration;

use tidings_tests::fault;
use tokio::{
    task::block_in_place,
    time::{Instant, sleep},
};

use crate::{
    nodes::Nodes,
    plan::{FANOUTS, Fault, Process, Wire},
    servers::Servers,
};

/// What a slow wire adds.
const SLOW: Duration = Duration::from_millis(30);

/// Does what is done to servers and processes; since when all is whole again.
pub(crate) async fn apply(
    fault: Fault,
    servers: &mut Servers,
    nodes: &mut Nodes,
    channels: &[String],
) -> Instant {
    match fault {
        Fault::Wire(process, wire, time) => {
            let state = match wire {
                Wire::Cut => fault::Wire::Cut,
                Wire::Silent => fault::Wire::Held,
                Wire::Slow => fault::Wire::Slow(SLOW),
            };
            set(nodes, process, state);
            sleep(time).await;
            set(nodes, process, fault::Wire::Whole);
        }
        Fault::Hang(channel, time) => block_in_place(|| servers.hang(&channels[channel], time)),
        Fault::Restart => block_in_place(|| servers.restart()),
        Fault::Snapshot => servers.ask_all(&["SAVE"]),
        Fault::RestartTwice(time) => {
            servers.ask_all(&["SAVE"]);
            for _ in 0..2 {
                sleep(time).await;
                block_in_place(|| servers.restart());
            }
        }
        Fault::RestartWithoutFanouts(time) => {
            servers.ask_all(&["SAVE"]);
            sleep(time).await;
            let fanouts = (0..FANOUTS).map(Process::Fanout);
            for fanout in fanouts.clone() {
                nodes.process_mut(fanout).kill().await;
            }
            block_in_place(|| servers.restart());
            for fanout in fanouts {
                begin_again(nodes, fanout).await;
            }
        }
        Fault::Evict(channel, evicted) => block_in_place(|| servers.evict(&channels[channel], evicted)),
        Fault::ScriptFlush => block_in_place(|| servers.ask_all(&["SCRIPT", "FLUSH"])),
        Fault::ClientKill(connections) => block_in_place(|| servers.kill_clients(connections)),
        Fault::OutOfMemory(time) => {
            let limit = |bytes: &'static str| ["CONFIG", "SET", "maxmemory", bytes];
            during(servers, &limit("1"), time, &limit("0")).await;
        }
        Fault::ReadOnly(time) => {
            let promote = ["REPLICAOF", "NO", "ONE"];
            during(servers, &["REPLICAOF", "127.0.0.1", "1"], time, &promote).await;
        }
        Fault::NoPermission(time) => {
            let set = |rule: [&'static str; 2]| ["ACL", "SETUSER", "default", rule[0], rule[1]];
            during(
                servers,
                &set(["-eval", "-evalsha"]),
                time,
                &set(["+eval", "+evalsha"]),
            )
            .await;
        }
        Fault::HandOver(channel) => return block_in_place(|| servers.hand_over(&channels[channel])).into(),
        Fault::KillPrimary(channel, replica) => {
            return block_in_place(|| servers.kill_primary(&channels[channel], replica)).into();
        }
        Fault::HangPrimary(channel) => {
            return block_in_place(|| servers.hang_primary(&channels[channel])).into();
        }
        Fault::MoveSlot(channel, time) => block_in_place(|| servers.move_slot(&channels[channel], time)),
        Fault::Pause(process, time) => {
            nodes.process(process).pause().await;
            sleep(time).await;
            nodes.process(process).resume().await;
        }
        Fault::Kill(process) => kill(nodes, process).await,
        // What is looked at meanwhile, and who publishes, is for the run.
        Fault::KillShard(..) | Fault::PublisherDies(_) => {}
    }
    Instant::now()
}

fn set(nodes: &Nodes, process: Option<Process>, state: fault::Wire) {
    for wire in nodes.wires(process) {
        wire.set(state);
    }
}

async fn during(servers: &Servers, begin: &[&str], time: Duration, end: &[&str]) {
    block_in_place(|| servers.ask_all(begin));
    sleep(time).await;
    block_in_place(|| servers.ask_all(end));
}

async fn kill(nodes: &mut Nodes, process: Process) {
    nodes.process_mut(process).kill().await;
    begin_again(nodes, process).await;
}

async fn begin_again(nodes: &mut Nodes, process: Process) {
    let node = nodes.process_mut(process);
    node.start_again();
    node.wait_for_status("/health/ready", 200).await;
}
