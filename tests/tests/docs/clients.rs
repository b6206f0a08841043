//! What `docs/clients.md` says is so: its examples work, and every test that its table names is there.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};
use tidings_tests::{Backend, CONFIG, Launch, Shell, event, eventually, token};

use crate::page::{page, root};

/// The source files that a test's place in the table can mean.
fn files(place: &str) -> Vec<PathBuf> {
    let (folder, file) = place.rsplit_once('/').unwrap_or(("", place));
    let folder = match folder {
        "interop" | "e2e" | "faults" | "members" => format!("tests/tests/{folder}"),
        "gateway" => "services/gateway/tests/clients".to_owned(),
        "session" => "libs/session/src/session/tests".to_owned(),
        "json" | "protobuf" => format!("libs/protocol/src/centrifuge/{folder}"),
        "codes" => "libs/protocol/src".to_owned(),
        "token" => "libs/auth/src/token/tests".to_owned(),
        "fanout" => "services/fanout/tests/door".to_owned(),
        "" => match file {
            "uni" => "libs/protocol/src/centrifuge".to_owned(),
            "filter" => "libs/core/src".to_owned(),
            "gateway-wire" => return vec![root().join("services/gateway/src/wire/tests.rs")],
            _ => panic!("the page does not say where {place} is"),
        },
        _ => panic!("the page does not say where {folder} is"),
    };
    let file = root().join(folder).join(file);
    vec![file.with_extension("rs"), file.join("tests.rs")]
}

#[test]
fn every_test_that_the_table_names_is_there() {
    let page = page("clients.md");
    let rows = page
        .lines()
        .skip_while(|line| !line.starts_with("## Every feature"));
    let rows: Vec<_> = rows
        .filter(|line| line.starts_with("| ") && !line.contains("shown by"))
        .collect();
    assert!(rows.len() > 80, "{} rows", rows.len());
    for row in rows {
        let shown_by = row.trim_end_matches(" |").rsplit_once(" | ").unwrap().1;
        for name in shown_by.split(", ") {
            let name = name.trim_matches('`');
            let (place, test) = name
                .split_once("::")
                .unwrap_or_else(|| panic!("no test shows {row}"));
            let sources = files(place)
                .into_iter()
                .filter_map(|file| fs::read_to_string(file).ok());
            let there = sources
                .into_iter()
                .any(|source| source.contains(&format!("fn {test}(")));
            assert!(there, "there is no {name}");
        }
    }
}

#[tokio::test]
async fn the_lines_for_curl_work_as_they_are_typed() {
    let server = Launch::new("standalone").config(CONFIG).start().await;
    let page = page("clients.md");
    let lines: Vec<_> = page.lines().filter(|line| line.starts_with("curl ")).collect();
    assert_eq!(lines.len(), 2);
    let mut listening = Vec::new();
    for (count, line) in (1..).zip(lines) {
        let line = line
            .replace("localhost:8000", &server.address())
            .replace("$TOKEN", &token("ada"));
        let mut curl = Shell::start(&line.replacen("curl ", "curl --silent ", 1));
        eventually("it has subscribed", async || {
            (server.metric("tidings_subscriptions").await == f64::from(count)).then_some(())
        })
        .await;
        let backend = Backend::new(&server.backends());
        backend
            .publish(event("task.created", "\"Hello\"", &["tasks:1"]))
            .await
            .unwrap();
        let heard = loop {
            let line = curl.line().await;
            if line.contains("Hello") {
                break line;
            }
        };
        let heard: Value = serde_json::from_str(heard.trim_start_matches("data: ")).unwrap();
        let data = heard.pointer("/pub/data").unwrap_or(&heard);
        assert_eq!(data["data"], json!("Hello"));
        listening.push(curl);
    }
}
