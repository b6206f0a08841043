use super::*;

fn source(file: &str, variables: &[(&str, &str)]) -> (Source, tempfile::NamedTempFile) {
    let named = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    std::fs::write(named.path(), file).unwrap();
    let environment = variables.iter().copied().collect();
    (
        Source {
            file: Some(named.path().to_owned()),
            environment,
            ..Source::default()
        },
        named,
    )
}

fn load(file: &str, variables: &[(&str, &str)]) -> Config {
    let (source, _file) = source(file, variables);
    Config::load(&source).unwrap()
}

/// The whole message, with `FILE` for the file's path.
fn refused(file: &str, variables: &[(&str, &str)]) -> String {
    let (source, named) = source(file, variables);
    message(Config::load(&source).map(drop)).replace(named.path().to_str().unwrap(), "FILE")
}

fn message(result: Result<(), Failure>) -> String {
    match result {
        Err(Failure::Usage(message)) => message,
        other => panic!("expected a usage failure, got {other:?}"),
    }
}

const COMPLETE: &str = r#"
[redis]
url = "redis://me:hunter2@cache:6379/1"

[clients]
allowed_origins = ["https://app.example.com", "https://*.example.org"]
trusted_proxies = ["10.0.0.0/8", "fd00::1"]
personal_namespace = "tasks"
[clients.token]
hmac_secret = "hunter2-of-tokens-32-bytes-of-it"
audience = "tidings"

[clients.subscription_token]
hmac_secret = "hunter2-of-subscriptions-32-bytes"
[clients.limits]
connections_per_user = 3

[[backends.key]]
name = "task-service"
key = "hunter2-of-backends"
events = ["task.*"]

[presence]
url = "http://presence:9001"

[drain]
over = "5s"

[[namespace]]
name = "tasks"
presence = true
allow_subscribe_for_client = true

[[route]]
event = "task.*"
channels = ["tasks:{tenant}"]
payload = "event"
"#;

#[test]
fn nothing_configured_is_the_defaults() {
    let config = load("", &[]);
    assert!(config.redis.is_none());
    assert_eq!(config.clients.listen, "0.0.0.0:8000".parse().unwrap());
    assert_eq!(config.drain.over, Duration::from_secs(20));
}

#[test]
fn a_complete_configuration_suffices_for_every_role() {
    let config = load(COMPLETE, &[]);
    for roles in [Roles::ALL, Roles::GATEWAY, Roles::FANOUT, Roles::PRESENCE] {
        config.require(roles).unwrap();
    }
}

#[test]
fn what_is_printed_has_everything_but_the_secrets_and_can_be_read_again() {
    let config = load(COMPLETE, &[("PORT", "4000")]);
    let printed = toml::to_string(&config).unwrap();
    assert!(!printed.contains("hunter2"), "{printed}");
    for line in [
        r#"url = "redis://me:***@cache:6379/1""#,
        r#"hmac_secret = "***""#,
        r#"listen = "0.0.0.0:4000""#,
        r#"listen = "0.0.0.0:5000""#,
        r#"over = "5s""#,
        r#"trusted_proxies = ["10.0.0.0/8", "fd00::1"]"#,
        r#"personal_namespace = "tasks""#,
        "[clients.subscription_token]",
        "connections_per_user = 3",
        "connections_per_address = 1000",
    ] {
        assert!(printed.contains(line), "{line} is not in:\n{printed}");
    }
    // The mask itself is no secret that a node would run with.
    assert!(refused(&printed, &[]).contains("clients.token.hmac_secret"));
    let filled = printed.replace("\"***\"", "\"hunter2-of-tokens-32-bytes-of-it\"");
    assert_eq!(toml::to_string(&load(&filled, &[])).unwrap(), printed);
}

#[test]
fn the_environment_overrides_the_file_and_the_tools_variables_are_no_configuration() {
    let config = load(
        COMPLETE,
        &[
            ("TIDINGS_DRAIN__OVER", "1s"),
            ("REDIS_URL", "redis://other"),
            ("TIDINGS_API_KEY", "k"),
            ("TIDINGS_TOKEN", "t"),
        ],
    );
    assert_eq!(config.drain.over, Duration::from_secs(1));
    assert_eq!(config.redis.unwrap().place(), "redis://other");
}

#[test]
fn what_is_wrong_is_said_with_its_key() {
    for (file, expected) in [
        (
            "[client]\n",
            "unknown key `client` (FILE, line 1): did you mean `clients`?",
        ),
        (
            "[clients]\nlisten = 8000\n",
            "`clients.listen`: expected an address with a port such as 127.0.0.1:8000, found a whole number (FILE, line 2)",
        ),
        (
            "[redis]\nurl = \"http://cache\"\n",
            "`redis.url`: the address of Redis does not begin with redis:// or, for TLS, rediss:// (FILE, line 2)",
        ),
        (
            "[redis]\nprefix = \"a\"\n",
            "redis.url is missing, and so are redis.sentinel and redis.cluster; set one of them",
        ),
        (
            "[presence]\nlease = \"1h\"\n",
            "`presence.lease`: expected a duration from 1s to 10m",
        ),
        (
            "[presence]\nurl = \"presence:9001\"\n",
            "`presence.url`: expected a URL such as http://host:9000",
        ),
        (
            "[[namespace]]\nname = \"a\"\n[[namespace]]\nname = \"a\"\n",
            "namespace \"a\" is configured twice",
        ),
        (
            "[[route]]\nevent = \"task..x\"\nchannels = [\"a\"]\n",
            "route 1: event: pattern \"task..x\" has an empty segment",
        ),
        (
            "[[backends.key]]\nname = \"a\"\nkey = \"\"\n",
            "backends.key \"a\": the key is empty",
        ),
        (
            "[clients]\nallowed_origins = [\"https://ok.example.com\", \"app.example.com\"]\n",
            "clients.allowed_origins: \"app.example.com\" cannot be an origin: \
             expected a scheme and a host, such as https://app.example.com",
        ),
        (
            "[clients]\ntrusted_proxies = [\"10.0.0.0/33\"]\n",
            "clients.trusted_proxies: \"10.0.0.0/33\" is no network; expected one such as 10.0.0.0/8 or fd00::/8, or one \
             address",
        ),
        (
            "[clients]\npersonal_namespace = \"user\"\n[[namespace]]\nname = \"users\"\n",
            "`clients.personal_namespace`: there is no [[namespace]] with the name \"user\"; \
             add it, with the options of these channels",
        ),
        (
            "[clients.limits]\nconnections_per_user = 0\n",
            "clients.limits.connections_per_user: must be at least 1",
        ),
        (
            "[clients.subscription_token]\naudience = \"a\"\n",
            "`clients.subscription_token` has no key: set its `hmac_secret`, `public_key_file` or `jwks_url`, or remove it \
             to check subscription tokens by the keys of `clients.token`",
        ),
        (
            "[clients.subscription_token]\nhmac_secret = \"short\"\n",
            "`clients.subscription_token.hmac_secret`: the token secret is 5 bytes long; \
             at least 32 are needed, and they should be random",
        ),
        (
            "[clients.token]\nhmac_secret = \"\"\n",
            "`clients.token.hmac_secret`: the token secret is empty; set it to at least 32 random bytes",
        ),
    ] {
        assert_eq!(refused(file, &[]), expected, "{file}");
    }
}

#[test]
fn a_role_says_what_it_needs() {
    let needs = |variables: &[(&str, &str)], roles| message(load("", variables).require(roles));
    let redis = ("REDIS_URL", "redis://cache");
    let token = (
        "TIDINGS_CLIENTS__TOKEN__HMAC_SECRET",
        "a secret of 32 bytes, or of more",
    );
    for (variables, roles, expected) in [
        (
            &[][..],
            Roles::PRESENCE,
            "`tidings presence` needs Redis: set `redis.url`, or REDIS_URL in the environment",
        ),
        (
            &[],
            Roles::ALL,
            "`tidings standalone` needs a way to know clients: \
             set `clients.token.hmac_secret` to at least 32 random bytes, or \
             `clients.token.public_key_file`, or `clients.token.jwks_url`, or have your backend decide with \
             `clients.proxy.connect`",
        ),
        (
            &[redis, token],
            Roles::GATEWAY,
            "`tidings gateway` needs to know where presence is: \
             set `presence.url`, such as http://presence:9001",
        ),
        (
            &[redis],
            Roles::FANOUT,
            "`tidings fanout` needs an API key to ask for: add a [[backends.key]] with a `name` and a `key`",
        ),
    ] {
        assert_eq!(needs(variables, roles), expected);
    }
    load("", &[redis]).require(Roles::PRESENCE).unwrap();
}

#[test]
fn only_dev_lets_everyone_in_and_only_on_loopback() {
    for key in ["clients", "backends"] {
        let variable = format!("TIDINGS_{}__INSECURE", key.to_uppercase());
        assert_eq!(
            message(load(COMPLETE, &[(&variable, "true")]).require(Roles::ALL)),
            format!("`{key}.insecure` lets everyone in, and is for `tidings dev` alone: remove it")
        );
    }
    // Redis is not used: what the platform says of it does not matter.
    let (source, _file) = source(COMPLETE, &[("PORT", "4000"), ("REDIS_URL", "nonsense")]);
    let dev = Config::load_for_dev(&source).unwrap();
    assert!(dev.clients.insecure && dev.backends.insecure && dev.redis.is_none());
    assert_eq!(
        [dev.clients.listen, dev.backends.listen, dev.operators.listen].map(|door| door.to_string()),
        ["127.0.0.1:4000", "127.0.0.1:5000", "127.0.0.1:5100"]
    );
    assert_eq!(
        dev.namespace.len() + dev.route.len() + dev.backends.key.len(),
        3,
        "the file's own are kept"
    );
}

#[test]
fn where_the_platform_says_which_redis_the_file_need_not() {
    let url = ("REDIS_URL", "redis://platform:6379/0");
    let check = |file: &str, variables: &[(&str, &str)]| {
        let redis = load(file, variables).redis.expect("a Redis is configured");
        assert_eq!((redis.place().as_str(), redis.prefix.as_str()), (url.1, "ours"));
    };
    check("[redis]\nprefix = \"ours\"", &[url]);
    check("", &[url, ("TIDINGS_REDIS__PREFIX", "ours")]);
    assert_eq!(
        refused("[redis]\nprefix = \"ours\"", &[]),
        "redis.url is missing, and so are redis.sentinel and redis.cluster; set one of them"
    );
}
