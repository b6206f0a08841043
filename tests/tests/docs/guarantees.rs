//! What `docs/guarantees.md` promises is proven: every test that its table names is there.

use std::fs;

use crate::page::{page, root};

#[test]
fn every_promise_names_a_test_that_is_there() {
    let page = page("guarantees.md");
    let rows = page
        .lines()
        .skip_while(|line| !line.starts_with("## Each promise"));
    let rows: Vec<_> = rows
        .filter(|line| line.starts_with("| ") && line.contains("::"))
        .collect();
    assert!(rows.len() > 15, "{} rows", rows.len());
    for row in rows {
        let name = row.split(" | ").nth(1).unwrap().trim_matches('`');
        let (file, test) = name.split_once("::").unwrap();
        let source = root().join("tests/tests/faults").join(file).with_extension("rs");
        let code = fs::read_to_string(&source)
            .unwrap_or_else(|_| panic!("{name}: there is no {}", source.display()));
        assert!(code.contains(&format!("fn {test}(")), "{name} is not there");
    }
}
