//! Our processes: gateways, fanouts and presence replicas, each with a wire of its own to the Redis where there is one Redis.

use std::time::Duration;

use tidings_tests::{Backend, Balancer, Launch, Tidings, fault::Faulty};

use crate::{
    plan::{FANOUTS, GATEWAYS, PRESENCES, Process, World},
    publishers::Queue,
    servers::Servers,
};

/// How long members of a gateway that is gone are still listed.
pub(crate) const LEASE: Duration = Duration::from_secs(5);

/// What every process is configured with.
const CONFIG: &str = r#"
[clients.token]
hmac_secret = "a secret of the tests, long enough"

[clients.limits]
connections_per_address = 5000

[[backends.key]]
name = "tests"
key = "the-key-of-the-tests"

[[namespace]]
name = "tasks"
history_size = 20000
history_ttl = "10m"
allow_recovery = true
allow_positioning = true
allow_subscribe_for_client = true
allow_history_for_client = true

[[namespace]]
name = "cache"
history_size = 20000
history_ttl = "10m"
allow_recovery = true
force_recovery_mode = "cache"
allow_subscribe_for_client = true
allow_history_for_client = true

[[namespace]]
name = "live"
allow_subscribe_for_client = true

[[namespace]]
name = "room"
presence = true
join_leave = true
allow_subscribe_for_client = true
allow_presence_for_subscriber = true
"#;

/// All of them. In memory one process is everything.
pub(crate) struct Nodes {
    gateways: Vec<Tidings>,
    fanouts: Vec<Tidings>,
    presences: Vec<Tidings>,
    /// In the order of [`Process`]: of gateways, fanouts, presences.
    wires: Vec<Faulty>,
    _balancer: Option<Balancer>,
}

impl Nodes {
    pub(crate) async fn start(world: World, servers: &Servers, queue: &Queue) -> Self {
        let source = queue.section();
        if world == World::Memory {
            let node = Launch::new("standalone").config(&format!("{CONFIG}\n{source}"));
            return Self {
                gateways: vec![node.start().await],
                fanouts: Vec::new(),
                presences: Vec::new(),
                wires: Vec::new(),
                _balancer: None,
            };
        }
        let mut wires = Vec::new();
        if let Servers::Alone(server) = servers {
            for _ in 0..GATEWAYS + FANOUTS + PRESENCES {
                wires.push(Faulty::start(server.port()).await);
            }
        }
        let section = |index: usize| match wires.get(index) {
            Some(wire) => format!("[redis]\nurl = \"{}\"\n", wire.redis_url()),
            None => servers.section(),
        };
        let launch = |role, index, more: &str| {
            let config = format!("{CONFIG}\n{}\n{more}", section(index));
            let lease = format!("{}s", LEASE.as_secs());
            Launch::new(role)
                .config(&config)
                .env("TIDINGS_PRESENCE__LEASE", &lease)
        };
        let mut presences = Vec::new();
        for index in 0..PRESENCES {
            presences.push(launch("presence", GATEWAYS + FANOUTS + index, "").start().await);
        }
        let ports: Vec<u16> = presences.iter().map(Tidings::presence_port).collect();
        let balancer = Balancer::start_in_turn(&ports).await;
        let url = format!("http://{}", balancer.address());
        let mut gateways = Vec::new();
        for index in 0..GATEWAYS {
            let gateway = launch("gateway", index, "").env("TIDINGS_PRESENCE__URL", &url);
            gateways.push(gateway.start().await);
        }
        let mut fanouts = Vec::new();
        for index in 0..FANOUTS {
            // One fanout alone has the source, so that its order is that of the stream.
            let source = if index == 0 { source.as_str() } else { "" };
            let fanout = launch("fanout", GATEWAYS + index, source).env("TIDINGS_PRESENCE__URL", &url);
            fanouts.push(fanout.start().await);
        }
        Self {
            gateways,
            fanouts,
            presences,
            wires,
            _balancer: Some(balancer),
        }
    }

    /// Those that clients connect to.
    pub(crate) fn gateways(&self) -> &[Tidings] {
        &self.gateways
    }

    /// Those that publishers connect to.
    pub(crate) fn backends(&self) -> Vec<Backend> {
        let nodes = if self.fanouts.is_empty() {
            &self.gateways
        } else {
            &self.fanouts
        };
        nodes.iter().map(|node| Backend::new(&node.backends())).collect()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Tidings> {
        self.gateways.iter().chain(&self.fanouts).chain(&self.presences)
    }

    /// The wires of one process, or of all.
    pub(crate) fn wires(&self, process: Option<Process>) -> &[Faulty] {
        let Some(process) = process else {
            return &self.wires;
        };
        let index = match process {
            Process::Gateway(index) => index,
            Process::Fanout(index) => GATEWAYS + index,
            Process::Presence(index) => GATEWAYS + FANOUTS + index,
        };
        &self.wires[index..=index]
    }

    pub(crate) fn process(&self, process: Process) -> &Tidings {
        match process {
            Process::Gateway(index) => &self.gateways[index],
            Process::Fanout(index) => &self.fanouts[index],
            Process::Presence(index) => &self.presences[index],
        }
    }

    pub(crate) fn process_mut(&mut self, process: Process) -> &mut Tidings {
        match process {
            Process::Gateway(index) => &mut self.gateways[index],
            Process::Fanout(index) => &mut self.fanouts[index],
            Process::Presence(index) => &mut self.presences[index],
        }
    }
}
