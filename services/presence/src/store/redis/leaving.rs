//! Leaves that are announced later, unless who left is back.
//!
//! The channel keeps who is leaving, and one list for all channels says when to look at which. The channel is put on the list
//! before the member is removed, a little too late, so that a crash in between only delays the announcement; and at the
//! right time afterwards.

use std::{collections::BTreeSet, time::Duration};

use redis::Cmd;
use tidings_core::{Channel, ClientId};

use super::{super::Error, Redis, TIMEOUT, entry, millis};

/// How many entries one step looks at.
const STEP: usize = 1_000;

/// After how long a channel is looked at again that could not be.
const AGAIN: Duration = Duration::from_secs(2);

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
        let calls = channels.iter().map(|channel| {
            let mut call = self.scripts.settle.call(&[self.keys.beside(channel, "leaving")]);
            call.arg(self.pool.publish()).arg(self.keys.bus(channel));
            call
        });
        let calls: Vec<Cmd> = calls.collect();
        let settled = self.each::<()>(Some(&self.scripts.settle), &calls).await;
        // Those on a primary that is unavailable are looked at again, a little later: they must not stand before the others.
        let failed: BTreeSet<&Channel> = channels
            .iter()
            .zip(settled)
            .filter_map(|(channel, settled)| settled.is_err().then_some(channel))
            .collect();
        let failing = |name: &&String| {
            entry::parse_name(name.as_bytes()).is_some_and(|id| failed.contains(&id.channel))
        };
        let again: Vec<&str> = names.iter().filter(failing).map(String::as_str).collect();
        if !again.is_empty() {
            let later = millis(AGAIN);
            let args: Vec<&str> = std::iter::once(later.as_str()).chain(again).collect();
            self.run::<()>(&self.scripts.look, &list, &args).await?;
        }
        let args: Vec<&str> = std::iter::once(&now).chain(&names).map(String::as_str).collect();
        self.run::<()>(&self.scripts.looked, &list, &args).await?;
        Ok(names.len() == STEP)
    }
}
