//! Which routes match an event's type, without asking each of them: their patterns as one tree of segments.
//!
//! A pattern is a way from the root, a branch per segment. A type is followed down all ways at once; how many
//! those are depends on how many stars the patterns have in the same place, not on how many patterns there are. The
//! answer is the one that [`Glob`](tidings_core::Glob) would give for each pattern.

use std::collections::HashMap;

/// A branch of the tree, by its place in the list.
type Branch = usize;

const ROOT: Branch = 0;

/// Patterns by their segments.
#[derive(Debug, Clone)]
pub(super) struct Index(Vec<Node>);

#[derive(Debug, Clone, Default)]
struct Node {
    literal: HashMap<Box<str>, Branch>,
    /// `*`: one segment.
    one: Option<Branch>,
    /// `**`: any number of segments.
    any: Option<Branch>,
    /// This node is the `**` of its parent: it takes further segments and stays.
    stays: bool,
    /// The routes whose patterns end here.
    routes: Vec<usize>,
}

impl Default for Index {
    fn default() -> Self {
        Self(vec![Node::default()])
    }
}

impl Index {
    /// Adds the pattern of the route in this place: one that is a glob.
    pub(super) fn add(&mut self, pattern: &str, route: usize) {
        let mut at = ROOT;
        for segment in pattern.split('.') {
            let next = self.0.len();
            let node = &mut self.0[at];
            let branch = match segment {
                "*" => *node.one.get_or_insert(next),
                "**" => *node.any.get_or_insert(next),
                literal => *node.literal.entry(literal.into()).or_insert(next),
            };
            if branch == next {
                self.0.push(Node {
                    stays: segment == "**",
                    ..Node::default()
                });
            }
            at = branch;
        }
        self.0[at].routes.push(route);
    }

    /// The routes that match an event of this type, in their order.
    pub(super) fn matches(&self, kind: &str) -> Vec<usize> {
        let mut here = Vec::with_capacity(8);
        let mut next = Vec::with_capacity(8);
        self.enter(ROOT, &mut here);
        for segment in kind.split('.') {
            for &at in &here {
                let node = &self.0[at];
                if node.stays {
                    self.enter(at, &mut next);
                }
                let literal = node.literal.get(segment).copied();
                for branch in literal.into_iter().chain(node.one) {
                    self.enter(branch, &mut next);
                }
            }
            here.clear();
            std::mem::swap(&mut here, &mut next);
            // A `**` is come by from its parent and from itself.
            here.sort_unstable();
            here.dedup();
        }
        let mut routes: Vec<_> = here
            .iter()
            .flat_map(|&at| self.0[at].routes.iter().copied())
            .collect();
        routes.sort_unstable();
        routes
    }

    /// Being at a branch is being at the `**` below it, too, which need not take a segment.
    fn enter(&self, branch: Branch, places: &mut Vec<Branch>) {
        let mut at = Some(branch);
        while let Some(branch) = at {
            places.push(branch);
            at = self.0[branch].any;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidings_core::Glob;

    use super::*;

    fn index(patterns: &[String]) -> Index {
        let mut index = Index::default();
        for (route, pattern) in patterns.iter().enumerate() {
            index.add(pattern, route);
        }
        index
    }

    #[test]
    fn routes_are_found_in_their_order() {
        let patterns = ["**", "task.*", "bill.paid", "task.created", "*.created", "task.*"];
        let index = index(&patterns.map(str::to_owned));
        assert_eq!(index.matches("task.created"), [0, 1, 3, 4, 5]);
        assert_eq!(index.matches("bill.paid"), [0, 2]);
        assert_eq!(index.matches("task"), [0]);
        assert_eq!(Index::default().matches("task"), [0; 0]);
    }

    proptest! {
        #[test]
        fn a_tree_of_patterns_matches_as_each_of_them_does(
            patterns in prop::collection::vec("(a|b|\\*|\\*\\*)(\\.(a|b|\\*|\\*\\*)){0,4}", 0..12),
            kind in "(a|b|c)(\\.(a|b|c)){0,5}",
        ) {
            let each: Vec<usize> = patterns
                .iter()
                .enumerate()
                .filter(|(_, pattern)| Glob::parse(pattern, '.').unwrap().matches(&kind))
                .map(|(route, _)| route)
                .collect();
            prop_assert_eq!(index(&patterns).matches(&kind), each);
        }
    }
}
