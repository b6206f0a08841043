//! The log, a Redis stream to which the script that writes members adds.

use std::{collections::HashMap, time::Duration};

use tidings_core::{Channel, ClientId};

use super::{
    super::{Error, Event, Position},
    Redis,
};

type Entries = Vec<(String, HashMap<String, Vec<u8>>)>;

impl Redis {
    pub(in super::super) const fn crowd_interval(&self) -> Duration {
        self.options.crowd_interval
    }

    pub(in super::super) const fn has_log(&self) -> bool {
        self.options.log > 0
    }

    pub(in super::super) async fn log_end(&self) -> Result<Position, Error> {
        let mut pipeline = redis::pipe();
        pipeline
            .cmd("XREVRANGE")
            .arg(self.keys.log())
            .arg(&["+", "-", "COUNT", "1"]);
        let (last,): (Entries,) = self.send(&pipeline).await?;
        Ok(only(&last).unwrap_or_default())
    }

    pub(in super::super) async fn log_after(
        &self,
        after: Position,
        limit: usize,
    ) -> Result<Option<Vec<(Position, Event)>>, Error> {
        let log = self.keys.log();
        let mut pipeline = redis::pipe();
        // In this order: what is trimmed after the first look was seen by it.
        pipeline
            .cmd("XRANGE")
            .arg(&log)
            .arg(format!("({after}"))
            .arg(&["+", "COUNT"])
            .arg(limit);
        pipeline.cmd("XRANGE").arg(&log).arg(&["-", "+", "COUNT", "1"]);
        pipeline.cmd("XREVRANGE").arg(&log).arg(&["+", "-", "COUNT", "1"]);
        pipeline.cmd("XLEN").arg(&log);
        let (entries, first, last, len): (Entries, Entries, Entries, usize) = self.send(&pipeline).await?;
        let (first, last) = (only(&first).unwrap_or_default(), only(&last).unwrap_or_default());
        // Whoever began when the log was empty has lost nothing before the log was full.
        let kept = first <= after || (after == Position::default() && len < self.options.log);
        if !kept || last < after {
            return Ok(None);
        }
        let events = entries
            .iter()
            .filter_map(|(id, fields)| Some((Position::parse(id)?, event(fields)?)));
        Ok(Some(events.collect()))
    }
}

fn only(entries: &Entries) -> Option<Position> {
    Position::parse(&entries.first()?.0)
}

fn event(fields: &HashMap<String, Vec<u8>>) -> Option<Event> {
    let text = |name| std::str::from_utf8(fields.get(name)?).ok();
    Some(Event {
        joined: text("event")? == "joined",
        channel: Channel::parse(text("channel")?).ok()?,
        client: ClientId::parse(text("client")?)?,
        user: text("user")?.into(),
        crowd: text("clients").and_then(|clients| clients.parse().ok()),
    })
}
