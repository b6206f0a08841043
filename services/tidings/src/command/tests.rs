use clap::{CommandFactory as _, Parser as _, error::ErrorKind};

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split(' '))
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn what_every_command_takes_may_stand_on_either_side_of_it() {
    for line in [
        "tidings --config a.toml dev",
        "tidings dev --config a.toml",
        "tidings config --config a.toml check",
    ] {
        assert_eq!(
            parse(line).unwrap().global.config,
            Some(PathBuf::from("a.toml")),
            "{line}"
        );
    }
    let json = parse("tidings gateway --log-format json --log debug")
        .unwrap()
        .global;
    assert_eq!(
        (json.log_format, json.log.as_deref()),
        (Format::Json, Some("debug"))
    );
}

#[test]
fn a_channel_that_cannot_be_is_refused_before_anything_is_done() {
    for line in [
        "tidings listen a{b",
        "tidings publish --type t --data 1 --channel a{b",
        "tidings token --user u --channel a{b",
        "tidings token --user u --subscribe a{b",
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ValueValidation, "{line}");
        assert!(
            error.to_string().contains("channel name has '{' at byte 1"),
            "{error}"
        );
    }
}

#[test]
fn what_is_required_is_required() {
    for line in [
        "tidings",
        "tidings listen",
        "tidings publish --type t",
        "tidings publish --data 1",
        "tidings token",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
    assert!(parse("tidings token --user 7 --ttl 90s --info {\"name\":1}").is_ok());
    assert!(parse("tidings token --user 7 --subscribe $tasks:1 --ttl 90s --info {}").is_ok());
    assert!(parse("tidings token --user 7 --subscribe a --channel b").is_err());
    assert!(parse("tidings token --user 7 --info {").is_err());
    assert!(parse("tidings token --user 7 --ttl soon").is_err());
}
