//! `docs/routes.md`: what `tidings route test` says of each example is what the page says.

use std::fs;

use tidings_core::Glob;
use tidings_tests::in_time;
use tokio::process::Command;

use crate::page::{blocks, page};

#[tokio::test]
async fn tidings_route_test_says_of_each_example_what_the_page_says() {
    let page = page("routes.md");
    let blocks = blocks(&page);
    let namespaces = blocks
        .iter()
        .find(|(_, text)| text.starts_with("namespace = "))
        .expect("the namespaces of all examples");
    let mut examples = 0;
    for example in blocks.windows(3) {
        let [("toml", routes), ("json", event), ("console", said)] = example else {
            continue;
        };
        let (command, expected) = said.split_once('\n').unwrap();
        assert_eq!(command, "$ tidings route test --event event.json");
        let folder = tempfile::tempdir().unwrap();
        let config = format!("{}\n{routes}", namespaces.1);
        fs::write(folder.path().join("tidings.toml"), config).unwrap();
        fs::write(folder.path().join("event.json"), event).unwrap();
        let run = Command::new(tidings_tests::binary())
            .args(["route", "test", "--event", "event.json"])
            .current_dir(&folder)
            .env_clear()
            .kill_on_drop(true)
            .output();
        let output = in_time("its answer", run).await.unwrap();
        let answered = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            answered.trim_end(),
            expected,
            "{routes}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let heard = answered.contains(" would hear of it") && !answered.contains("no channel");
        assert_eq!(output.status.code(), Some(i32::from(!heard)), "{answered}");
        examples += 1;
    }
    assert_eq!(examples, 9);
}

#[test]
fn patterns_match_what_the_table_says() {
    let page = page("routes.md");
    let rows: Vec<_> = page
        .lines()
        .skip_while(|line| !line.starts_with("| pattern "))
        .skip(2)
        .take_while(|line| line.starts_with("| "))
        .collect();
    assert_eq!(rows.len(), 5);
    for row in rows {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let types = |cell: &str| {
            let quoted = cell.split('`').skip(1).step_by(2);
            quoted.map(str::to_owned).collect::<Vec<_>>()
        };
        let pattern = Glob::parse(&types(cells[1])[0], '.').unwrap();
        for kind in types(cells[2]) {
            assert!(pattern.matches(&kind), "{row}: {kind}");
        }
        for kind in types(cells[3]) {
            assert!(!pattern.matches(&kind), "{row}: {kind}");
        }
    }
}
