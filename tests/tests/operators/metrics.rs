//! `docs/metrics.md` says what a node says, and nothing else.

use std::{collections::BTreeMap, path::Path};

use tidings_tests::Redis;

use crate::load::Load;

/// Name in a query, kind.
type Metrics = BTreeMap<String, String>;

#[tokio::test]
async fn what_the_documentation_says_of_metrics_is_what_a_node_says() {
    let Some(redis) = Redis::start() else { return };
    let mut load = Load::start(&redis).await;
    load.round().await;
    let (_, text) = load.node.get("/metrics").await.expect("it answers");
    let said = said(&text);
    let documented = documented();
    let missing: Vec<_> = said
        .iter()
        .filter(|it| documented.get(it.0) != Some(it.1))
        .collect();
    assert!(
        missing.is_empty(),
        "not in docs/metrics.md, or of another kind: {missing:?}"
    );
    let gone: Vec<_> = documented.iter().filter(|it| !said.contains_key(it.0)).collect();
    assert!(gone.is_empty(), "in docs/metrics.md alone: {gone:?}");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(
            !line.contains("acme") && !line.contains("ada"),
            "no label names a channel or a user: {line}"
        );
    }
    assert!(text.ends_with("# EOF\n"), "it is OpenMetrics");
}

/// The metrics in OpenMetrics text, under the names that queries use.
fn said(text: &str) -> Metrics {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .map(|line| {
            let (name, kind) = line.split_once(' ').expect("a name and a type");
            let total = if kind == "counter" { "_total" } else { "" };
            (format!("{name}{total}"), kind.to_owned())
        })
        .collect()
}

/// The metrics in the tables of the page: the first two cells of each row.
fn documented() -> Metrics {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let (name, rest) = row.split_once("` |").expect("a name in backticks");
        let kind = rest.split('|').next().expect("a kind").trim();
        (name.to_owned(), kind.to_owned())
    })
    .collect()
}
