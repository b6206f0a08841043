//! Leaves that are announced later, unless who left is back.
//!
//! The channel keeps who is leaving, and one list for all channels says when to look at which. The channel is put on the list
//! before the member is removed, a little too late, so that a crash in between only delays the announcement; and at the
//! right time afterwards.

use std::{collections::BTreeSet, time::Duration};

use tidings_core::{Channel, ClientId};

use super::{super::Error, Redis, SETTLE, TIMEOUT, entry, loading, millis};

/// How many entries one step looks at.
const STEP: usize = 1_000;

impl Redis {
    /// Before somebody is removed from these channels.
    pub(super) async fn will_look(&self, at: &[(&Channel, ClientId)]) -> Result<(), Error> {
        self.look_in(self.options.leave_delay + 2 * TIMEOUT, at).await
    }

    /// After that.
    pub(super) async fn look(&self, at: &[(&Channel, ClientId)]) -> Result<(), Error> {
        self.look_in(self.options.leave_delay, at).await
    }

    async fn look_in(&self, delay: Duration, at: &[(&Channel, ClientId)]) -> Result<(), Error> {
        if self.options.leave_delay.is_zero() || at.is_empty() {
            return Ok(());
        }
        let names = at.iter().map(|(channel, client)| format!("{channel} {client}"));
        let args: Vec<String> = std::iter::once(millis(delay)).chain(names).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.run(&self.scripts.look, &[self.keys.leaving()], &args).await
    }

    pub(in super::super) async fn settle(&self) -> Result<bool, Error> {
        if self.options.leave_delay.is_zero() {
            return Ok(false);
        }
        let list = [self.keys.leaving()];
        let (names, now): (Vec<String>, String) =
            self.run(&self.scripts.due, &list, &[&STEP.to_string()]).await?;
        if names.is_empty() {
            return Ok(false);
        }
        let channels: BTreeSet<Channel> = names
            .iter()
            .filter_map(|name| Some(entry::parse_name(name.as_bytes())?.channel))
            .collect();
        let mut pipeline = loading(SETTLE);
        for channel in &channels {
            pipeline
                .cmd("EVALSHA")
                .arg(self.scripts.settle.get_hash())
                .arg(1)
                .arg(self.keys.beside(channel, "leaving"))
                .arg(self.pool.publish())
                .arg(self.keys.bus(channel))
                .ignore();
        }
        self.send::<()>(&pipeline).await?;
        let args: Vec<&str> = std::iter::once(&now).chain(&names).map(String::as_str).collect();
        self.run::<()>(&self.scripts.looked, &list, &args).await?;
        Ok(names.len() == STEP)
    }
}
