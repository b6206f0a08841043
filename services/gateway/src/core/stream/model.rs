//! The rules of streams and recoveries against a model of Redis that loses things: whatever is published, lost, rolled
//! back, asked for, answered late or not at all, each member gets each publication once and in order, or is notified; and
//! nobody is notified without a loss.

mod members;
mod world;

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
    position::{is_of_or_both_provisional, is_same},
};

use world::{Message, Redis, World};

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

/// A question on its way.
enum Question {
    Stream(Query),
    Client(Waiting, Query),
    Position(Option<Position>),
}

/// A question, what it carried, what was answered, and by what.
type Asked = (Question, Option<Watermark>, History, Redis);

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

    fn stream_read(&mut self, history: &History, carried: Option<&Watermark>, by: &Redis) {
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
