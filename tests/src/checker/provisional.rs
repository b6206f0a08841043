//! Which epoch a client was in that subscribed before the first publication: it knows only a provisional one, and what it
//! received tells.

use std::{collections::HashMap, ops::Range};

use super::{History, Moment, Place};

/// In which epoch a number is known to have been at an offset. There may be two: a new epoch that goes on from what a loss
/// has left holds what was there before.
#[derive(Debug)]
pub struct Epochs {
    /// What a publisher or a client was told.
    told: HashMap<(u64, u64), String>,
    /// What is there in the end.
    kept: HashMap<(u64, u64), String>,
}

impl Epochs {
    /// By the numbers that publishers or clients were told the place of, and those that are there in the end.
    pub fn new(
        told: impl IntoIterator<Item = (Place, u64)>,
        kept: impl IntoIterator<Item = (Place, u64)>,
    ) -> Self {
        let key = |(at, number): (Place, u64)| ((at.offset, number), at.epoch);
        Self {
            told: told.into_iter().map(key).collect(),
            kept: kept.into_iter().map(key).collect(),
        }
    }

    /// The epoch of one subscription; `after`: the one that it was recovered in next. The later a publication, the fewer
    /// epochs have it.
    fn of(&self, moments: &[Moment], after: Option<String>) -> Option<String> {
        let by_publication = moments.iter().rev().find_map(|moment| {
            let Moment::Heard { at, number } = moment else {
                return None;
            };
            if !at.is_provisional() {
                return Some(at.epoch.clone());
            }
            let key = &(at.offset, *number);
            let kept = || self.kept.get(key).map(|epoch| after.as_ref().unwrap_or(epoch));
            self.told.get(key).or_else(kept).cloned()
        });
        by_publication.or(after)
    }
}

impl History {
    /// The same with the stream's epoch wherever the client knows only the provisional one that it was given before the first
    /// publication.
    #[must_use]
    pub fn resolved(mut self, known: &Epochs) -> Self {
        let mut after: Option<String> = None;
        for subscription in subscriptions(&self.moments).into_iter().rev() {
            let moments = &mut self.moments[subscription];
            let epoch = known.of(moments, after.take());
            for moment in &mut *moments {
                if let (Moment::Subscribed { at, .. } | Moment::Heard { at, .. }, Some(epoch)) =
                    (moment, &epoch)
                    && at.is_provisional()
                {
                    at.epoch.clone_from(epoch);
                }
            }
            // Of a subscription without a publication, only the next one can tell, where it goes on from it.
            after = match moments.first() {
                Some(Moment::Subscribed {
                    at,
                    recovered: Some(true),
                }) if !at.is_provisional() => Some(at.epoch.clone()),
                _ => None,
            };
        }
        self
    }
}

/// Each subscription, with what came by it.
fn subscriptions(moments: &[Moment]) -> Vec<Range<usize>> {
    let begins = |at: &usize| matches!(moments[*at], Moment::Subscribed { .. });
    let mut begun: Vec<usize> = (0..moments.len()).filter(begins).collect();
    if begun.first() != Some(&0) {
        begun.insert(0, 0);
    }
    let ends = begun.iter().copied().skip(1).chain([moments.len()]);
    begun
        .iter()
        .copied()
        .zip(ends)
        .map(|(from, to)| from..to)
        .collect()
}
