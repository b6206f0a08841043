//! The end of a run for members: presence has exactly those who are connected, and the observer has seen each come and go
//! in turns.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Run;
use crate::{
    clients::Members,
    nodes::LEASE,
    plan::{Fault, Process},
};

/// A lease, ten times the second in which it is swept, and what a busy machine takes.
pub(super) const AGREEMENT: Duration = Duration::from_secs(30);

impl Run<'_> {
    /// Members stay where they are; presence and the observer have exactly those.
    pub(super) async fn members_agree(&mut self) {
        // In memory the observer's gateway may have died with everything else.
        let observes = !self.plan.kills(Process::Gateway(0));
        let Members { roam, .. } = &self.clients.members;
        roam.send_replace(false);
        let backend = self.nodes.backends().remove(0);
        let since = Instant::now();
        loop {
            let (mut listed, mut complete) = (Vec::new(), true);
            for room in &self.clients.members.rooms {
                match backend.list(room).await {
                    Ok(members) => {
                        listed.extend(members.into_iter().map(|member| (room.clone(), member.client)));
                    }
                    Err(_) => complete = false,
                }
            }
            listed.sort();
            let places = self.clients.members.places(observes);
            let seen: Vec<_> = self
                .clients
                .members
                .observer
                .heard()
                .there()
                .iter()
                .cloned()
                .collect();
            let present = complete && places.as_ref() == Some(&listed);
            if present && (seen == listed || !observes) {
                break;
            }
            if since.elapsed() > AGREEMENT {
                let invariant = if present { "joins and leaves" } else { "presence" };
                self.findings.fault(
                    invariant,
                    format!("in the end connected: {places:?}, listed: {listed:?}, observed: {seen:?}"),
                );
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
        if observes {
            self.members_took_turns();
        }
    }

    fn members_took_turns(&mut self) {
        let Members {
            observer, residents, ..
        } = &self.clients.members;
        // A store that went back in time announces again what it has forgotten.
        if self.plan.may_lose_members() {
            return;
        }
        let heard = observer.heard();
        if let Err(fault) = heard.verdict() {
            self.findings.fault("joins and leaves", fault);
        }
        let beyond = |step: &crate::plan::Step| {
            let pause = match step.fault {
                Fault::Pause(Process::Gateway(0) | Process::Presence(_), time) => time,
                _ => Duration::ZERO,
            };
            pause + Duration::from_secs(1) > LEASE
        };
        if self.plan.steps.iter().any(beyond) {
            return;
        }
        for resident in residents {
            if let Some(at) = resident.at() {
                let left = heard.leaves(&at);
                if left > 0 {
                    let what = format!("{at:?} never moved, and left {left} times");
                    self.findings.fault("leaves without a cause", what);
                }
            }
        }
    }
}
