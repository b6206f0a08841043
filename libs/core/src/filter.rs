//! Which publications a subscriber wants, by their tags.

use std::collections::BTreeMap;

/// A condition as a client writes it, not yet checked. The names are those of the protocol's `FilterNode`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// `and`, `or`, `not`, or empty for a comparison.
    pub op: String,
    /// The tag.
    pub key: String,
    /// How it is compared.
    pub cmp: String,
    /// With what.
    pub val: String,
    /// With which.
    pub vals: Vec<String>,
    /// What `op` joins.
    pub nodes: Vec<Node>,
}

/// A condition that can be tried on a publication's tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(Node);

/// Why a condition makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

impl Filter {
    /// Checks a condition.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn new(node: Node) -> Result<Self, Error> {
        Ok(Self(node))
    }

    /// Whether a publication with these tags is wanted.
    #[must_use]
    pub fn matches(&self, _tags: &BTreeMap<String, String>) -> bool {
        true
    }
}
