//! Reads the bus of a Redis Cluster for one subscriber: one [`Reader`] for each primary, each with the topics whose slots it
//! has. When slots move, so do their topics, and the subscriber is told of the gap.

use std::{collections::HashMap, mem, sync::Arc};

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use super::{
    REQUESTS,
    cluster::Cluster,
    health::Health,
    keys::Keys,
    link::Elsewhere,
    reader::{Reader, Request},
    slots::{Address, Slots, slot},
    thread::Spawner,
};
use crate::{Error, Incoming, Sink, topic::Topic};

/// What a subscriber wants, and who brings it.
pub(super) struct Spread {
    cluster: Arc<Cluster>,
    keys: Keys,
    sink: Arc<dyn Sink>,
    health: Arc<Health>,
    spawner: Spawner,
    /// Who is asked for what; nobody, where nobody has the slot.
    wanted: HashMap<Topic, Option<Address>>,
    readers: HashMap<Address, (mpsc::Sender<Request>, AbortOnDropHandle<()>)>,
    /// Says that there was a gap when what has moved is confirmed.
    moving: Option<AbortOnDropHandle<()>>,
}

impl Spread {
    pub(super) fn new(
        cluster: Arc<Cluster>,
        keys: Keys,
        sink: Arc<dyn Sink>,
        health: Arc<Health>,
        spawner: Spawner,
    ) -> Self {
        Self {
            cluster,
            keys,
            sink,
            health,
            spawner,
            wanted: HashMap::new(),
            readers: HashMap::new(),
            moving: None,
        }
    }

    /// Runs until the subscriber is dropped; its readers end with it.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut slots = self.cluster.topology.watch();
        let mut status = self.health.status();
        // Nothing can be asked before anything is known, unless that takes too long.
        let mut known = !slots.borrow().primaries().is_empty();
        loop {
            let away = self.health.known_away(self.cluster.name()).is_some();
            tokio::select! {
                changed = slots.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    known = true;
                    let now = slots.borrow_and_update().clone();
                    self.follow(&now).await;
                }
                request = requests.recv(), if known || away => match request {
                    Some(request) => self.forward(request).await,
                    None => return,
                },
                Ok(()) = status.changed(), if !known && !away => {}
            }
        }
    }

    async fn forward(&mut self, request: Request) {
        let owner = match self.wanted.get(&request.topic) {
            // Who has it now is who must let it go.
            Some(owner) if !request.wanted => owner.clone(),
            _ => self.owner(&request.topic, &self.cluster.topology.slots()),
        };
        if request.wanted {
            self.wanted.insert(request.topic.clone(), owner.clone());
        } else {
            self.wanted.remove(&request.topic);
        }
        match owner {
            Some(owner) => self.tell(&owner, request).await,
            None => {
                let answer = if request.wanted {
                    self.cluster.topology.doubt();
                    Err(self.cluster.nobody())
                } else {
                    Ok(())
                };
                // Who asked may have stopped waiting.
                let _ = request.reply.send(answer);
            }
        }
    }

    /// Moves what is wanted to who has it now.
    async fn follow(&mut self, slots: &Slots) {
        let mut moved = Vec::new();
        for (topic, owner) in &self.wanted {
            let now = self.owner(topic, slots);
            if now != *owner {
                moved.push((topic.clone(), now));
            }
        }
        let mut confirmed = Vec::new();
        for (topic, now) in moved {
            let before = self.wanted.insert(topic.clone(), now.clone());
            if let Some(before) = before.flatten() {
                drop(self.request(&before, topic.clone(), false).await);
            }
            if let Some(now) = now {
                confirmed.push(self.request(&now, topic, true).await);
            }
        }
        let primaries = slots.primaries();
        self.readers.retain(|address, _| primaries.contains(address));
        if confirmed.is_empty() {
            return;
        }
        let (sink, before) = (self.sink.clone(), mem::take(&mut self.moving));
        self.moving = Some(self.spawner.spawn(async move {
            if let Some(before) = before {
                let _ = before.await;
            }
            // What is not confirmed is taken up by its reader later, which says that there was a gap then.
            join_all(confirmed).await;
            sink.incoming(Incoming::Gap);
        }));
    }

    /// Asks for what moves.
    async fn request(
        &mut self,
        owner: &Address,
        topic: Topic,
        wanted: bool,
    ) -> oneshot::Receiver<Result<(), Error>> {
        let (reply, answer) = oneshot::channel();
        let request = Request {
            topic,
            wanted,
            is_moved: true,
            reply,
        };
        self.tell(owner, request).await;
        answer
    }

    /// Hands a request to the reader of a node, which is started where there is none.
    async fn tell(&mut self, owner: &Address, request: Request) {
        let requests = match self.readers.get(owner) {
            Some((requests, _)) => requests.clone(),
            None => match self.start(owner) {
                Ok(reader) => {
                    let requests = reader.0.clone();
                    self.readers.insert(owner.clone(), reader);
                    requests
                }
                Err(error) => {
                    let _ = request.reply.send(Err(error));
                    return;
                }
            },
        };
        // It runs for as long as it can be asked.
        let _ = requests.send(request).await;
    }

    fn start(&self, owner: &Address) -> Result<(mpsc::Sender<Request>, AbortOnDropHandle<()>), Error> {
        let node = self.cluster.node(owner)?;
        let topology = self.cluster.topology.clone();
        let elsewhere: Elsewhere = Arc::new(move || topology.doubt());
        let connector = node.connector.in_shard(elsewhere);
        let part = self.health.part(connector.peer().name());
        let (requests, receiver) = mpsc::channel(REQUESTS);
        let reader = Reader::new(connector, self.keys.clone(), self.sink.clone(), part, receiver);
        Ok((requests, self.spawner.spawn(reader.run())))
    }

    fn owner(&self, topic: &Topic, slots: &Slots) -> Option<Address> {
        slots.owner(slot(self.keys.topic(topic).as_bytes())).cloned()
    }
}
