//! How clients of the model enter its stream, by the rules of `recovery`.

use super::*;

impl Model {
    pub(super) fn subscribe(&mut self, kind: u8) {
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

    pub(super) fn wait_for_read(&mut self, waiting: Waiting) {
        self.members.remove(&waiting.from.key);
        self.stream.waiting.push(waiting);
        self.begin_reading();
    }

    pub(super) fn admit(&mut self, waiting: Waiting) {
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

    pub(super) fn join_members(&mut self, waiting: Waiting, reading: Arc<Reading>) {
        let (key, history) = (waiting.from.key, &reading.history);
        let Some(delivered) = self.stream.delivered.clone() else {
            return;
        };
        if !self.members.contains_key(&key) {
            return;
        }
        if !is_of_or_both_provisional(&delivered, history) || waiting.is_ahead_of(&delivered, &history.top) {
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
    pub(super) fn enter(&mut self, waiting: &Waiting, history: &History, publications: &[Publication]) {
        let delivered = self.stream.delivered.clone().unwrap();
        match &waiting.read {
            Read::Since(since) => {
                let mut reached = Some(since.offset).filter(|_| is_of_or_both_provisional(since, history));
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

    pub(super) fn serve_early(&mut self) {
        for Early { waiting, reading } in self.stream.caught_up() {
            self.join_members(waiting, reading);
        }
        if !self.stream.early.is_empty() {
            self.begin_reading();
        }
    }
}
