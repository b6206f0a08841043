//! Who says numbers: each until it is acknowledged, under an id that makes it one event however often it is said.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tidings_proto::fanout::{Event, PublishBatchRequest, PublishResponse, fanout_client::FanoutClient};
use tidings_tests::{Backend, checker::Place, event};
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::task::TaskTracker;

/// How often it speaks.
const PACE: Duration = Duration::from_millis(5);

/// A publisher that runs until it is told to stop.
pub(crate) struct Publisher {
    acknowledged: Arc<Mutex<Vec<(Place, u64)>>>,
    speaking: Arc<AtomicBool>,
    running: JoinHandle<()>,
}

impl Publisher {
    /// Says so many numbers at a time to the first of these that takes them.
    pub(crate) fn start(backends: Vec<Backend>, channel: &'static str, batch: u64) -> Self {
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let speaking = Arc::new(AtomicBool::new(true));
        let say = Say {
            backends,
            channel,
            batch,
            acknowledged: acknowledged.clone(),
        };
        Self {
            acknowledged,
            running: TaskTracker::new().spawn(say.on(speaking.clone())),
            speaking,
        }
    }

    /// How many were acknowledged so far.
    pub(crate) fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// Ends when what was begun is acknowledged; where which number is.
    pub(crate) async fn stop(&mut self) -> Vec<(Place, u64)> {
        self.speaking.store(false, Relaxed);
        (&mut self.running).await.unwrap();
        self.acknowledged.lock().unwrap().drain(..).collect()
    }
}

struct Say {
    backends: Vec<Backend>,
    channel: &'static str,
    batch: u64,
    acknowledged: Arc<Mutex<Vec<(Place, u64)>>>,
}

impl Say {
    async fn on(mut self, speaking: Arc<AtomicBool>) {
        let mut next = 0;
        while speaking.load(Relaxed) {
            let mut open: Vec<u64> = (next..next + self.batch).collect();
            while !open.is_empty() {
                let events = open.iter().map(|number| self.event(*number)).collect();
                match publish(&self.backends[0], events).await {
                    Some(answers) => {
                        let places: Vec<_> = answers.iter().map(place).collect();
                        let mut acknowledged = self.acknowledged.lock().unwrap();
                        let said = open.iter().zip(&places);
                        acknowledged
                            .extend(said.filter_map(|(number, place)| Some((place.clone()?, *number))));
                        let mut places = places.iter();
                        open.retain(|_| places.next().is_some_and(Option::is_none));
                    }
                    // Whatever became of them, another will say.
                    None => self.backends.rotate_left(1),
                }
                sleep(PACE).await;
            }
            next += self.batch;
        }
    }

    fn event(&self, number: u64) -> Event {
        Event {
            id: number.to_string(),
            ..event("number", &number.to_string(), &[self.channel])
        }
    }
}

/// The answers to events, one each; `None` when there are none.
async fn publish(backend: &Backend, mut events: Vec<Event>) -> Option<Vec<PublishResponse>> {
    if let [event] = &mut events[..] {
        return Some(vec![backend.publish(std::mem::take(event)).await.ok()?]);
    }
    let request = backend.request(PublishBatchRequest { events });
    let mut client = FanoutClient::new(backend.channel());
    Some(client.publish_batch(request).await.ok()?.into_inner().responses)
}

fn place(answer: &PublishResponse) -> Option<Place> {
    let result = answer.results.first().filter(|result| !result.epoch.is_empty())?;
    Some(Place {
        epoch: result.epoch.clone(),
        offset: result.offset,
    })
}
