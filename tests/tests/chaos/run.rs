//! One run: everything starts, the schedule is carried out, everything comes to rest, and then it is looked at.

mod facts;
mod leftovers;
mod members;

use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tidings_tests::{
    checker::{Moment, Place, numbered},
    event,
};
use tokio::{
    sync::watch,
    task::block_in_place,
    time::{Instant, sleep},
};

use crate::{
    apply::apply,
    check::Findings,
    clients::{Clients, Habit, Kind},
    ledger::{Accepted, Ledger},
    nodes::Nodes,
    plan::{CHANNELS, Fault, PUBLISHERS, Plan},
    publishers::{Desk, Publisher, Queue, Way},
    servers::Servers,
};

/// Ten times what is aimed at: publishes and deliveries are back within a second of the end of a fault.
const RECOVERY: Duration = Duration::from_secs(10);

/// What has not come to rest by then never will.
const REST: Duration = Duration::from_secs(60);

/// Who publishes the last publications of a run.
const LAST: u32 = 9999;

/// Where members are.
const ROOMS: usize = 2;

struct Run<'a> {
    plan: &'a Plan,
    servers: Servers,
    nodes: Nodes,
    queue: Arc<Queue>,
    ledger: Arc<Ledger>,
    channels: Arc<[String]>,
    clients: Clients,
    publishers: Vec<Publisher>,
    /// Of each publisher's place: who has it now.
    who: Vec<u32>,
    open: watch::Sender<bool>,
    findings: Findings,
    slowest: Duration,
    /// How many rounds of last publications there were.
    last: u32,
}

/// How a run ended.
pub(crate) struct Outcome {
    plan: Plan,
    findings: Findings,
    slowest: Duration,
}

impl Outcome {
    pub(crate) fn is_well(&self) -> bool {
        self.findings.faults.is_empty()
    }

    /// The faults, with what runs them again.
    pub(crate) fn report(&self) -> String {
        format!("{}{}", self.plan, self.findings.report())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Findings {
            publications,
            deliveries,
            notices,
            epochs,
            lost,
            faults,
        } = &self.findings;
        let Plan {
            seed,
            world,
            pace,
            steps,
        } = &self.plan;
        let slowest = self.slowest.as_millis();
        let result = if faults.is_empty() {
            "ok".to_owned()
        } else {
            faults.keys().copied().collect::<Vec<_>>().join(", ")
        };
        write!(
            f,
            "CHAOS seed={seed} world={world} pace={pace:?} faults={} publications={publications} deliveries={deliveries} \
             notices={notices} epochs={epochs} lost={lost} slowest_recovery={slowest}ms result={result}",
            steps.len()
        )
    }
}

/// Carries out a plan. `None` when there is no Redis to be had.
pub(crate) async fn run(plan: Plan) -> Option<Outcome> {
    println!("{plan}");
    let mut run = Run::start(&plan).await?;
    run.all_are_well(Instant::now(), "the beginning").await;
    for (index, step) in plan.steps.iter().enumerate() {
        sleep(step.calm).await;
        run.step(index, step.fault).await;
    }
    run.publishers_end().await;
    run.comes_to_rest().await;
    run.nothing_is_left().await;
    if !run.findings.faults.is_empty() {
        for node in run.nodes.all() {
            println!("--- what a process said\n{}---", node.logs());
        }
    }
    let Run {
        findings, slowest, ..
    } = run;
    Some(Outcome {
        plan,
        findings,
        slowest,
    })
}

impl<'a> Run<'a> {
    /// All is as it will stay, and is looked at. On a busy machine Sentinels may replace the primary just then, which loses what
    /// was looked at first: then it is looked at once more, and so a few times at most.
    async fn comes_to_rest(&mut self) {
        const LOOKS: usize = 3;
        let before = self.findings.clone();
        for look in 1..=LOOKS {
            let failovers = block_in_place(|| self.servers.failovers());
            self.clients_arrive().await;
            self.members_agree().await;
            self.look().await;
            if look == LOOKS || failovers == block_in_place(|| self.servers.failovers()) {
                return;
            }
            println!("    a primary was replaced meanwhile: once more");
            self.findings = before.clone();
        }
    }

    async fn start(plan: &'a Plan) -> Option<Self> {
        let servers = block_in_place(|| Servers::start(plan.world))?;
        let queue = Arc::new(block_in_place(Queue::start)?);
        let mut channels = block_in_place(|| servers.channels("tasks", CHANNELS));
        channels.extend(["cache:0".to_owned(), "live:0".to_owned()]);
        let nodes = Nodes::start(plan.world, &servers, &queue).await;
        let rooms = block_in_place(|| servers.channels("room", ROOMS));
        let clients = Clients::start(nodes.gateways(), &channels, rooms, plan.seed).await;
        let mut run = Self {
            plan,
            servers,
            nodes,
            queue,
            ledger: Arc::default(),
            channels: channels.into(),
            clients,
            publishers: Vec::new(),
            who: Vec::new(),
            open: watch::Sender::new(true),
            findings: Findings::default(),
            slowest: Duration::ZERO,
            last: 0,
        };
        for place in 0..PUBLISHERS {
            let who = u32::try_from(place).expect("a few");
            run.who.push(who);
            run.publishers.push(run.publisher(place, who));
        }
        Some(run)
    }

    fn publisher(&self, place: usize, publisher: u32) -> Publisher {
        let desk = Desk {
            publisher,
            backends: self.nodes.backends(),
            queue: self.queue.clone(),
            channels: self.channels.clone(),
            ledger: self.ledger.clone(),
            pace: self.plan.pace,
            open: self.open.subscribe(),
        };
        Publisher::start(desk, Way::ALL[place])
    }

    /// One fault, and all that has to be well after it.
    async fn step(&mut self, index: usize, fault: Fault) {
        if let Fault::PublisherDies(place) = fault {
            self.publishers[place].die();
            self.who[place] += u32::try_from(PUBLISHERS).expect("a few");
            self.publishers[place] = self.publisher(place, self.who[place]);
        }
        let healed = match fault {
            Fault::KillShard(channel, time) => self.shard_is_gone(index, channel, time).await,
            _ => apply(fault, &mut self.servers, &mut self.nodes, &self.channels).await,
        };
        self.all_are_well(healed, &format!("fault {index}, {fault:?}"))
            .await;
        block_in_place(|| self.servers.settle());
    }

    /// One primary and its replica are gone for a while: channels and rooms of the others go on. Since when it is back.
    async fn shard_is_gone(&mut self, index: usize, channel: usize, time: Duration) -> Instant {
        let gone = block_in_place(|| self.servers.kill_shard(&self.channels[channel]));
        let began = Instant::now();
        sleep(time).await;
        for (other, name) in self.channels.iter().enumerate() {
            let goes_on = self.ledger.goes_on(began, |it| it.channel == other);
            if !goes_on && block_in_place(|| self.servers.is_served(name)) {
                let what = format!("{name} stood still while another shard was gone (fault {index})");
                self.findings.fault("one dead part stops others", what);
            }
        }
        let backend = self.nodes.backends().remove(0);
        // Without the leases nobody can say who is there.
        let has_leases = block_in_place(|| self.servers.is_served("{leases}"));
        for room in self.clients.members.rooms.iter().filter(|_| has_leases) {
            if block_in_place(|| self.servers.is_served(room))
                && let Err(why) = backend.list(room).await
            {
                let what = format!("members of {room} while another shard was gone (fault {index}): {why}");
                self.findings.fault("one dead part stops others", what);
            }
        }
        block_in_place(|| self.servers.start_again(gone));
        Instant::now()
    }

    /// Waits until every publisher has something accepted, and every client that stays connected gets something, that was
    /// sent since then.
    async fn all_are_well(&mut self, since: Instant, after: &str) {
        let mut late = false;
        loop {
            let waiting = self.waiting(since);
            let took = since.elapsed();
            if waiting.is_empty() {
                self.slowest = self.slowest.max(took);
                println!("    well {took:?} after {after}");
                return;
            }
            if took > RECOVERY && !late {
                late = true;
                self.findings.fault(
                    "recovery time",
                    format!("{RECOVERY:?} after {after}: {}", waiting.join(", ")),
                );
            }
            if took > REST {
                println!("    never well after {after}");
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Who does not yet go on.
    fn waiting(&self, since: Instant) -> Vec<String> {
        let mut waiting = Vec::new();
        for (place, &who) in self.who.iter().enumerate() {
            let is_its = |number: u64| number >> 32 == u64::from(who);
            for (channel, name) in self.channels.iter().enumerate() {
                let goes_on = match Way::ALL[place] {
                    // It says nothing; clients show that it goes on.
                    Way::Source => true,
                    _ => self
                        .ledger
                        .goes_on(since, |it| it.channel == channel && is_its(it.number)),
                };
                if !goes_on {
                    waiting.push(format!("{:?} publishes nothing to {name}", Way::ALL[place]));
                }
            }
        }
        let sent: std::collections::HashSet<u64> = {
            let all = self.ledger.all();
            all.iter()
                .filter(|it| it.sent > since)
                .map(|it| it.number)
                .collect()
        };
        for client in self
            .clients
            .clients
            .iter()
            .filter(|client| client.habit == Habit::Steady)
        {
            let history = client.history();
            let got =
                |moment: &Moment| matches!(moment, Moment::Heard { number, .. } if sent.contains(number));
            if !history.moments.iter().rev().take(2000).any(got) {
                waiting.push(format!("{} gets nothing", history.client));
            }
        }
        waiting
    }

    /// Publishers end when all that they have begun is accepted.
    async fn publishers_end(&mut self) {
        self.open.send_replace(false);
        let since = Instant::now();
        let ended = |run: &Self| {
            run.publishers.iter().all(Publisher::has_ended) && block_in_place(|| run.queue.is_done())
        };
        while !ended(self) {
            if since.elapsed() > REST {
                let ended: Vec<bool> = self.publishers.iter().map(Publisher::has_ended).collect();
                let what = format!("by {:?}: {ended:?}, source: {}", Way::ALL, self.queue.is_done());
                self.findings.fault("publishers never have all accepted", what);
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Last publications, until every client has got to where its channel is.
    async fn clients_arrive(&mut self) {
        self.clients.still.store(true, Relaxed);
        let since = Instant::now();
        let backend = self.nodes.backends().remove(0);
        let mut tops: Vec<Option<Place>> = vec![None; self.channels.len()];
        loop {
            self.last += 1;
            for (channel, top) in tops.iter_mut().enumerate() {
                let (number, sent) = (numbered(LAST, self.last), Instant::now());
                let last = event("number", &number.to_string(), &[&self.channels[channel]]);
                if let Ok(answer) = backend.publish(last).await {
                    let result = &answer.results[0];
                    let at = (!result.epoch.is_empty()).then(|| Place {
                        epoch: result.epoch.clone(),
                        offset: result.offset,
                    });
                    top.clone_from(&at);
                    self.ledger.accept(Accepted {
                        channel,
                        number,
                        at,
                        fanout: Some(0),
                        sent,
                    });
                }
            }
            // Long enough for all to arrive when all is well.
            let round = Instant::now();
            while round.elapsed() < Duration::from_secs(2) {
                if self.late(&tops).is_empty() {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
            if since.elapsed() > REST {
                let late = self.late(&tops).join("; ");
                self.findings.fault("clients that never arrive", late);
                return;
            }
        }
    }

    fn late(&self, tops: &[Option<Place>]) -> Vec<String> {
        let mut late = Vec::new();
        for client in &self.clients.clients {
            let there = match client.kind {
                Kind::Plain => {
                    let history = client.history();
                    let last = |moment: &Moment| matches!(moment, Moment::Heard { number, .. } if number >> 32 == u64::from(LAST));
                    history.moments.iter().rev().take(200).any(last)
                }
                _ => {
                    let is_there = |(top, at): (&Place, Place)| at.may_be(top);
                    tops[client.channel]
                        .as_ref()
                        .zip(client.at())
                        .is_some_and(is_there)
                }
            };
            if !there {
                late.push(format!("{} at {:?}", client.history().client, client.at()));
            }
        }
        late
    }
}
