//! What a run left behind: what publishers and clients wrote down, and what the streams hold.

use tidings_tests::{
    checker::{Epochs, History, Place},
    stream,
};
use tokio::task::block_in_place;

use super::Run;
use crate::{
    check::{self, Facts, Kept, Seen},
    ledger::Accepted,
    plan::World,
};

impl Run<'_> {
    /// What everybody wrote down.
    pub(super) async fn look(&mut self) {
        let mut kept = Vec::new();
        for name in self.channels.iter() {
            kept.push(if name.starts_with("live") {
                None
            } else {
                let (top, numbers) = stream::read(&self.nodes.gateways()[0].websocket(), name).await;
                let mut kept = Kept { top, numbers };
                if self.plan.world != World::Memory {
                    kept.numbers = block_in_place(|| self.servers.numbers(name));
                }
                Some(kept)
            });
        }
        let dead = self.queue.dead();
        if !dead.is_empty() {
            println!("    {} entries of the source were dead-lettered", dead.len());
        }
        let mut from_source = self.queue.added().clone();
        from_source.retain(|it| !dead.contains(&it.number));
        let accepted = self.ledger.all().clone();
        let mut clients: Vec<_> = self
            .clients
            .clients
            .iter()
            .map(|client| Seen {
                channel: client.channel,
                kind: client.kind,
                history: client.history(),
            })
            .collect();
        let epochs: Vec<_> = (0..kept.len())
            .map(|channel| {
                let there = clients.iter().filter(|seen| seen.channel == channel);
                let histories = there.map(|seen| &seen.history);
                epochs(channel, &accepted, histories, kept[channel].as_ref())
            })
            .collect();
        for seen in &mut clients {
            seen.history = std::mem::take(&mut seen.history).resolved(&epochs[seen.channel]);
        }
        let facts = Facts {
            plan: self.plan,
            failovers: block_in_place(|| self.servers.failovers()),
            channels: &self.channels,
            accepted,
            from_source,
            kept,
            clients,
        };
        let mut findings = check::check(&facts);
        for (invariant, faults) in std::mem::take(&mut self.findings.faults) {
            findings.faults.entry(invariant).or_default().extend(faults);
        }
        self.findings = findings;
    }
}

/// In which epochs the numbers of a channel are known to have been: by what was acknowledged, by clients that knew the epoch
/// (a source does not say where), and by what is kept.
fn epochs<'a>(
    channel: usize,
    accepted: &[Accepted],
    histories: impl Iterator<Item = &'a History>,
    kept: Option<&Kept>,
) -> Epochs {
    let accepted = accepted.iter().filter(|it| it.channel == channel);
    let accepted = accepted.filter_map(|it| Some((it.at.clone()?, it.number)));
    let received = histories
        .flat_map(|history| &history.moments)
        .filter_map(check::heard);
    let received = received.filter(|(at, _)| !at.is_provisional());
    let received = received.map(|(at, number)| (at.clone(), number));
    let kept = kept.into_iter().flat_map(|kept| {
        let place = |(offset, number): (&u64, &u64)| {
            let epoch = kept.top.epoch.clone();
            (
                Place {
                    epoch,
                    offset: *offset,
                },
                *number,
            )
        };
        kept.numbers.iter().map(place)
    });
    Epochs::new(accepted.chain(received), kept)
}
