//! What a configuration may say, and what the reader is told when it says something else.

use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroU32, time::Duration};

use bytesize::ByteSize;
use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
struct Config {
    clients: Clients,
    redis: Option<Redis>,
    log: Log,
    namespace: Vec<Namespace>,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Log {
    #[default]
    Text,
    Json,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
struct Clients {
    listen: SocketAddr,
    allow_anonymous: bool,
    allowed_origins: Vec<String>,
    secret: String,
    #[serde(with = "humantime_serde")]
    ping_interval: Duration,
    outbox: ByteSize,
    channels: u16,
    shards: NonZeroU32,
    ratio: f64,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
struct Redis {
    url: Option<String>,
    prefix: String,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Namespace {
    name: String,
    #[serde(default)]
    history_size: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            clients: Clients::default(),
            redis: None,
            log: Log::Text,
            namespace: Vec::new(),
            labels: BTreeMap::new(),
        }
    }
}

impl Default for Clients {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8000)),
            allow_anonymous: false,
            allowed_origins: Vec::new(),
            secret: String::new(),
            ping_interval: Duration::from_secs(25),
            outbox: ByteSize::mib(1),
            channels: 128,
            shards: NonZeroU32::MIN,
            ratio: 1.0,
        }
    }
}

/// Loads `file` with `environment`, in a directory of its own, which is replaced by nothing in errors.
fn load_from(file: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tidings.toml");
    std::fs::write(&path, file).unwrap();
    let source = Source {
        file: Some(path),
        environment: environment.iter().copied().collect(),
        reserved: &["TIDINGS_API_KEY", "TIDINGS_TOKEN", "TIDINGS_CONFIG"],
    };
    load(&source).map_err(|error| {
        error.to_string().replace(
            &format!("{}{}", directory.path().display(), std::path::MAIN_SEPARATOR),
            "",
        )
    })
}

#[track_caller]
fn accepts(file: &str, environment: &[(&str, &str)], change: impl FnOnce(&mut Config)) {
    let mut expected = Config::default();
    change(&mut expected);
    assert_eq!(load_from(file, environment), Ok(expected));
}

#[track_caller]
fn refuses(file: &str, environment: &[(&str, &str)], expected: &str) {
    assert_eq!(load_from(file, environment).unwrap_err(), expected);
}

#[test]
fn nothing_said_means_the_defaults() {
    accepts("", &[], |_| {});
    accepts(
        "",
        &[("PORT", "4000"), ("TIDINGS_TOKEN", "t"), ("tidings_config", "f")],
        |_| {},
    );
}

#[test]
fn a_file_overrides_defaults_and_a_variable_overrides_the_file() {
    let file = "log = \"json\"\n[clients]\nlisten = \"127.0.0.1:1\"\nchannels = 7\n";
    let environment = [
        ("TIDINGS_CLIENTS__LISTEN", "127.0.0.1:2"),
        ("tidings_redis__Prefix", "t"),
    ];
    accepts(file, &environment, |config| {
        config.log = Log::Json;
        config.clients.listen = SocketAddr::from(([127, 0, 0, 1], 2));
        config.clients.channels = 7;
        config.redis = Some(Redis {
            url: None,
            prefix: "t".to_owned(),
        });
    });
}

#[test]
fn a_variable_is_read_as_what_its_key_takes() {
    let environment = [
        ("TIDINGS_CLIENTS__SECRET", "12345"),
        ("TIDINGS_CLIENTS__CHANNELS", "12345"),
        ("TIDINGS_CLIENTS__RATIO", "1"),
        ("TIDINGS_CLIENTS__SHARDS", "0x10"),
        ("TIDINGS_CLIENTS__ALLOW_ANONYMOUS", "true"),
        (
            "TIDINGS_CLIENTS__ALLOWED_ORIGINS",
            r#"["https://a", "https://b"]"#,
        ),
        ("TIDINGS_CLIENTS__PING_INTERVAL", "1m 5s"),
        ("TIDINGS_CLIENTS__OUTBOX", "64KiB"),
        ("TIDINGS_LOG", "json"),
        ("TIDINGS_NAMESPACE", r#"[{ name = "tasks", history_size = 10 }]"#),
        ("TIDINGS_LABELS__ZONE", "true"),
        ("TIDINGS_REDIS__URL", "redis://:p@ss=[1]@redis:6379/0"),
        ("TIDINGS_REDIS__PREFIX", r#""quoted""#),
    ];
    accepts("", &environment, |config| {
        let clients = &mut config.clients;
        clients.secret = "12345".to_owned();
        clients.channels = 12345;
        clients.shards = NonZeroU32::new(16).unwrap();
        clients.allow_anonymous = true;
        clients.allowed_origins = vec!["https://a".to_owned(), "https://b".to_owned()];
        clients.ping_interval = Duration::from_secs(65);
        clients.outbox = ByteSize::kib(64);
        config.log = Log::Json;
        config.namespace = vec![Namespace {
            name: "tasks".to_owned(),
            history_size: 10,
        }];
        config.labels = BTreeMap::from([("zone".to_owned(), "true".to_owned())]);
        config.redis = Some(Redis {
            url: Some("redis://:p@ss=[1]@redis:6379/0".to_owned()),
            prefix: "quoted".to_owned(),
        });
    });
}

#[test]
fn an_empty_variable_is_not_set() {
    accepts(
        "[clients]\nsecret = \"s\"",
        &[("TIDINGS_CLIENTS__SECRET", "")],
        |config| {
            config.clients.secret = "s".to_owned();
        },
    );
}

#[test]
fn what_kubernetes_sets_for_services_called_like_us_is_passed_over() {
    let links = [
        ("TIDINGS_SERVICE_PORT_HTTP", "8000"),
        ("TIDINGS_PORT_8000_TCP", "tcp://10.0.0.7:8000"),
        ("TIDINGS_GATEWAY_SERVICE_HOST", "10.0.0.7"),
        ("TIDINGS_GATEWAY_PORT_9000_TCP_PROTO", "tcp"),
    ];
    accepts("", &links, |_| {});
}

#[test]
fn a_table_and_one_of_its_keys_may_both_be_variables() {
    let environment = [
        ("TIDINGS_REDIS", r#"{ url = "a", prefix = "b" }"#),
        ("TIDINGS_REDIS__PREFIX", "c"),
    ];
    accepts("", &environment, |config| {
        config.redis = Some(Redis {
            url: Some("a".to_owned()),
            prefix: "c".to_owned(),
        });
    });
}

#[test]
fn a_key_is_configured_by_its_variable_or_its_tables_in_any_case() {
    let configures = |name: &str| {
        let environment: Environment = [(name, "something")].into_iter().collect();
        environment.configures("redis.url")
    };
    for name in ["TIDINGS_REDIS__URL", "tidings_redis__url", "TIDINGS_REDIS"] {
        assert!(configures(name), "{name}");
    }
    for name in [
        "REDIS_URL",
        "TIDINGS_REDIS__PREFIX",
        "TIDINGS_URL",
        "TIDINGS_REDIS__URL__X",
    ] {
        assert!(!configures(name), "{name}");
    }
}

#[test]
fn an_unknown_key_is_an_error_that_names_the_nearest_one() {
    refuses(
        "log = \"text\"\n\n[clients]\nlisten = \"127.0.0.1:1\"\nchanels = 3\n",
        &[],
        "unknown key `clients.chanels` (tidings.toml, line 5): did you mean `clients.channels`?",
    );
    refuses(
        "[client]\nlisten = \"127.0.0.1:1\"",
        &[],
        "unknown key `client` (tidings.toml, line 1): did you mean `clients`?",
    );
    refuses(
        "",
        &[("TIDINGS_CLIENTS__LISEN", "127.0.0.1:1")],
        "unknown key `clients.lisen` (environment variable TIDINGS_CLIENTS__LISEN): \
         did you mean TIDINGS_CLIENTS__LISTEN?",
    );
    refuses(
        "[[namespace]]\nname = \"a\"\n\n[[namespace]]\nname = \"b\"\nhistory_sise = 1",
        &[],
        "unknown key `namespace[1].history_sise` (tidings.toml, line 6): \
         did you mean `namespace[1].history_size`?",
    );
    // There are variables for keys of tables, and none for keys inside an array.
    refuses(
        "",
        &[("TIDINGS_NAMESPACE", "[{ name = 'a', history_sise = 1 }]")],
        "unknown key `namespace[0].history_sise` (environment variable TIDINGS_NAMESPACE): \
         did you mean `namespace[0].history_size`?",
    );
}

#[test]
fn an_unknown_key_that_is_like_no_other_gets_the_list() {
    refuses(
        "[kafka]\nbrokers = []",
        &[],
        "unknown key `kafka` (tidings.toml, line 1): \
         expected `clients`, `redis`, `log`, `namespace` or `labels`",
    );
}

#[test]
fn a_wrong_value_is_an_error_that_says_where_and_what_was_expected() {
    let listen = |value: &str| format!("[clients]\nlisten = {value}");
    refuses(
        &listen("8000"),
        &[],
        "`clients.listen`: expected an address with a port such as 127.0.0.1:8000, found a whole number \
         (tidings.toml, line 2)",
    );
    refuses(
        &listen("\"localhost\""),
        &[],
        "`clients.listen`: invalid socket address syntax; expected an address with a port such as \
         127.0.0.1:8000 (tidings.toml, line 2)",
    );
    refuses(
        "clients.channels = 70000",
        &[],
        "`clients.channels`: expected a whole number from 0 to 65535, found 70000 (tidings.toml, line 1)",
    );
    refuses(
        "clients.shards = 0",
        &[],
        "`clients.shards`: expected a whole number from 1, found 0 (tidings.toml, line 1)",
    );
    refuses(
        "",
        &[("TIDINGS_CLIENTS__CHANNELS", "many")],
        "`clients.channels`: expected a whole number from 0 to 65535, found text \
         (environment variable TIDINGS_CLIENTS__CHANNELS)",
    );
    refuses(
        "clients.allow_anonymous = \"yes\"",
        &[],
        "`clients.allow_anonymous`: expected true or false, found text (tidings.toml, line 1)",
    );
    refuses(
        "clients.ping_interval = 25",
        &[],
        "`clients.ping_interval`: expected a duration such as \"25s\", found a whole number \
         (tidings.toml, line 1)",
    );
    refuses(
        "clients.ping_interval = \"25 parsecs\"",
        &[],
        "`clients.ping_interval`: expected a duration such as \"25s\", found some other text \
         (tidings.toml, line 1)",
    );
    refuses(
        "log = \"xml\"",
        &[],
        "`log`: expected `text` or `json`, found something else (tidings.toml, line 1)",
    );
    refuses(
        "log = 1",
        &[],
        "`log`: expected `text` or `json`, found something else (tidings.toml, line 1)",
    );
    refuses(
        "clients = []",
        &[],
        "`clients`: expected a table, found an array (tidings.toml, line 1)",
    );
}

#[test]
fn a_text_that_its_own_type_refuses_is_not_said_to_be_a_table_for_being_in_one() {
    #[derive(Debug, Deserialize)]
    #[serde(try_from = "String")]
    struct Scheme;
    impl TryFrom<String> for Scheme {
        type Error = &'static str;
        fn try_from(_: String) -> Result<Self, Self::Error> {
            Err("is not redis://")
        }
    }
    #[derive(Debug, Deserialize)]
    struct Redis {
        #[serde(rename = "url")]
        _url: Scheme,
    }
    #[derive(Debug, Deserialize)]
    struct Root {
        #[serde(rename = "redis")]
        _redis: Redis,
    }
    let environment = [("TIDINGS_REDIS__URL", "http://cache")].into_iter().collect();
    let source = Source {
        environment,
        ..Source::default()
    };
    assert_eq!(
        load::<Root>(&source).unwrap_err().to_string(),
        "`redis.url`: is not redis:// (environment variable TIDINGS_REDIS__URL)"
    );
}

#[test]
fn a_wrong_item_of_an_array_is_named_by_its_number_and_its_own_line() {
    refuses(
        "[clients]\nallowed_origins = [\n  \"https://a\",\n  8,\n]",
        &[],
        "`clients.allowed_origins[1]`: expected text, found a whole number (tidings.toml, line 4)",
    );
    refuses(
        "",
        &[("TIDINGS_CLIENTS__ALLOWED_ORIGINS", "https://a")],
        "`clients.allowed_origins`: expected an array such as [\"a\", \"b\"], found text \
         (environment variable TIDINGS_CLIENTS__ALLOWED_ORIGINS)",
    );
}

#[test]
fn a_missing_key_is_an_error_that_names_it() {
    refuses(
        "log = \"text\"\n[[namespace]]\nhistory_size = 3",
        &[],
        "`namespace[0].name` is missing (tidings.toml, line 2)",
    );
}

#[test]
fn an_error_never_repeats_text_that_may_be_a_secret() {
    for environment in [
        ("TIDINGS_CLIENTS__CHANNELS", "hunter2"),
        ("TIDINGS_LOG", "hunter2"),
    ] {
        assert!(!load_from("", &[environment]).unwrap_err().contains("hunter2"));
    }
}

#[test]
fn what_is_no_toml_is_an_error_with_its_line_and_column() {
    refuses(
        "[clients]\nlisten = \"ü\" oops\n",
        &[],
        "tidings.toml, line 2, column 14: unexpected key or value, expected newline, `#`",
    );
    refuses(
        "a = 1\na = 2\n",
        &[],
        "tidings.toml, line 2, column 1: duplicate key",
    );
}

#[test]
fn a_named_file_must_be_there() {
    let source = Source {
        file: Some("/nowhere/tidings.toml".into()),
        ..Source::default()
    };
    assert_eq!(
        load::<Config>(&source).unwrap_err().to_string(),
        "cannot read the configuration file /nowhere/tidings.toml: No such file or directory (os error 2)"
    );
}

#[test]
fn a_dotenv_beside_the_file_is_read_and_the_process_wins_over_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tidings.toml");
    let dotenv = directory.path().join(".env");
    std::fs::write(&path, "").unwrap();
    // PATH is the one variable that every process has.
    std::fs::write(
        &dotenv,
        "# ours\nPATH=nowhere\nTIDINGS_CLIENTS__CHANELS=3\nPORT='4000'\nEMPTY=\n",
    )
    .unwrap();
    let environment = Environment::read(Some(&path)).unwrap();
    assert_eq!(environment.get("PORT"), Some("4000"));
    assert_eq!(environment.get("EMPTY"), None);
    assert_ne!(environment.get("PATH"), Some("nowhere"));
    let ours: Environment = environment.with_prefix("PORT").collect();
    assert_eq!(ours.get("PORT"), Some("4000"));

    let source = Source {
        file: Some(path),
        environment,
        reserved: &[],
    };
    assert_eq!(
        load::<Config>(&source).unwrap_err().to_string(),
        format!(
            "unknown key `clients.chanels` (TIDINGS_CLIENTS__CHANELS in {}): \
             did you mean TIDINGS_CLIENTS__CHANNELS?",
            dotenv.display()
        )
    );
}

#[test]
fn a_dotenv_that_cannot_be_understood_is_an_error_with_its_line_and_without_its_text() {
    let check = |text: &str, line: &str| {
        let directory = tempfile::tempdir().unwrap();
        let dotenv = directory.path().join(".env");
        std::fs::write(&dotenv, text).unwrap();
        let error = Environment::read(Some(&directory.path().join("tidings.toml"))).unwrap_err();
        let expected = "expected NAME=value, with quotes around a value that has spaces in it";
        assert_eq!(
            error.to_string(),
            format!("{}{line}: {expected}", dotenv.display())
        );
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    };
    check("# ours\n\nKEY=hunter2 and more\n", ", line 3");
    check("A=1\nhunter2\n", ", line 2");
    check("KEY='hunter2\n", ", line 1");
    // Which of them is not known.
    check("hunter2\nhunter2\n", "");
}
