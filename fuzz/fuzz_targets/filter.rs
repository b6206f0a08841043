//! Filters as clients write them, tried on tags as publishers write them.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::{
    arbitrary::{self, Arbitrary},
    fuzz_target,
};
use tidings_core::{Filter, filter::Node};

/// A node made of what means something, and of texts that mean nothing.
#[derive(Debug, Arbitrary)]
struct Any {
    op: Op,
    key: String,
    cmp: Cmp,
    val: String,
    vals: Vec<String>,
    nodes: Vec<Any>,
}

#[derive(Debug, Arbitrary)]
enum Op {
    Known(u8),
    Unknown(String),
}

#[derive(Debug, Arbitrary)]
enum Cmp {
    Known(u8),
    Unknown(String),
}

const OPS: [&str; 4] = ["", "and", "or", "not"];
const CMPS: [&str; 13] = [
    "eq", "neq", "in", "nin", "ex", "nex", "sw", "ew", "ct", "lt", "lte", "gt", "gte",
];

impl From<Any> for Node {
    fn from(it: Any) -> Self {
        Self {
            op: match it.op {
                Op::Known(number) => OPS[usize::from(number) % OPS.len()].to_owned(),
                Op::Unknown(text) => text,
            },
            key: it.key,
            cmp: match it.cmp {
                Cmp::Known(number) => CMPS[usize::from(number) % CMPS.len()].to_owned(),
                Cmp::Unknown(text) => text,
            },
            val: it.val,
            vals: it.vals,
            nodes: it.nodes.into_iter().map(Self::from).collect(),
        }
    }
}

fuzz_target!(|input: (Any, BTreeMap<String, String>)| {
    let (node, tags) = (Node::from(input.0), input.1);
    let not = Node {
        op: "not".into(),
        nodes: vec![node.clone()],
        ..Node::default()
    };
    if let (Ok(filter), Ok(not)) = (Filter::new(node), Filter::new(not)) {
        assert_ne!(filter.matches(&tags), not.matches(&tags));
    }
});
