//! The rules of streams and recoveries against a model of Redis that loses things: whatever is published, lost, rolled
//! back, asked for, answered late or not at all, each member gets each publication once and in order, or is notified; and
//! nobody is notified without a loss.

use std::{collections::BTreeMap, sync::OnceLock};

use prometheus_client::registry::Registry;
use proptest::prelude::*;
use tidings_core::Publication;
use tracing::Span;

use super::{tests::publication, *};
use crate::{
    core::{
        clock,
        recovery::{join, missing, newest},
    },
    evidence::Evidence,
    metrics::Metrics,
    position::{is_of, is_same},
};

const KEPT: usize = 6;

#[derive(Debug, Clone)]
enum Command {
    Publish(u8),
    /// The bus brings its next message.
    Receive,
    /// The bus loses what is on its way, and says so.
    Cut,
    /// The bus loses one message and nobody notices.
    Drop,
    Snapshot,
    /// Redis goes back to the last snapshot, and loses the connection.
    Rollback,
    /// Another node proves a loss.
    NewEpoch,
    NextDay,
    /// Redis executes the oldest question that waits.
    Execute,
    /// The oldest answer arrives.
    Answer,
    /// The oldest question, or its answer, fails.
    Fail,
    Retry,
    Idle,
    Subscribe(u8),
    Leave(u8),
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        6 => (1_u8..4).prop_map(Command::Publish),
        8 => Just(Command::Receive),
        1 => Just(Command::Cut),
        1 => Just(Command::Drop),
        1 => Just(Command::Snapshot),
        1 => Just(Command::Rollback),
        1 => Just(Command::NewEpoch),
        1 => Just(Command::NextDay),
        8 => Just(Command::Execute),
        8 => Just(Command::Answer),
        2 => Just(Command::Fail),
        3 => Just(Command::Retry),
        1 => Just(Command::Idle),
        4 => (0_u8..4).prop_map(Command::Subscribe),
        2 => any::<u8>().prop_map(Command::Leave),
    ]
}

/// What Redis keeps of the channel.
#[derive(Debug, Clone)]
struct Redis {
    day: u64,
    epoch: Option<u64>,
    /// Epochs that the stream has had.
    had: Vec<u64>,
    provisional: String,
    offset: u64,
    entries: Vec<(u64, Option<u64>)>,
    jumps: Vec<(u64, u64)>,
    /// It may have gone back in time.
    jump: bool,
}

/// What the world has beside the gateway.
struct World {
    redis: Redis,
    snapshot: Redis,
    epochs: u64,
    /// Where the next offset jump leads, at the least: no offset is given twice.
    jumped: u64,
    bus: VecDeque<Message>,
}

enum Message {
    Publication(Arc<Delivery>),
    Gap,
}

impl World {
    fn new() -> Self {
        let redis = Redis {
            day: 10,
            epoch: None,
            had: Vec::new(),
            provisional: String::new(),
            offset: 0,
            entries: Vec::new(),
            jumps: Vec::new(),
            jump: false,
        };
        Self {
            snapshot: redis.clone(),
            redis,
            epochs: 0,
            jumped: 0,
            bus: VecDeque::new(),
        }
    }

    fn new_epoch(&mut self) {
        self.epochs += 1;
        self.redis.had.extend(self.redis.epoch);
        self.redis.epoch = Some(self.epochs);
    }

    fn publish(&mut self) {
        if self.redis.epoch.is_none() {
            let day = self.redis.day;
            self.new_epoch();
            self.redis.provisional = format!("~{day},~{}", day - 1);
            self.redis.jump = false;
        }
        let redis = &mut self.redis;
        let jump = std::mem::take(&mut redis.jump).then_some(redis.offset);
        if jump.is_some() {
            self.jumped += 1000;
            redis.jumps.push((redis.offset, self.jumped));
            redis.offset = self.jumped - 1;
        }
        redis.offset += 1;
        redis.entries.push((redis.offset, jump));
        let first = redis.entries.len().saturating_sub(KEPT);
        redis.entries.drain(..first);
        let publication = self.publication((self.redis.offset, jump));
        self.bus.push_back(Message::Publication(wrap(publication)));
    }

    fn publication(&self, (offset, seam): (u64, Option<u64>)) -> Publication {
        Publication {
            seam,
            ..publication(offset, &self.top().epoch)
        }
    }

    fn top(&self) -> Position {
        Position {
            offset: self.redis.offset,
            epoch: match self.redis.epoch {
                Some(epoch) => format!("e{epoch}"),
                None => format!("~{}", self.redis.day),
            },
        }
    }

    /// Compares what is known with what is there.
    fn compare(&mut self, known: Option<&Position>) {
        let Some(known) = known else { return };
        let epoch = known.epoch[1..].parse().expect("a number");
        let lost = |redis: &Redis| {
            let jumped = redis
                .jumps
                .iter()
                .any(|(last, first)| *last < known.offset && known.offset < *first);
            known.offset > redis.offset || jumped
        };
        if self.redis.had.contains(&epoch) {
            return;
        }
        if self.redis.epoch != Some(epoch) {
            self.redis.had.push(epoch);
            self.new_epoch();
        } else if lost(&self.redis) {
            self.new_epoch();
        }
    }

    fn read(&mut self, query: Query, known: Option<&Position>) -> History {
        self.compare(known);
        let entries = self.redis.entries.iter().copied();
        let since = query.since.unwrap_or(0);
        let mut publications: Vec<_> = entries
            .filter(|(offset, _)| *offset > since || query.reverse)
            .map(|entry| self.publication(entry))
            .collect();
        if query.reverse {
            publications.reverse();
        }
        publications.truncate(query.limit as usize);
        History {
            publications,
            top: self.top(),
            provisional: self.redis.provisional.clone(),
        }
    }

    /// Whether a client at this position missed nothing that could not be had when Redis answered.
    fn connected(&mut self, then: &Redis, at: &Position) -> bool {
        let now = std::mem::replace(&mut self.redis, then.clone());
        let connected = self.connects(at);
        self.redis = now;
        connected
    }

    fn connects(&mut self, at: &Position) -> bool {
        let query = Query {
            since: Some(at.offset),
            limit: 1000,
            ..Query::default()
        };
        connects(at, &self.read(query, None))
    }
}

/// A question on its way.
enum Question {
    Stream(Query),
    Client(Waiting, Query),
    Position(Option<Position>),
}

/// A question, what it carried, what was answered, and by what.
type Asked = (Question, Option<Position>, History, Redis);

struct Member {
    at: Position,
    /// It has entered, or what was read for it is joined with what is buffered here.
    buffered: Option<Vec<Arc<Delivery>>>,
}

struct Model {
    world: World,
    stream: Stream,
    evidence: Evidence,
    channel: Channel,
    questions: VecDeque<Question>,
    answers: VecDeque<Asked>,
    retry: bool,
    comparing: bool,
    members: BTreeMap<usize, Member>,
    /// The Redis that answered them last.
    answered_by: BTreeMap<usize, Redis>,
    clients: usize,
    /// Where clients were when they went.
    gone: Vec<Position>,
}

fn wrap(publication: Publication) -> Arc<Delivery> {
    static METRICS: OnceLock<Arc<Metrics>> = OnceLock::new();
    let metrics = METRICS.get_or_init(|| Arc::new(Metrics::register(&mut Registry::default())));
    let channel = Channel::parse("news").unwrap();
    Arc::new(Delivery::new(channel, publication, metrics.clone(), Span::none()))
}

impl Model {
    fn new() -> Self {
        let (evidence, channel) = (Evidence::new(), Channel::parse("news").unwrap());
        evidence.open(&channel);
        let retention = Retention {
            size: std::num::NonZeroU32::MIN,
            ttl: std::time::Duration::from_secs(60),
        };
        Self {
            world: World::new(),
            stream: Stream::new(1, retention, false, clock::now()),
            evidence,
            channel,
            questions: VecDeque::new(),
            answers: VecDeque::new(),
            retry: false,
            comparing: false,
            members: BTreeMap::new(),
            answered_by: BTreeMap::new(),
            clients: 0,
            gone: Vec::new(),
        }
    }

    fn run(&mut self, command: &Command) {
        match command {
            Command::Publish(times) => (0..*times).for_each(|_| self.world.publish()),
            Command::Receive => self.receive(),
            Command::Cut => {
                self.world.bus.clear();
                self.world.bus.push_back(Message::Gap);
            }
            Command::Drop => drop(self.world.bus.pop_front()),
            Command::Snapshot => self.world.snapshot = self.world.redis.clone(),
            Command::Rollback => {
                let day = self.world.redis.day;
                self.world.redis = self.world.snapshot.clone();
                (self.world.redis.day, self.world.redis.jump) = (day, true);
                self.world.bus.push_back(Message::Gap);
            }
            Command::NewEpoch if self.world.redis.epoch.is_some() => self.world.new_epoch(),
            Command::NewEpoch => {}
            Command::NextDay => {
                // Half a day has many comparisons.
                self.settle();
                self.world.redis.day += 1;
                self.settle();
            }
            Command::Execute => self.execute(),
            Command::Answer => self.answer(),
            Command::Fail => self.fail(),
            Command::Retry => self.try_again(),
            Command::Idle => self.doubt(),
            Command::Subscribe(kind) => self.subscribe(*kind),
            Command::Leave(which) => {
                let keys: Vec<_> = self.members.keys().copied().collect();
                if let Some(key) = keys.get(usize::from(*which) % keys.len().max(1))
                    && self.members[key].buffered.is_none()
                {
                    let member = self.members.remove(key).unwrap();
                    self.gone.push(member.at);
                }
            }
        }
    }

    fn receive(&mut self) {
        match self.world.bus.pop_front() {
            Some(Message::Publication(delivery)) => {
                let position = delivery.publication.position.clone().unwrap();
                self.evidence.received(&self.channel, &delivery.publication);
                match self.stream.receive(&delivery, &position) {
                    Next::HandOut => self.hand_out(&delivery),
                    Next::Nothing => {}
                    Next::Read => self.ask(),
                }
                self.serve_early();
            }
            Some(Message::Gap) => self.doubt(),
            None => {}
        }
    }

    fn hand_out(&mut self, delivery: &Arc<Delivery>) {
        for member in self.members.values_mut() {
            match &mut member.buffered {
                Some(buffered) => buffered.push(delivery.clone()),
                None => {
                    assert!(
                        follows(&member.at, &delivery.publication),
                        "{:?} {:?}",
                        member.at,
                        delivery.publication
                    );
                    member.at = delivery.publication.position.clone().unwrap();
                }
            }
        }
    }

    fn ask(&mut self) {
        let query = self.stream.question(3, 1000);
        self.questions.push_back(Question::Stream(query));
    }

    fn begin_reading(&mut self) {
        if self.stream.want_read() {
            self.ask();
        }
    }

    fn doubt(&mut self) {
        self.stream.comparison = Comparison::Due;
        self.compare();
    }

    fn compare(&mut self) {
        if self.comparing || self.stream.comparison != Comparison::Due {
            return;
        }
        if self.stream.reading.is_some() {
            self.stream.comparison = Comparison::Idle;
            self.stream.want_read();
            return;
        }
        self.stream.comparison = Comparison::Asked;
        self.comparing = true;
        self.questions
            .push_back(Question::Position(self.stream.delivered.clone()));
    }

    fn execute(&mut self) {
        if let Some(question) = self.questions.pop_front() {
            let known = self.evidence.of(&self.channel);
            let query = match &question {
                Question::Stream(query) | Question::Client(_, query) => *query,
                Question::Position(_) => Query::default(),
            };
            let history = self.world.read(query, known.as_ref());
            self.answers
                .push_back((question, known, history, self.world.redis.clone()));
        }
    }

    fn fail(&mut self) {
        let question = self.answers.pop_front().map(|(question, ..)| question);
        match question.or_else(|| self.questions.pop_front()) {
            Some(Question::Stream(_)) => {
                self.stream.failed += 1;
                self.retry = true;
                for early in mem::take(&mut self.stream.early) {
                    self.members.remove(&early.waiting.from.key);
                }
                self.stream.waiting.clear();
            }
            Some(Question::Client(waiting, _)) => drop(self.members.remove(&waiting.from.key)),
            Some(Question::Position(_)) => {
                self.comparing = false;
                self.stream.comparison = Comparison::Due;
            }
            None => {}
        }
    }

    fn try_again(&mut self) {
        if mem::take(&mut self.retry) {
            self.ask();
        }
        self.compare();
    }

    fn answer(&mut self) {
        let Some((question, carried, history, by)) = self.answers.pop_front() else {
            return;
        };
        match question {
            Question::Client(waiting, _) => {
                self.answered_by.insert(waiting.from.key, by);
                if !self
                    .evidence
                    .answered(&self.channel, carried.as_ref(), &history.top)
                {
                    return self.admit(waiting);
                }
                let reading = Arc::new(Reading { history, carried });
                self.join_members(waiting, reading);
            }
            Question::Position(asked) => {
                self.comparing = false;
                let proves = self
                    .evidence
                    .answered(&self.channel, carried.as_ref(), &history.top);
                if self.stream.comparison == Comparison::Asked {
                    self.stream.comparison = Comparison::Idle;
                }
                if !proves || !self.stream.is_in_step(asked.as_ref(), &history.top) {
                    self.begin_reading();
                }
                self.compare();
            }
            Question::Stream(_) => self.stream_read(&history, carried.as_ref(), &by),
        }
    }

    fn stream_read(&mut self, history: &History, carried: Option<&Position>, by: &Redis) {
        if !self.evidence.answered(&self.channel, carried, &history.top) {
            return self.ask();
        }
        let read: Vec<_> = history.publications.iter().cloned().map(wrap).collect();
        match self.stream.answered(history, read) {
            Found::Outdated => {
                let lacking = self.stream.lacking(&history.top).unwrap();
                self.evidence.lacks(&self.channel, lacking);
                self.stream.failed += 1;
                self.retry = true;
                return;
            }
            Found::Lost => self.notify(by),
            Found::Located | Found::Connected => {}
        }
        while let Some(delivery) = self.stream.next() {
            self.hand_out(&delivery);
        }
        if self.stream.reads_again() {
            self.ask();
        } else {
            for waiting in mem::take(&mut self.stream.waiting) {
                self.admit(waiting);
            }
        }
        self.serve_early();
    }

    /// Members are told that they missed something; it has to be true.
    fn notify(&mut self, by: &Redis) {
        let members = mem::take(&mut self.members);
        for (key, member) in members {
            if member.buffered.is_none() {
                assert!(
                    !self.world.connected(by, &member.at),
                    "nothing was lost after {:?}",
                    member.at
                );
                self.gone.push(member.at);
            } else {
                self.members.insert(key, member);
            }
        }
    }

    fn subscribe(&mut self, kind: u8) {
        self.clients += 1;
        let read = match (kind, self.gone.pop()) {
            (0, _) => Read::Latest,
            (_, Some(at)) => Read::Since(at),
            (_, None) => Read::Position,
        };
        let from = Address {
            key: self.clients,
            client: tidings_core::ClientId::random(),
        };
        let waiting = Waiting { from, id: 1, read };
        match (&self.stream.reading, &self.stream.delivered) {
            (None, Some(_)) => self.admit(waiting),
            (None, None) => self.wait_for_read(waiting),
            (Some(_), _) if self.stream.failed == 0 => self.stream.waiting.push(waiting),
            (Some(_), _) => {}
        }
    }

    fn wait_for_read(&mut self, waiting: Waiting) {
        self.members.remove(&waiting.from.key);
        self.stream.waiting.push(waiting);
        self.begin_reading();
    }

    fn admit(&mut self, waiting: Waiting) {
        let delivered = self
            .stream
            .delivered
            .clone()
            .expect("only known positions are entered");
        let Some(query) = missing(&waiting.read, &delivered, (1000, 1000)) else {
            return self.enter(
                &waiting,
                &History {
                    publications: Vec::new(),
                    top: delivered,
                    provisional: String::new(),
                },
                &[],
            );
        };
        let member = Member {
            at: delivered,
            buffered: Some(Vec::new()),
        };
        self.members.insert(waiting.from.key, member);
        self.questions.push_back(Question::Client(waiting, query));
    }

    fn join_members(&mut self, waiting: Waiting, reading: Arc<Reading>) {
        let (key, history) = (waiting.from.key, &reading.history);
        let Some(delivered) = self.stream.delivered.clone() else {
            return;
        };
        if !self.members.contains_key(&key) {
            return;
        }
        if !is_of(&delivered, history) || waiting.is_ahead_of(&delivered, &history.top) {
            if self.stream.is_unreadable() {
                self.members.remove(&key);
                return;
            }
            return self.wait_for_read(waiting);
        }
        if waiting.read == Read::Latest && history.top.offset > delivered.offset {
            if self.stream.is_unreadable() {
                self.members.remove(&key);
                return;
            }
            self.stream.early.push(Early { waiting, reading });
            return self.begin_reading();
        }
        let buffered = self.members[&key].buffered.clone().unwrap_or_default();
        let publications = match &waiting.read {
            Read::Since(since) => join(since.offset, history, &buffered, &delivered),
            Read::Latest => {
                let last = buffered.last().map(|delivery| &delivery.publication);
                newest(history, last, &delivered).into_iter().collect()
            }
            _ => Vec::new(),
        };
        if waiting.read == Read::Latest && publications.is_empty() && history.top.offset < delivered.offset {
            return self.admit(waiting);
        }
        self.enter(&waiting, history, &publications);
    }

    /// A client enters where the members are, with what it missed, as the session judges it.
    fn enter(&mut self, waiting: &Waiting, history: &History, publications: &[Publication]) {
        let delivered = self.stream.delivered.clone().unwrap();
        match &waiting.read {
            Read::Since(since) => {
                let mut reached = Some(since.offset).filter(|_| is_of(since, history));
                for publication in publications {
                    reached = reached.filter(|reached| publication.follows() == Some(*reached));
                    reached = reached.and(publication.position.as_ref().map(|at| at.offset));
                }
                let recovered = reached == Some(delivered.offset);
                if !recovered {
                    let by = self.answered_by.get(&waiting.from.key).cloned();
                    let by = by.unwrap_or_else(|| self.world.redis.clone());
                    assert!(
                        !self.world.connected(&by, since),
                        "{since:?} could be recovered at {delivered:?}"
                    );
                }
            }
            Read::Latest if delivered.offset > 0 => {
                let position = publications.first().and_then(|newest| newest.position.as_ref());
                // Where the stream was trimmed or lost meanwhile there may be none.
                let kept = self.world.top().epoch == delivered.epoch;
                assert!(
                    position == Some(&delivered) || !kept,
                    "{position:?} is not {delivered:?}"
                );
            }
            _ => {}
        }
        let member = Member {
            at: delivered,
            buffered: None,
        };
        self.members.insert(waiting.from.key, member);
    }

    fn serve_early(&mut self) {
        for Early { waiting, reading } in self.stream.caught_up() {
            self.join_members(waiting, reading);
        }
        if !self.stream.early.is_empty() {
            self.begin_reading();
        }
    }

    /// Nothing fails any more, and all that is on its way arrives.
    fn settle(&mut self) {
        for round in 0.. {
            assert!(
                round < 1000,
                "it never comes to rest: {:?} at {:?}, evidence {:?}, {:?}",
                self.world.redis,
                self.stream.delivered,
                self.evidence.of(&self.channel),
                self.stream.reading.as_ref().map(|buffered| (
                    buffered.before_read,
                    buffered
                        .deliveries
                        .iter()
                        .map(|it| it.publication.position.clone())
                        .collect::<Vec<_>>()
                )),
            );
            while !self.world.bus.is_empty() {
                self.receive();
            }
            while !self.questions.is_empty() || !self.answers.is_empty() {
                self.execute();
                self.answer();
            }
            self.try_again();
            if self.world.bus.is_empty() && self.questions.is_empty() && !self.retry {
                if round > 0 {
                    break;
                }
                self.doubt();
            }
        }
        assert!(
            self.stream.reading.is_none() && self.stream.early.is_empty() && self.stream.waiting.is_empty()
        );
        let top = self.world.top();
        for member in self.members.values() {
            assert!(member.buffered.is_none(), "a client waits for ever");
            assert!(
                is_same(&member.at, &top),
                "{:?} misses something of {top:?} silently",
                member.at
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn members_get_each_publication_once_in_order_or_are_notified_and_nobody_is_without_a_loss(
        commands in prop::collection::vec(command(), 0..120)
    ) {
        let mut model = Model::new();
        for command in &commands {
            model.run(command);
        }
        model.settle();
    }
}
