//! `PublishStream`: many events under way. When one of a channel is not accepted, the publisher waits until all of that
//! channel are answered, and sends those that failed again in order and with the same ids. When the stream ends, it sends
//! what has no answer on another one.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tidings_proto::fanout::{PublishRequest, PublishResponse, fanout_client::FanoutClient};
use tokio::{
    sync::mpsc,
    time::{Instant, interval, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{DEADLINE, Desk, Outgoing, PAUSE};

/// Events for each channel in one burst.
const EACH: u32 = 20;

/// Between two bursts, and at most between a failure and what follows from it.
const PACE: Duration = Duration::from_millis(700);
const TICK: Duration = Duration::from_millis(50);

/// The most events under way.
const MOST: usize = 400;

/// The publisher's own state, which outlives a stream.
struct State {
    desk: Desk,
    /// What has no answer, in the order in which it was sent.
    under_way: VecDeque<Outgoing>,
    /// What is to be sent before anything new of its channel, in order: the channel, its numbers.
    failed: BTreeMap<usize, Vec<Outgoing>>,
    next: u32,
}

pub(super) async fn run(desk: Desk) {
    let mut fanout = desk.backends.len() - 1;
    let mut state = State {
        desk,
        under_way: VecDeque::new(),
        failed: BTreeMap::new(),
        next: 1,
    };
    loop {
        if state.one_stream(fanout).await.is_some() {
            return;
        }
        // In the order in which it was sent: so is each channel's.
        for outgoing in std::mem::take(&mut state.under_way) {
            state.failed.entry(outgoing.channel).or_default().push(outgoing);
        }
        for numbers in state.failed.values_mut() {
            numbers.sort_by_key(|outgoing| outgoing.number);
        }
        fanout = (fanout + 1) % state.desk.backends.len();
        sleep(PAUSE).await;
    }
}

impl State {
    /// One stream; `Some` when all is accepted and nothing new is to come.
    async fn one_stream(&mut self, fanout: usize) -> Option<()> {
        let backend = &self.desk.backends[fanout];
        let (requests, receiver) = mpsc::channel(2 * MOST);
        let call = backend.request(ReceiverStream::new(receiver));
        let mut client = FanoutClient::new(backend.channel());
        let answers = timeout(DEADLINE, client.publish_stream(call)).await.ok()?;
        let mut answers: Streaming<PublishResponse> = answers.ok()?.into_inner();
        let mut ticks = interval(TICK);
        let (each, pace) = self.desk.rhythm(EACH, PACE);
        let (mut last_burst, mut last_answer) = (Instant::now() - pace, Instant::now());
        loop {
            tokio::select! {
                answer = answers.message() => {
                    let answer = answer.ok()??;
                    last_answer = Instant::now();
                    self.answered(fanout, &answer)?;
                }
                _ = ticks.tick() => {
                    if self.under_way.is_empty() {
                        last_answer = Instant::now();
                    }
                    if last_answer.elapsed() > DEADLINE {
                        return None;
                    }
                    self.send_again(&requests)?;
                    if self.desk.is_open() && last_burst.elapsed() >= pace && self.under_way.len() < MOST {
                        last_burst = Instant::now();
                        self.burst(each, &requests)?;
                    }
                    if !self.desk.is_open() && self.under_way.is_empty() && self.failed.is_empty() {
                        return Some(());
                    }
                }
            }
        }
    }

    fn answered(&mut self, fanout: usize, answer: &PublishResponse) -> Option<()> {
        let outgoing = self.under_way.pop_front()?;
        if !self.desk.note(outgoing, fanout, answer) {
            self.failed.entry(outgoing.channel).or_default().push(outgoing);
        }
        Some(())
    }

    /// What failed in channels that have nothing under way any more.
    fn send_again(&mut self, requests: &mpsc::Sender<PublishRequest>) -> Option<()> {
        let under_way = &self.under_way;
        let ready = |channel: &usize| under_way.iter().all(|outgoing| outgoing.channel != *channel);
        let ready: Vec<usize> = self.failed.keys().copied().filter(ready).collect();
        let mut sent = Some(());
        for channel in ready {
            for outgoing in self.failed.remove(&channel).unwrap_or_default() {
                sent = self.send(requests, outgoing).and(sent);
            }
        }
        sent
    }

    fn burst(&mut self, each: u32, requests: &mpsc::Sender<PublishRequest>) -> Option<()> {
        // Only when none waits to be sent again: numbers are given to all channels alike.
        if !self.failed.is_empty() {
            return Some(());
        }
        let mut sent = Some(());
        for n in self.next..self.next + each {
            for channel in 0..self.desk.channels.len() {
                let outgoing = self.desk.outgoing(channel, n);
                sent = self.send(requests, outgoing).and(sent);
            }
        }
        self.next += each;
        sent
    }

    /// Sends one; what cannot be sent any more counts as under way when the stream ended.
    fn send(&mut self, requests: &mpsc::Sender<PublishRequest>, outgoing: Outgoing) -> Option<()> {
        self.under_way.push_back(outgoing);
        let event = Some(self.desk.event(outgoing));
        requests.try_send(PublishRequest { event }).ok()
    }
}
