//! Where quiet streams are, asked once for all cores of a node.
//!
//! Each core keeps its streams in step for itself, and compares those of which it has heard nothing for a while. A stream that
//! another core has just compared, and that is where this core's members are, need not be asked for again: should something have
//! been lost in between, the next look finds it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tidings_broker::{Error, Streams};
use tidings_core::{Channel, Position};

use crate::{core::Compared, position::is_same, shrink::Shrink};

/// For how long what was found counts: half the time after which a stream counts as quiet.
const FRESH: Duration = Duration::from_secs(20);

/// Channels whose positions are asked for in one go.
const POSITIONS: usize = 512;

/// The most channels whose positions are kept.
const KEPT: usize = 1 << 18;

/// What cores have found out lately.
#[derive(Default)]
pub(crate) struct Found(Mutex<HashMap<Channel, (Position, Instant)>>);

impl Found {
    /// Where these streams are, or were a moment ago, one result each.
    pub(crate) async fn positions(
        &self,
        streams: &Streams,
        quiet: &[Compared],
        now: Instant,
    ) -> Vec<Result<Position, Error>> {
        let mut known = self.known(quiet, now);
        let open: Vec<_> = (0..quiet.len()).filter(|&at| known[at].is_none()).collect();
        for part in open.chunks(POSITIONS) {
            let asked: Vec<_> = part.iter().map(|&at| &quiet[at]).collect();
            for (&at, position) in part.iter().zip(ask(streams, &asked).await) {
                if let Ok(position) = &position {
                    self.keep(&quiet[at].channel, position, now);
                }
                known[at] = Some(position);
            }
        }
        known.into_iter().flatten().collect()
    }

    /// Those that another core has found where this one's members are.
    fn known(&self, quiet: &[Compared], now: Instant) -> Vec<Option<Result<Position, Error>>> {
        let mut found = self.0.lock();
        found.retain(|_, (_, at)| now.saturating_duration_since(*at) < FRESH);
        found.shrink();
        let known = quiet.iter().map(|quiet| {
            let (position, _) = found.get(&quiet.channel)?;
            let here = quiet.delivered.as_ref().is_some_and(|at| is_same(at, position));
            here.then(|| Ok(position.clone()))
        });
        known.collect()
    }

    fn keep(&self, channel: &Channel, position: &Position, now: Instant) {
        let mut found = self.0.lock();
        if found.len() < KEPT {
            found.insert(channel.clone(), (position.clone(), now));
        }
    }
}

/// Where streams are now, one result each. All at once, but for what makes a command of a size that harms nobody.
pub(crate) async fn positions(streams: &Streams, quiet: &[Compared]) -> Vec<Result<Position, Error>> {
    let mut found = Vec::with_capacity(quiet.len());
    for part in quiet.chunks(POSITIONS) {
        found.extend(ask(streams, &part.iter().collect::<Vec<_>>()).await);
    }
    found
}

async fn ask(streams: &Streams, quiet: &[&Compared]) -> Vec<Result<Position, Error>> {
    let asked = quiet.iter().map(|quiet| (&quiet.channel, quiet.known.as_ref()));
    streams.positions(&asked.collect::<Vec<_>>()).await
}

#[cfg(test)]
mod tests {
    use tidings_broker::{Broker, Watermark};

    use super::*;
    use crate::core::clock;

    fn quiet(channel: &str, delivered: Option<Position>) -> Compared {
        Compared {
            channel: Channel::parse(channel).unwrap(),
            life: 1,
            known: delivered.clone().map(Watermark::from),
            delivered,
        }
    }

    #[tokio::test]
    async fn what_one_core_has_found_is_not_asked_for_by_another_for_a_while() {
        let (broker, found, now) = (Broker::memory(), Found::default(), clock::now());
        let streams = broker.streams();
        let target = tidings_broker::Target {
            retention: Some(tidings_core::Retention {
                size: std::num::NonZeroU32::MIN,
                ttl: Duration::from_secs(60),
            }),
            ..tidings_broker::Target::from(Channel::parse("a").unwrap())
        };
        let data = bytes::Bytes::from_static(b"1");
        let publication = tidings_core::Publication::new(
            data,
            tidings_core::Format::Json,
            std::time::SystemTime::UNIX_EPOCH,
        );
        broker.publisher().publish(&[target], &publication).await[0]
            .as_ref()
            .unwrap();
        let first = found.positions(&streams, &[quiet("a", None)], now).await;
        let here = first[0].clone().unwrap();
        // The stream is another one by now, which only who asks can know.
        streams.remove(&Channel::parse("a").unwrap()).await.unwrap();
        let ask = async |heard: &Position, after: Duration| {
            let asked = [quiet("a", Some(heard.clone()))];
            found
                .positions(&streams, &asked, now + after)
                .await
                .remove(0)
                .unwrap()
        };
        assert_eq!(ask(&here, FRESH / 2).await, here, "known");
        let elsewhere = Position {
            offset: here.offset + 1,
            ..here.clone()
        };
        assert_ne!(
            ask(&elsewhere, FRESH / 2).await,
            here,
            "its members are elsewhere: asked"
        );
        assert_ne!(ask(&here, FRESH * 2).await, here, "too old: asked");
    }
}
