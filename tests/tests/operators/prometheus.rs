//! Every panel shows something and no alert fires, by a real Prometheus that scrapes a real node.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;
use tidings_tests::{Redis, eventually};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Child,
};

use crate::{dashboards::dashboards, load::Load};

/// What stands for the interval that Grafana works out.
const INTERVAL: &str = "[$__rate_interval]";

#[test]
fn promtool_finds_nothing_wrong() {
    if !installed("promtool") {
        return;
    }
    let files = deploy("prometheus");
    for (what, file) in [("rules", "alerts.yml"), ("config", "prometheus.yml")] {
        let checked = Command::new("promtool")
            .args(["check", what])
            .arg(files.join(file))
            .output()
            .expect("promtool runs");
        assert!(
            checked.status.success(),
            "{}{}",
            String::from_utf8_lossy(&checked.stdout),
            String::from_utf8_lossy(&checked.stderr)
        );
    }
}

#[test]
fn every_alert_has_its_entry_in_the_runbook() {
    let rules = fs::read_to_string(deploy("prometheus/alerts.yml")).expect("the rules");
    let runbook = fs::read_to_string(deploy("../docs/runbook.md")).expect("the runbook");
    let mut alerts: Vec<_> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    let mut entries: Vec<_> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect();
    alerts.sort_unstable();
    entries.sort_unstable();
    assert_eq!(alerts, entries);
    for alert in alerts {
        let link = format!("docs/runbook.md#{}", alert.to_lowercase());
        assert!(rules.contains(&link), "{alert} leads to {link}");
    }
}

#[tokio::test]
async fn every_panel_shows_something_and_no_alert_fires() {
    if !installed("prometheus") {
        return;
    }
    let Some(redis) = Redis::start() else { return };
    let mut load = Load::start(&redis).await;
    load.round().await;
    let prometheus = Prometheus::start(&load.node.operators()).await;
    let panels = panels();
    assert!(panels.len() > 40, "the dashboards were found: {}", panels.len());
    for (panel, query) in &panels {
        let query = query.replace(INTERVAL, "[10s]");
        eventually(&format!("{panel} shows something for {query}"), async || {
            load.round().await;
            let answer = prometheus
                .get(&format!("/api/v1/query?query={}", escaped(&query)))
                .await?;
            assert_eq!(answer["status"], "success", "{panel}: {query}: {answer}");
            let found = answer["data"]["result"].as_array()?;
            (!found.is_empty()).then_some(())
        })
        .await;
    }
    eventually("every alert has been looked at and is quiet", async || {
        load.round().await;
        let answer = prometheus.get("/api/v1/rules").await?;
        let rules = answer["data"]["groups"][0]["rules"].as_array()?.clone();
        assert!(!rules.is_empty());
        for rule in &rules {
            assert_ne!(rule["health"], "err", "{rule}");
            assert_ne!(rule["state"], "firing", "{rule}");
        }
        rules
            .iter()
            .all(|rule| rule["health"] == "ok" && rule["state"] == "inactive")
            .then_some(())
    })
    .await;
}

/// Panels by their names, each with one of its queries.
fn panels() -> Vec<(String, String)> {
    let mut panels = Vec::new();
    for dashboard in dashboards() {
        for panel in dashboard["panels"].as_array().expect("panels") {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let name = format!("{} / {}", dashboard["title"], panel["title"]);
                panels.push((name, target["expr"].as_str().expect("a query").to_owned()));
            }
        }
    }
    panels
}

/// A Prometheus with our rules, which scrapes one node every second. Ends when it is dropped.
struct Prometheus {
    address: String,
    _child: Child,
    _dir: TempDir,
}

impl Prometheus {
    async fn start(operators: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory for temporary files");
        fs::copy(deploy("prometheus/alerts.yml"), dir.path().join("alerts.yml")).expect("the rules");
        let target = operators.trim_start_matches("http://");
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
             rule_files: [alerts.yml]\n\
             scrape_configs:\n\
             - {{ job_name: tidings, static_configs: [{{ targets: ['{target}'] }}] }}\n"
        );
        let file = dir.path().join("prometheus.yml");
        fs::write(&file, config).expect("a file in it");
        // Held by nobody between here and there; a Prometheus that finds it taken ends, and the test says so.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let address = format!("127.0.0.1:{port}");
        let child = tokio::process::Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                dir.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .arg("--enable-feature=exemplar-storage")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("prometheus runs");
        let prometheus = Self {
            address,
            _child: child,
            _dir: dir,
        };
        eventually("Prometheus scrapes the node", async || {
            let answer = prometheus.get("/api/v1/query?query=up").await?;
            (answer["data"]["result"][0]["value"][1] == "1").then_some(())
        })
        .await;
        prometheus
    }

    async fn get(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(&self.address).await.ok()?;
        // HTTP/1.0: the answer ends where the connection does.
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }
}

/// A query as a part of a URL.
fn escaped(query: &str) -> String {
    query.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

pub(crate) fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}

/// Whether a program of Debian's package `prometheus` is there; if not, says so.
fn installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        assert!(
            std::env::var_os("TIDINGS_REQUIRE_PROMETHEUS").is_none(),
            "{program} is not installed"
        );
        println!("SKIPPED: {program} is not installed");
    }
    found
}
