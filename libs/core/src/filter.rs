//! Which publications a subscriber wants, by their tags.
//!
//! A client sends a tree of [`Node`]s with its subscribe; [`Filter::new`] checks it once, and [`Filter::matches`] is then
//! tried on every publication of the channel for every such subscriber, without allocating. The rules are those of the
//! Centrifuge protocol's `tf`.

mod decimal;

use std::{cmp::Ordering, collections::BTreeMap};

use decimal::Decimal;

/// The most nodes in one filter, in total.
pub const MAX_NODES: usize = 128;

/// How deep nodes may be nested; a filter that is one comparison is 1 deep.
pub const MAX_DEPTH: usize = 16;

/// The most values of all comparisons of one filter, in total.
pub const MAX_VALS: usize = 128;

/// The most bytes of all texts of one filter, in total.
pub const MAX_BYTES: usize = 8 * 1024;

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
    pub nodes: Vec<Self>,
}

/// A condition that can be tried on a publication's tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(Condition);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Tag { key: String, is: Is },
}

/// What a tag has to be. A tag that is missing is other than everything, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Is {
    Equal(String),
    Other(String),
    OneOf(Vec<String>),
    NoneOf(Vec<String>),
    There,
    Missing,
    StartingWith(String),
    EndingWith(String),
    Containing(String),
    /// Both as decimal numbers, compared exactly; a text that is no number compares to nothing.
    Number(Order, String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Why a condition makes no sense. Its display is meant for the person who wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There are more than [`MAX_NODES`].
    #[error("filter has more than {MAX_NODES} nodes")]
    TooMany,
    /// There are more than [`MAX_VALS`].
    #[error("filter has more than {MAX_VALS} values to compare with")]
    TooManyVals,
    /// It is longer than [`MAX_BYTES`].
    #[error("filter has more than {MAX_BYTES} bytes of text")]
    TooLong,
    /// They are nested deeper than [`MAX_DEPTH`].
    #[error("filter is nested more than {MAX_DEPTH} nodes deep")]
    TooDeep,
    /// No such `op`.
    #[error("filter has the unknown op {0:?}; known are and, or, not, and none for a comparison")]
    UnknownOp(String),
    /// No such `cmp`.
    #[error(
        "filter has the unknown cmp {0:?}; known are eq, neq, in, nin, ex, nex, sw, ew, ct, lt, lte, gt and gte"
    )]
    UnknownCmp(String),
    /// An `op` that joins too few or too many nodes.
    #[error("filter's op {op} needs {needs}, not {has}")]
    Children {
        /// Which one.
        op: &'static str,
        /// How many it needs.
        needs: &'static str,
        /// How many it has.
        has: usize,
    },
    /// A comparison that lacks something, or has what it cannot use.
    #[error("filter's cmp {cmp} on key {key:?} {needs}")]
    Comparison {
        /// Which one.
        cmp: String,
        /// On which tag.
        key: String,
        /// What is wrong.
        needs: &'static str,
    },
}

impl Filter {
    /// Checks a condition.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn new(node: Node) -> Result<Self, Error> {
        let mut left = MAX_NODES;
        bounded(&node, 1, &mut (MAX_VALS, MAX_BYTES))?;
        condition(node, 1, &mut left).map(Self)
    }

    /// Whether a publication with these tags is wanted.
    #[must_use]
    pub fn matches(&self, tags: &BTreeMap<String, String>) -> bool {
        self.0.holds(tags)
    }
}

/// Whether a node that is this deep keeps within the values and bytes that are left.
fn bounded(node: &Node, depth: usize, (vals, bytes): &mut (usize, usize)) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::TooDeep);
    }
    *vals = vals.checked_sub(node.vals.len()).ok_or(Error::TooManyVals)?;
    let texts = [&node.op, &node.key, &node.cmp, &node.val]
        .into_iter()
        .chain(&node.vals);
    let size = texts.map(String::len).sum();
    *bytes = bytes.checked_sub(size).ok_or(Error::TooLong)?;
    let mut left = (*vals, *bytes);
    for node in &node.nodes {
        bounded(node, depth + 1, &mut left)?;
    }
    (*vals, *bytes) = left;
    Ok(())
}

/// Checks a node that is this deep, where so many are left.
fn condition(node: Node, depth: usize, left: &mut usize) -> Result<Condition, Error> {
    *left = left.checked_sub(1).ok_or(Error::TooMany)?;
    if depth > MAX_DEPTH {
        return Err(Error::TooDeep);
    }
    let mut joined = |nodes: Vec<Node>| -> Result<Vec<Condition>, Error> {
        nodes
            .into_iter()
            .map(|node| condition(node, depth + 1, left))
            .collect()
    };
    let at_least_one = |op, has| match has {
        0 => Err(Error::Children {
            op,
            needs: "at least one node",
            has,
        }),
        _ => Ok(()),
    };
    match node.op.as_str() {
        "" => comparison(node),
        "and" => {
            at_least_one("and", node.nodes.len())?;
            Ok(Condition::All(joined(node.nodes)?))
        }
        "or" => {
            at_least_one("or", node.nodes.len())?;
            Ok(Condition::Any(joined(node.nodes)?))
        }
        "not" => match <[Node; 1]>::try_from(node.nodes) {
            Ok([only]) => Ok(Condition::Not(Box::new(condition(only, depth + 1, left)?))),
            Err(nodes) => Err(Error::Children {
                op: "not",
                needs: "exactly one node",
                has: nodes.len(),
            }),
        },
        _ => Err(Error::UnknownOp(node.op)),
    }
}

fn comparison(node: Node) -> Result<Condition, Error> {
    let Node {
        key, cmp, val, vals, ..
    } = node;
    let lacks = match cmp.as_str() {
        "ex" | "nex" if !val.is_empty() || !vals.is_empty() => Some("takes neither val nor vals"),
        "ex" | "nex" => None,
        "in" | "nin" if vals.is_empty() => Some("needs vals"),
        "in" | "nin" if !val.is_empty() => Some("takes vals, not val"),
        "in" | "nin" => None,
        _ if val.is_empty() => Some("needs val"),
        _ if !vals.is_empty() => Some("takes val, not vals"),
        _ => None,
    };
    let is = match cmp.as_str() {
        "eq" => Is::Equal(val),
        "neq" => Is::Other(val),
        "in" => Is::OneOf(vals),
        "nin" => Is::NoneOf(vals),
        "ex" => Is::There,
        "nex" => Is::Missing,
        "sw" => Is::StartingWith(val),
        "ew" => Is::EndingWith(val),
        "ct" => Is::Containing(val),
        "lt" => Is::Number(Order::Less, val),
        "lte" => Is::Number(Order::LessOrEqual, val),
        "gt" => Is::Number(Order::Greater, val),
        "gte" => Is::Number(Order::GreaterOrEqual, val),
        _ => return Err(Error::UnknownCmp(cmp)),
    };
    // The protocol lets `ex` and `nex` ask for the tag whose name is empty.
    let lacks = match is {
        Is::There | Is::Missing => lacks,
        _ if key.is_empty() => Some("needs a key"),
        _ => lacks,
    };
    match lacks {
        Some(needs) => Err(Error::Comparison { cmp, key, needs }),
        None => Ok(Condition::Tag { key, is }),
    }
}

impl Condition {
    // Recursion is bounded by MAX_DEPTH.
    fn holds(&self, tags: &BTreeMap<String, String>) -> bool {
        match self {
            Self::All(conditions) => conditions.iter().all(|it| it.holds(tags)),
            Self::Any(conditions) => conditions.iter().any(|it| it.holds(tags)),
            Self::Not(condition) => !condition.holds(tags),
            Self::Tag { key, is } => is.met_by(tags.get(key).map(String::as_str)),
        }
    }
}

impl Is {
    fn met_by(&self, tag: Option<&str>) -> bool {
        let among = |vals: &[String]| tag.is_some_and(|tag| vals.iter().any(|val| val == tag));
        match self {
            Self::Equal(val) => tag == Some(val),
            Self::Other(val) => tag != Some(val),
            Self::OneOf(vals) => among(vals),
            Self::NoneOf(vals) => !among(vals),
            Self::There => tag.is_some(),
            Self::Missing => tag.is_none(),
            Self::StartingWith(val) => tag.is_some_and(|tag| tag.starts_with(val)),
            Self::EndingWith(val) => tag.is_some_and(|tag| tag.ends_with(val)),
            Self::Containing(val) => tag.is_some_and(|tag| tag.contains(val)),
            Self::Number(order, val) => {
                let (tag, val) = (tag.and_then(Decimal::parse), Decimal::parse(val));
                tag.zip(val).is_some_and(|(tag, val)| order.allows(tag.cmp(&val)))
            }
        }
    }
}

impl Order {
    fn allows(self, ordering: Ordering) -> bool {
        match self {
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

#[cfg(test)]
mod tests;
