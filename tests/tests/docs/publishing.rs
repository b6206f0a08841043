//! `docs/publishing.md`: its console lines, run one after the other against a node that is configured as it says.

use tidings_tests::{Launch, in_time};
use tokio::process::Command;

use crate::page::{blocks, page};

/// The key that the page's configuration has.
const KEY: &str = "change-me-to-a-random-api-key";

#[tokio::test]
async fn the_console_lines_answer_what_the_page_says() {
    let page = page("publishing.md");
    let blocks = blocks(&page);
    let (_, config) = blocks.iter().find(|(language, _)| *language == "toml").unwrap();
    let token = "[clients.token]\nhmac_secret = \"a secret of the tests, long enough\"\n";
    let node = Launch::new("standalone")
        .config(&format!("{token}{config}"))
        .start()
        .await;
    let lines: Vec<_> = blocks
        .iter()
        .filter(|(language, _)| *language == "console")
        .collect();
    assert_eq!(lines.len(), 8);
    for (_, text) in lines {
        let (line, expected) = text.split_once('\n').unwrap();
        let line = line.strip_prefix("$ ").unwrap();
        let backends = node.backends();
        let tidings = tidings_tests::binary().display();
        // Both say where the node is as the page's reader would not have to.
        let run = line
            .replace("http://localhost:9000", &backends)
            .replacen("curl ", "curl --silent --show-error ", 1)
            .replacen(
                "tidings publish ",
                &format!("'{tidings}' publish --server {backends} "),
                1,
            );
        let command = Command::new("sh")
            .args(["-c", &run])
            .env("TIDINGS_API_KEY", KEY)
            .kill_on_drop(true)
            .output();
        let output = in_time("its answer", command).await.unwrap();
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(
            without_epochs(said.concat().trim_end()),
            without_epochs(expected),
            "{line}"
        );
    }
    let logs = node.logs();
    assert!(logs.contains("an event matches no route"), "{logs}");
}

/// An epoch is made anew each time.
fn without_epochs(text: &str) -> String {
    let is_epochs = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let mut parts = text.split("epoch");
    let first = parts.next().unwrap_or_default().to_owned();
    let rest = parts.map(|part| {
        let named = part.trim_start_matches(|c| !is_epochs(c));
        format!("epoch {}", named.trim_start_matches(is_epochs))
    });
    first + &rest.collect::<String>()
}
