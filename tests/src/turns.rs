//! Whether who listened heard members come and go in turns.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

/// What one observer heard of members `M`, none of whom it knew in the beginning.
#[derive(Debug)]
pub struct Turns<M> {
    there: BTreeSet<M>,
    left: BTreeMap<M, usize>,
    faults: Vec<String>,
}

impl<M> Default for Turns<M> {
    fn default() -> Self {
        Self {
            there: BTreeSet::new(),
            left: BTreeMap::new(),
            faults: Vec::new(),
        }
    }
}

impl<M: Ord + Clone + Debug> Turns<M> {
    /// It heard that a member came (`true`) or left.
    pub fn heard(&mut self, member: M, came: bool) {
        if came == self.there.contains(&member) {
            let what = if came { "came" } else { "left" };
            self.faults
                .push(format!("{member:?} {what} a second time in a row"));
        }
        if came {
            self.there.insert(member);
        } else {
            *self.left.entry(member.clone()).or_default() += 1;
            self.there.remove(&member);
        }
    }

    /// Who is there, by what it heard.
    #[must_use]
    pub const fn there(&self) -> &BTreeSet<M> {
        &self.there
    }

    /// How often a member left.
    #[must_use]
    pub fn leaves(&self, member: &M) -> usize {
        self.left.get(member).copied().unwrap_or_default()
    }

    /// Passes judgement.
    ///
    /// # Errors
    /// What was heard out of turn, the first of it.
    pub fn verdict(&self) -> Result<(), String> {
        if self.faults.is_empty() {
            return Ok(());
        }
        let some = self.faults.iter().take(5).cloned().collect::<Vec<_>>();
        Err(format!(
            "{} heard out of turn, such as: {}",
            self.faults.len(),
            some.join("; ")
        ))
    }
}
