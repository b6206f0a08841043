//! A node whose backends' door speaks TLS and asks who its clients are, and the commands that reach it.

use std::fs;

use tidings_runtime::test_util::{Authority, Signed};

use super::{Place, Running, line, stderr, stdout};

/// A node with one key, for which a certificate stands.
struct Node {
    place: Place,
    ours: Authority,
    clients: Authority,
    running: Running,
    /// The backends' door.
    url: String,
}

impl Node {
    async fn start() -> Self {
        let (ours, clients) = (Authority::new(), Authority::new());
        let own = ours.sign("door", "localhost");
        let place = Place::with_file(&config(&own, &clients));
        let mut running = Running::start(place.command(&["standalone"]));
        let open = line(&mut running.notices, "backends' door is open").await;
        let (_, port) = open.rsplit_once(':').unwrap();
        let url = format!("https://localhost:{port}");
        line(&mut running.notices, "ready").await;
        Self {
            place,
            ours,
            clients,
            running,
            url,
        }
    }

    /// What a command says at its end, and its exit code.
    async fn run(&self, arguments: &[&str]) -> (String, Option<i32>) {
        let output = self.place.run(arguments).await;
        let said = format!("{}{}", stdout(&output), stderr(&output));
        (said, output.status.code())
    }
}

fn config(own: &Signed, clients: &Authority) -> String {
    let (certificate, key) = (own.certificate_file.display(), own.key_file.display());
    let ca = clients.file();
    format!(
        r#"
        clients.listen = "127.0.0.1:0"
        operators.listen = "127.0.0.1:0"
        drain.over = "0s"
        clients.token.hmac_secret = "a secret that only this test knows, and long enough"
        [backends]
        listen = "127.0.0.1:0"
        tls = {{ certificate_file = "{certificate}", key_file = "{key}", client_ca_file = "{}" }}
        [[backends.key]]
        name = "tasks"
        certificate = "tasks.internal"
        [[namespace]]
        name = "tasks"
        "#,
        ca.display()
    )
}

/// A file's path as an argument.
fn argument(path: &std::path::Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn publish_and_probe_show_a_certificate_and_get_in_by_it_alone() {
    let node = Node::start().await;
    let signed = node.clients.sign("tasks", "tasks.internal");
    let ca = node.ours.file();
    let trusting = ["--ca", argument(&ca)];
    let (certificate, key) = (argument(&signed.certificate_file), argument(&signed.key_file));
    let showing = [
        &trusting[..],
        &["--certificate", certificate, "--certificate-key", key],
    ]
    .concat();
    let publish = [
        "publish",
        "--type",
        "task.created",
        "--data",
        "1",
        "--channel",
        "tasks:1",
        "--server",
        &node.url,
    ];
    let probe = ["probe", "--backends", &node.url];

    let (said, code) = node.run(&[&publish[..], &showing].concat()).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(
        node.run(&[&probe[..], &showing].concat()).await,
        (String::new(), Some(0))
    );

    for silent in [
        [&publish[..], &trusting].concat(),
        [&probe[..], &trusting].concat(),
    ] {
        let (said, code) = node.run(&silent).await;
        assert_eq!(code, Some(1));
        // Whether it is heard in the handshake or thereafter is the network's affair.
        let told = ["show one with --certificate", "CertificateRequired"];
        assert!(told.iter().any(|words| said.contains(words)), "{said}");
    }
    let (said, code) = node.run(&probe).await;
    assert_eq!(code, Some(1));
    assert!(
        said.contains("UnknownIssuer"),
        "the system does not know the authority: {said}"
    );
    assert_eq!(node.running.stop().await, Some(0));
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_restart() {
    let mut node = Node::start().await;
    let other = Authority::new();
    let renewed = other.sign("door", "localhost");
    let place = |kind: &str| node.ours.folder().join(format!("door.{kind}"));
    fs::copy(&renewed.certificate_file, place("pem")).unwrap();
    fs::copy(&renewed.key_file, place("key")).unwrap();
    line(
        &mut node.running.notices,
        "the files of `backends.tls` have changed",
    )
    .await;

    let signed = node.clients.sign("tasks", "tasks.internal");
    let (certificate, key) = (argument(&signed.certificate_file), argument(&signed.key_file));
    let probe = [
        "probe",
        "--backends",
        &node.url,
        "--certificate",
        certificate,
        "--certificate-key",
        key,
    ];
    let (old, new) = (node.ours.file(), other.file());
    let (said, code) = node.run(&[&probe[..], &["--ca", argument(&new)]].concat()).await;
    assert_eq!(code, Some(0), "{said}");
    let (_, code) = node.run(&[&probe[..], &["--ca", argument(&old)]].concat()).await;
    assert_eq!(code, Some(1));
    assert_eq!(node.running.stop().await, Some(0));
}

#[tokio::test]
async fn files_of_tls_that_are_of_no_use_are_named_before_anything_listens() {
    let (ours, clients) = (Authority::new(), Authority::new());
    let own = ours.sign("door", "localhost");
    fs::remove_file(&own.key_file).unwrap();
    for command in ["standalone", "dev"] {
        let output = Place::with_file(&config(&own, &clients)).run(&[command]).await;
        assert_eq!(output.status.code(), Some(64));
        let expected = format!(
            "error: backends.tls.key_file: {} cannot be read: No such file or directory (os error 2)\n",
            own.key_file.display()
        );
        assert_eq!(stderr(&output), expected);
    }
    let typed = async |arguments: &[&str], expected: &str| {
        let output = Place::new().run(arguments).await;
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    };
    let probe = ["probe", "--backends", "https://localhost:1"];
    typed(
        &[&probe[..], &["--ca", "nowhere.pem"]].concat(),
        "--ca: cannot read nowhere.pem",
    )
    .await;
    let empty = argument(&own.certificate_file);
    typed(
        &[&probe[..], &["--certificate", empty]].concat(),
        "--certificate-key",
    )
    .await;
    let clear = ["probe", "--backends", "http://localhost:1", "--ca", empty];
    typed(&clear, "expected https://").await;
    fs::write(&own.key_file, "").unwrap();
    let key = argument(&own.key_file);
    typed(
        &[&probe[..], &["--ca", key]].concat(),
        "has no certificate in PEM",
    )
    .await;
}
