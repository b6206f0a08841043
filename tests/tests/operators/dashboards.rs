//! What Grafana needs of the dashboards, as far as it can be said without one: that they can be laid out, find their data,
//! and lead from a latency to its traces. What their queries give is asked in [`crate::prometheus`].

use std::{collections::HashSet, fs};

use serde_json::Value;

use crate::prometheus::deploy;

/// Grafana lays panels out on a grid of so many columns.
const COLUMNS: u64 = 24;

/// Histograms whose buckets remember a trace.
const WITH_EXEMPLARS: [&str; 2] = [
    "tidings_delivery_latency_seconds",
    "tidings_publish_duration_seconds",
];

/// All of them.
pub(crate) fn dashboards() -> Vec<Value> {
    let files = fs::read_dir(deploy("grafana/dashboards")).expect("the dashboards");
    let read = |path| fs::read_to_string(path).expect("it can be read");
    let dashboards = files.map(|file| serde_json::from_str(&read(file.expect("a dashboard").path())));
    dashboards.collect::<Result<_, _>>().expect("dashboards are JSON")
}

fn panels(dashboard: &Value) -> &[Value] {
    dashboard["panels"].as_array().expect("panels")
}

fn name(dashboard: &Value, panel: &Value) -> String {
    format!("{} / {}", dashboard["title"], panel["title"])
}

#[test]
fn every_panel_has_a_place_of_its_own_on_the_grid() {
    for dashboard in dashboards() {
        let mut taken = HashSet::new();
        for panel in panels(&dashboard) {
            let place = |key: &str| panel["gridPos"][key].as_u64().expect("a place");
            let (x, y, w, h) = (place("x"), place("y"), place("w"), place("h"));
            let name = name(&dashboard, panel);
            assert!(w > 0 && h > 0 && x + w <= COLUMNS, "{name} is off the grid");
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(taken.insert(cell), "{name} is on top of another panel");
            }
        }
    }
}

#[test]
fn dashboards_and_panels_have_names_of_their_own_and_panels_a_unit() {
    let mut uids = HashSet::new();
    for dashboard in dashboards() {
        let uid = dashboard["uid"].as_str().expect("a uid").to_owned();
        assert!(uids.insert(uid), "{} has another's uid", dashboard["title"]);
        let mut ids = HashSet::new();
        for panel in panels(&dashboard) {
            let name = name(&dashboard, panel);
            assert!(
                ids.insert(panel["id"].as_u64().expect("an id")),
                "{name} has another's id"
            );
            if panel["type"] == "row" {
                continue;
            }
            let unit = &panel["fieldConfig"]["defaults"]["unit"];
            assert!(unit.is_string(), "{name} has no unit");
            assert!(panel["targets"].as_array().is_some_and(|it| !it.is_empty()));
        }
    }
}

#[test]
fn every_panel_finds_its_data_where_grafana_was_told_of_it() {
    let provisioned =
        fs::read_to_string(deploy("grafana/provisioning/datasources/tidings.yml")).expect("the sources");
    for dashboard in dashboards() {
        for panel in panels(&dashboard).iter().filter(|panel| panel["type"] != "row") {
            let uid = panel["datasource"]["uid"].as_str().expect("a data source");
            assert!(
                provisioned.contains(&format!("    uid: {uid}\n")),
                "{} asks {uid}",
                name(&dashboard, panel)
            );
        }
    }
}

#[test]
fn a_latency_over_time_leads_to_its_traces() {
    let mut leading = 0;
    for dashboard in dashboards() {
        for panel in panels(&dashboard)
            .iter()
            .filter(|panel| panel["type"] == "timeseries")
        {
            for target in panel["targets"].as_array().expect("queries") {
                let query = target["expr"].as_str().expect("a query");
                if WITH_EXEMPLARS
                    .iter()
                    .any(|it| query.contains(&format!("{it}_bucket")))
                {
                    assert_eq!(target["exemplar"], true, "{}", name(&dashboard, panel));
                    leading += 1;
                }
            }
        }
    }
    assert!(leading > 0, "there are latencies");
}
