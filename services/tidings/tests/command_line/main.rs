//! The binary itself, as it is typed: what it prints, what it answers, and how it ends.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod tls;

use std::{
    net::TcpListener,
    process::{Output, Stdio},
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use tidings_auth::token::{Bearer, Expected, Keyring, Verifier};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStderr, ChildStdout, Command},
    time::timeout,
};

/// How long anything may take that is waited for. Never asserted, only in place of waiting for ever.
const PATIENCE: Duration = Duration::from_secs(30);

/// A place to run commands in, where nobody configured anything.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn with_file(text: &str) -> Self {
        let place = Self::new();
        std::fs::write(place.0.path().join("tidings.toml"), text).unwrap();
        place
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
        command.args(arguments).current_dir(self.0.path());
        command
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| name == "PATH"));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs a command to its end.
    async fn run(&self, arguments: &[&str]) -> Output {
        timeout(PATIENCE, self.command(arguments).output())
            .await
            .expect("it ends")
            .unwrap()
    }
}

/// A command that goes on, and the lines that it prints.
struct Running {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    notices: Lines<BufReader<ChildStderr>>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        let notices = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, out, notices }
    }

    /// Asks it to stop, and gives the exit code.
    async fn stop(mut self) -> Option<i32> {
        let pid = self.child.id().expect("it runs").to_string();
        assert!(
            Command::new("sh")
                .args(["-c", "kill -TERM $0", &pid])
                .status()
                .await
                .unwrap()
                .success()
        );
        timeout(PATIENCE, self.child.wait())
            .await
            .expect("it ends")
            .unwrap()
            .code()
    }
}

/// The first line that has `part` in it.
async fn line(lines: &mut Lines<impl AsyncBufRead + Unpin>, part: &str) -> String {
    let mut seen = Vec::new();
    let found = timeout(PATIENCE, async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains(part) {
                return Some(line);
            }
            seen.push(line);
        }
        None
    })
    .await;
    match found {
        Ok(Some(line)) => line,
        _ => panic!("no line has {part:?} in it, but there was:\n{}", seen.join("\n")),
    }
}

/// A node of `tidings dev` on free ports, and where its doors are.
struct Dev {
    node: Running,
    clients: String,
    backends: String,
}

impl Dev {
    async fn start(place: &Place, listen: &str) -> Self {
        let mut command = place.command(&["dev"]);
        command
            .env("TIDINGS_CLIENTS__LISTEN", listen)
            .env("TIDINGS_BACKENDS__LISTEN", "127.0.0.1:0");
        command.env("TIDINGS_OPERATORS__LISTEN", "127.0.0.1:0");
        let mut node = Running::start(command);
        let address = |line: &str| {
            line.split_whitespace()
                .nth(1)
                .unwrap()
                .trim_end_matches(',')
                .to_owned()
        };
        let clients = address(&line(&mut node.out, "  clients ").await);
        let clients = clients.trim_end_matches("/connection/websocket").to_owned();
        let backends = address(&line(&mut node.out, "  backends ").await);
        Self {
            node,
            clients,
            backends,
        }
    }
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[tokio::test]
async fn what_is_published_is_heard_and_a_listener_comes_back_to_a_node_that_was_restarted() {
    let place = Place::new();
    let dev = Dev::start(&place, "127.0.0.1:0").await;
    let mut listener = Running::start(place.command(&["listen", "tasks:1", "--server", &dev.clients]));
    line(&mut listener.notices, "listening to tasks:1").await;

    let publish = async |server: &str, data: &str| {
        let arguments = [
            "publish",
            "--type",
            "task.created",
            "--channel",
            "tasks:1",
            "--data",
            data,
        ];
        place
            .run(&[&arguments[..], &["--id", "e1", "--server", server]].concat())
            .await
    };
    let published = publish(&dev.backends, r#"{"title": "Hello"}"#).await;
    assert!(
        stdout(&published).starts_with("event e1\ntasks:1  published, offset 1, epoch "),
        "{published:?}"
    );
    assert_eq!(published.status.code(), Some(0));
    let heard = line(&mut listener.out, "tasks:1 ").await;
    assert!(
        heard.starts_with(r#"tasks:1 {"id":"e1","type":"task.created""#),
        "{heard}"
    );
    assert!(heard.contains(r#"{"title": "Hello"}"#), "{heard}");

    let address = dev.clients.trim_start_matches("ws://").to_owned();
    assert_eq!(dev.node.stop().await, Some(0));
    line(
        &mut listener.notices,
        "the server closed the connection: shutdown (3001); connecting again in ",
    )
    .await;
    let again = Dev::start(&place, &address).await;
    line(&mut listener.notices, "listening to tasks:1").await;
    publish(&again.backends, "2").await;
    assert!(line(&mut listener.out, "tasks:1 ").await.contains(r#""data":2"#));
}

#[tokio::test]
async fn an_event_that_is_refused_is_refused_with_the_field() {
    let place = Place::new();
    let dev = Dev::start(&place, "127.0.0.1:0").await;
    let refused = place
        .run(&["publish", "--type", "a", "--data", "{", "--server", &dev.backends])
        .await;
    assert_eq!((refused.status.code(), stdout(&refused)), (Some(1), ""));
    assert!(
        stderr(&refused).starts_with("error: INVALID_ARGUMENT: "),
        "{}",
        stderr(&refused)
    );
    assert!(
        stderr(&refused).contains("\n  event.data: "),
        "{}",
        stderr(&refused)
    );

    let nowhere = place
        .run(&[
            "publish",
            "--type",
            "a",
            "--data",
            "1",
            "--server",
            "http://127.0.0.1:1",
        ])
        .await;
    assert_eq!(nowhere.status.code(), Some(1));
    let expected = "error: cannot reach the backends' door at http://127.0.0.1:1; is a node running there?";
    assert!(stderr(&nowhere).starts_with(expected), "{}", stderr(&nowhere));
}

#[tokio::test]
async fn production_asks_for_tokens_and_keys_and_takes_those_it_is_configured_with() {
    let place = Place::with_file(
        r#"
        clients.listen = "127.0.0.1:0"
        backends.listen = "127.0.0.1:0"
        operators.listen = "127.0.0.1:0"
        drain.over = "0s"
        [clients.token]
        hmac_secret = "a secret that only this test knows, and long enough"
        [[backends.key]]
        name = "tasks"
        key = "a-key"
        [[namespace]]
        name = "tasks"
        allow_subscribe_for_client = true
        [[route]]
        event = "task.*"
        channels = ["tasks:{tenant}"]
        payload = "data"
        "#,
    );
    let mut node = Running::start(place.command(&["standalone"]));
    line(
        &mut node.notices,
        "no Redis configured: standalone, embedded broker",
    )
    .await;
    let mut address = async |door: &str| {
        let line = line(&mut node.notices, &format!("{door}' door is open")).await;
        line.rsplit_once("127.0.0.1")
            .map(|(_, port)| format!("127.0.0.1{port}"))
            .unwrap()
    };
    let clients = format!("ws://{}", address("clients").await);
    let backends = format!("http://{}", address("backends").await);

    let refused = place.run(&["listen", "tasks:acme", "--server", &clients]).await;
    assert_eq!(refused.status.code(), Some(1));
    let expected = "error: the server closed the connection for good: bad request (3501); \
                    if it requires a token, give one with --token or TIDINGS_TOKEN\n";
    assert_eq!(stderr(&refused), expected);
    let refused = place
        .run(&["publish", "--type", "a", "--data", "1", "--server", &backends])
        .await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).starts_with("error: UNAUTHENTICATED: "),
        "{}",
        stderr(&refused)
    );

    let minted = place.run(&["token", "--user", "7"]).await;
    let mut listen = place.command(&["listen", "tasks:acme", "--json", "--server", &clients]);
    listen.env("TIDINGS_TOKEN", stdout(&minted).trim());
    let mut listener = Running::start(listen);
    line(&mut listener.notices, "listening to tasks:acme").await;
    let mut publish = place.command(&[
        "publish",
        "--type",
        "task.created",
        "--data",
        "[1, 2]",
        "--server",
        &backends,
    ]);
    publish
        .args(["--attribute", "tenant=acme"])
        .env("TIDINGS_API_KEY", "a-key");
    let published = publish.output().await.unwrap();
    assert_eq!(published.status.code(), Some(0), "{}", stderr(&published));
    let heard = line(&mut listener.out, "tasks:acme").await;
    assert!(
        heard.starts_with(r#"{"channel":"tasks:acme","pub":{"data":[1, 2]"#),
        "{heard}"
    );

    assert_eq!(node.stop().await, Some(0));
}

#[tokio::test]
async fn a_subscription_token_is_signed_with_the_key_that_such_tokens_are_checked_by() {
    let (connecting, subscribing) = (
        "the key of connections, long enough",
        "the key of subscriptions, long too",
    );
    let one = format!("clients.token.hmac_secret = {connecting:?}\n");
    let two = format!("{one}clients.subscription_token.hmac_secret = {subscribing:?}\n");
    let arguments = [
        "token",
        "--user",
        "7",
        "--subscribe",
        "$tasks:1",
        "--info",
        r#"{"name":"ada"}"#,
    ];
    for (file, key) in [(one, connecting), (two, subscribing)] {
        let minted = Place::with_file(&file).run(&arguments).await;
        assert_eq!(minted.status.code(), Some(0), "{}", stderr(&minted));
        let keys = Keyring::secret(&key.to_owned().into()).unwrap();
        let bearer = Bearer {
            user: "7",
            channel: "$tasks:1",
            client: "",
        };
        let checked = Verifier::new(keys, Expected::default()).subscription(
            stdout(&minted).trim(),
            &bearer,
            SystemTime::now(),
        );
        let info = checked.settle().unwrap().options.info;
        assert_eq!(&*info.data, br#"{"name":"ada"}"#);
    }
    let refused = async |file: &str, expected: &str| {
        let output = Place::with_file(file).run(&arguments).await;
        assert_eq!((stderr(&output), output.status.code()), (expected, Some(64)));
    };
    refused(
        "",
        "error: no key for clients' tokens is configured: set `clients.token.hmac_secret`, or \
         TIDINGS_CLIENTS__TOKEN__HMAC_SECRET, to the key of the node that will check the token\n",
    )
    .await;
    refused(
        "clients.subscription_token.jwks_url = \"http://127.0.0.1:1/\"\n",
        "error: `clients.subscription_token` has public keys alone, which check tokens and sign none: ask for a token where \
         the private key is\n",
    )
    .await;
}

#[tokio::test]
async fn a_node_whose_redis_is_away_stays_up_and_says_so_without_the_password() {
    for role in ["standalone", "gateway", "fanout", "presence"] {
        let place = Place::with_file(
            r#"
            clients.listen = "127.0.0.1:0"
            presence = { url = "http://127.0.0.1:1" }
            clients.token.hmac_secret = "a secret that only this test knows, and long enough"
            backends.key = [{ name = "tasks", key = "a-key" }]
            "#,
        );
        let mut command = place.command(&[role]);
        command.env("REDIS_URL", "redis://me:hunter2@127.0.0.1:1/0");
        let mut node = Running::start(command);
        let mode = line(&mut node.notices, "Redis configured: cluster").await;
        assert!(mode.contains("redis://me:***@127.0.0.1:1/0"), "{mode}");
        let door = line(&mut node.notices, "operators' door is open").await;
        let (_, address) = door.rsplit_once("address=").unwrap();
        line(&mut node.notices, " ready ").await;
        // It says so from the start, and why once it has tried.
        let mut answer = get(address, "/health/redis").await;
        while answer.contains("not connected yet") {
            tokio::time::sleep(Duration::from_millis(10)).await;
            answer = get(address, "/health/redis").await;
        }
        assert!(
            answer.starts_with("HTTP/1.1 503 ") && answer.contains("127.0.0.1:1"),
            "{role}: {answer}"
        );
        assert!(!answer.contains("hunter2"), "{role}: {answer}");
        let answer = get(address, "/health/ready").await;
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.contains("degraded"),
            "{role}: {answer}"
        );
        assert_eq!(node.stop().await, Some(0), "{role}");
    }
}

/// The whole answer to a GET.
async fn get(address: &str, path: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, socket.read_to_string(&mut answer))
        .await
        .expect("it answers")
        .unwrap();
    answer
}

#[tokio::test]
async fn what_is_configured_or_typed_wrongly_ends_with_64_and_one_message() {
    let check = async |place: Place, arguments: &[&str], expected: &str| {
        let output = place.run(arguments).await;
        assert_eq!((stderr(&output), output.status.code()), (expected, Some(64)));
    };
    let misspelt = || Place::with_file("[clients]\nlisen = \"127.0.0.1:0\"\n");
    let unknown =
        "error: unknown key `clients.lisen` (tidings.toml, line 2): did you mean `clients.listen`?\n";
    for arguments in [
        &["dev"][..],
        &["standalone"],
        &["token", "--user", "7"],
        &["config", "check"],
        &["config", "print"],
    ] {
        check(misspelt(), arguments, unknown).await;
    }
    check(
        Place::new(),
        &["gateway"],
        "error: `tidings gateway` needs Redis: set `redis.url`, or REDIS_URL in the environment\n",
    )
    .await;
    check(
        Place::new(),
        &["dev", "--config", "nowhere.toml"],
        "error: cannot read the configuration file nowhere.toml: No such file or directory (os error 2)\n",
    )
    .await;
    let typed = Place::new().run(&["listen"]).await;
    assert_eq!(typed.status.code(), Some(64));
    assert!(stderr(&typed).contains("<CHANNEL>..."), "{}", stderr(&typed));
    assert_eq!(Place::new().run(&["--version"]).await.status.code(), Some(0));
}

#[tokio::test]
async fn a_port_in_use_is_said_with_its_door_and_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let place = Place::new();
    let mut command = place.command(&["dev", "--log", "off"]);
    command
        .env("TIDINGS_CLIENTS__LISTEN", &address)
        .env("TIDINGS_BACKENDS__LISTEN", "127.0.0.1:0");
    command
        .env("TIDINGS_OPERATORS__LISTEN", "127.0.0.1:0")
        .env("TIDINGS_PRESENCE__LISTEN", "127.0.0.1:0");
    let output = command.output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.starts_with("error: cannot open the clients"), "{said}");
    assert!(
        said.contains(&address) && said.contains("the port is in use"),
        "{said}"
    );
    assert!(
        said.contains("clients.listen") && said.contains("PORT=4000"),
        "{said}"
    );
}

#[tokio::test]
async fn the_configuration_is_checked_and_printed_without_its_secrets() {
    let place = Place::with_file("redis.url = \"redis://me:hunter2@cache\"\n");
    let checked = place.run(&["config", "check"]).await;
    assert_eq!(
        stdout(&checked),
        "configuration is valid\n\
         file: tidings.toml\n\
         `tidings standalone` needs a way to know clients: set `clients.token.hmac_secret` to at least 32 random bytes, or `clients.token.public_key_file`, or `clients.token.jwks_url`, or have your backend decide with `clients.proxy.connect`\n\
         `tidings gateway` needs a way to know clients: set `clients.token.hmac_secret` to at least 32 random bytes, or `clients.token.public_key_file`, or `clients.token.jwks_url`, or have your backend decide with `clients.proxy.connect`\n\
         `tidings fanout` needs an API key to ask for: add a [[backends.key]] with a `name` and a `key`\n\
         `tidings presence` can run\n"
    );
    let printed = place.run(&["config", "print"]).await;
    assert!(
        stdout(&printed).contains("url = \"redis://me:***@cache\""),
        "{}",
        stdout(&printed)
    );
    assert_eq!(printed.status.code(), Some(0));
}
