//! The configuration that is shown to people is one that works.

use std::collections::HashSet;

use tidings_tests::command;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tidings.example.toml");

#[tokio::test]
async fn the_example_is_valid_and_suffices_for_every_role() {
    let checked = command(&["config", "check", "--config", EXAMPLE], &[]).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert_eq!(checked.output.matches(" can run\n").count(), 4, "{checked:?}");
}

#[tokio::test]
async fn secrets_are_masked_when_the_configuration_is_printed() {
    let printed = command(&["config", "print", "--config", EXAMPLE], &[]).await;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    let example = std::fs::read_to_string(EXAMPLE).unwrap();
    let words = example.split(['"', '@', ':', ' ']);
    let secrets: Vec<_> = words.filter(|word| word.starts_with("change-me")).collect();
    assert_eq!(secrets.len(), 3, "Redis' password, the tokens' key, an API key");
    for secret in secrets {
        assert!(
            !printed.output.contains(secret),
            "{secret} is in {}",
            printed.output
        );
    }
}

#[tokio::test]
async fn every_key_is_in_the_example() {
    let printed = command(&["config", "print", "--config", EXAMPLE], &[]).await;
    let example = std::fs::read_to_string(EXAMPLE).unwrap();
    let shown = keys(&example);
    // `insecure` is what `tidings dev` sets; no other node starts with it.
    let missing: Vec<_> = keys(&printed.output)
        .into_iter()
        .filter(|key| *key != "insecure" && !shown.contains(key))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The keys of a configuration, those that are commented out too.
fn keys(configuration: &str) -> HashSet<&str> {
    let lines = configuration.lines().map(|line| line.trim_start_matches("# "));
    lines
        .filter_map(|line| line.split_once(" = "))
        .map(|(key, _)| key)
        .collect()
}
