//! What the filter's conditions mean, and which of them make none.

use proptest::prelude::*;

use super::*;

fn tags(all: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(key, val): &(&str, &str)| ((*key).to_owned(), (*val).to_owned());
    all.iter().map(owned).collect()
}

fn leaf(key: &str, cmp: &str, val: &str) -> Node {
    Node {
        key: key.into(),
        cmp: cmp.into(),
        val: val.into(),
        ..Node::default()
    }
}

fn among(key: &str, cmp: &str, vals: &[&str]) -> Node {
    Node {
        vals: vals.iter().map(|val| (*val).to_owned()).collect(),
        ..leaf(key, cmp, "")
    }
}

fn joined(op: &str, nodes: Vec<Node>) -> Node {
    Node {
        op: op.into(),
        nodes,
        ..Node::default()
    }
}

#[test]
fn every_comparison_means_what_the_protocol_says() {
    let check = |node: Node, with: &[&str], without: &[&str], missing: bool| {
        let filter = Filter::new(node.clone()).unwrap();
        for val in with {
            assert!(
                filter.matches(&tags(&[("t", val)])),
                "{node:?} should match {val:?}"
            );
        }
        for val in without {
            assert!(
                !filter.matches(&tags(&[("t", val)])),
                "{node:?} should not match {val:?}"
            );
        }
        assert_eq!(
            filter.matches(&tags(&[("other", "a")])),
            missing,
            "{node:?} without the tag"
        );
    };
    check(leaf("t", "eq", "a"), &["a"], &["", "A", "aa"], false);
    check(leaf("t", "neq", "a"), &["", "A", "aa"], &["a"], true);
    check(among("t", "in", &["a", "b"]), &["a", "b"], &["", "c"], false);
    check(among("t", "nin", &["a", "b"]), &["", "c"], &["a", "b"], true);
    check(leaf("t", "ex", ""), &["", "a"], &[], false);
    check(leaf("t", "nex", ""), &[], &["", "a"], true);
    check(leaf("t", "sw", "ab"), &["ab", "abc"], &["", "a", "cab"], false);
    check(leaf("t", "ew", "ab"), &["ab", "cab"], &["", "b", "abc"], false);
    check(leaf("t", "ct", "ab"), &["ab", "cabc"], &["", "acb"], false);
    check(
        leaf("t", "lt", "2"),
        &["1", "-3", "1.999"],
        &["2", "10", "", "one"],
        false,
    );
    check(leaf("t", "lte", "2"), &["2.0", "1"], &["2.0001", "x"], false);
    check(leaf("t", "gt", "2"), &["2.0001", "10"], &["2", "1", "ten"], false);
    check(leaf("t", "gte", "2"), &["2.0", "10"], &["1.9", "1e9"], false);
    check(leaf("t", "gte", "two"), &[], &["1", "2", "two"], false);
}

#[test]
fn conditions_are_joined() {
    let filter = Filter::new(joined(
        "or",
        vec![
            joined(
                "and",
                vec![leaf("env", "eq", "prod"), among("region", "in", &["us", "eu"])],
            ),
            joined("not", vec![leaf("debug", "ex", "")]),
        ],
    ))
    .unwrap();
    for (all, wanted) in [
        (&[("env", "prod"), ("region", "us"), ("debug", "1")][..], true),
        (&[("env", "prod"), ("region", "asia"), ("debug", "1")], false),
        (&[("debug", "1")], false),
        (&[], true),
    ] {
        assert_eq!(filter.matches(&tags(all)), wanted, "{all:?}");
    }
}

#[test]
fn a_condition_that_makes_no_sense_is_refused_with_what_is_wrong() {
    let both = Node {
        val: "a".into(),
        ..among("t", "in", &["a"])
    };
    let with_vals = Node {
        vals: vec!["a".into()],
        ..leaf("t", "eq", "a")
    };
    for (node, why) in [
        (
            Node::default(),
            "filter has the unknown cmp \"\"; known are eq, neq,",
        ),
        (leaf("t", "", "a"), "filter has the unknown cmp \"\""),
        (leaf("t", "like", "a"), "filter has the unknown cmp \"like\""),
        (joined("xor", vec![]), "filter has the unknown op \"xor\""),
        (
            joined("and", vec![]),
            "filter's op and needs at least one node, not 0",
        ),
        (
            joined("or", vec![]),
            "filter's op or needs at least one node, not 0",
        ),
        (
            joined("not", vec![]),
            "filter's op not needs exactly one node, not 0",
        ),
        (
            joined("not", vec![leaf("t", "ex", ""); 2]),
            "filter's op not needs exactly one node, not 2",
        ),
        (leaf("t", "eq", ""), "filter's cmp eq on key \"t\" needs val"),
        (with_vals, "filter's cmp eq on key \"t\" takes val, not vals"),
        (leaf("t", "nin", "a"), "filter's cmp nin on key \"t\" needs vals"),
        (both, "filter's cmp in on key \"t\" takes vals, not val"),
        (
            leaf("t", "ex", "a"),
            "filter's cmp ex on key \"t\" takes neither val nor vals",
        ),
        (leaf("", "eq", "a"), "filter's cmp eq on key \"\" needs a key"),
        (
            joined("and", vec![leaf("t", "eq", "")]),
            "filter's cmp eq on key \"t\" needs val",
        ),
    ] {
        let error = Filter::new(node).unwrap_err().to_string();
        assert!(error.starts_with(why), "{error}");
    }
    assert!(Filter::new(leaf("", "ex", "")).is_ok());
}

#[test]
fn size_and_depth_are_bounded() {
    let wide = |count: usize| joined("or", vec![leaf("t", "ex", ""); count - 1]);
    assert!(Filter::new(wide(MAX_NODES)).is_ok());
    assert_eq!(Filter::new(wide(MAX_NODES + 1)), Err(Error::TooMany));
    let deep = |depth: usize| (1..depth).fold(leaf("t", "ex", ""), |node, _| joined("not", vec![node]));
    assert!(Filter::new(deep(MAX_DEPTH)).is_ok());
    assert_eq!(Filter::new(deep(MAX_DEPTH + 1)), Err(Error::TooDeep));
}

fn any_node() -> impl Strategy<Value = Node> {
    let cmps = vec![
        "eq", "neq", "in", "nin", "ex", "nex", "sw", "ew", "ct", "lt", "lte", "gt", "gte", "",
    ];
    let comparison = (
        "[ab]?",
        prop::sample::select(cmps),
        "[-0-9.a]{0,3}",
        prop::collection::vec("[0-9a]{0,2}", 0..3),
    );
    let comparison = comparison.prop_map(|(key, cmp, val, vals)| Node {
        key,
        cmp: cmp.to_owned(),
        val,
        vals,
        ..Node::default()
    });
    comparison.prop_recursive(4, 20, 3, |inner| {
        (
            prop::sample::select(vec!["and", "or", "not", "nor"]),
            prop::collection::vec(inner, 0..3),
        )
            .prop_map(|(op, nodes)| joined(op, nodes))
    })
}

#[test]
fn a_filter_has_so_many_values_and_so_much_text_and_no_more() {
    let one_of = |vals: Vec<String>| Node {
        vals,
        ..leaf("t", "in", "")
    };
    assert!(Filter::new(one_of(vec![String::new(); MAX_VALS])).is_ok());
    assert_eq!(
        Filter::new(one_of(vec![String::new(); MAX_VALS + 1])),
        Err(Error::TooManyVals)
    );
    let two = joined(
        "and",
        vec![one_of(vec!["a".into(); MAX_VALS]), one_of(vec!["a".into()])],
    );
    assert_eq!(Filter::new(two), Err(Error::TooManyVals), "in total");
    assert_eq!(
        Filter::new(leaf("t", "eq", &"x".repeat(MAX_BYTES))),
        Err(Error::TooLong)
    );
}

proptest! {
    #[test]
    fn not_turns_every_condition_into_its_opposite(
        node in any_node(),
        tags in prop::collection::btree_map("[ab]", "[-0-9.a]{0,3}", 0..3),
    ) {
        if let Ok(filter) = Filter::new(node.clone()) {
            let not = Filter::new(joined("not", vec![node])).unwrap();
            prop_assert_ne!(filter.matches(&tags), not.matches(&tags));
        }
    }

    #[test]
    fn numbers_are_compared_as_numbers(a in -2000_i64..2000, b in -2000_i64..2000) {
        // Hundredths, written with a fraction.
        let decimal = |it: i64| format!("{}{}.{:02}", if it < 0 { "-" } else { "" }, it.abs() / 100, it.abs() % 100);
        let tags = tags(&[("t", &decimal(a))]);
        let holds = |cmp| Filter::new(leaf("t", cmp, &decimal(b))).unwrap().matches(&tags);
        prop_assert_eq!(holds("lt"), a < b);
        prop_assert_eq!(holds("lte"), a <= b);
        prop_assert_eq!(holds("gt"), a > b);
        prop_assert_eq!(holds("gte"), a >= b);
    }
}
