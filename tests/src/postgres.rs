//! A real PostgreSQL, on a port of its own, that can be killed and started again.

use std::{
    env, fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::{eventually::eventually, ports::Ports};

/// Who runs the server where we are root, as whom it does not run: nobody.
const NOBODY: u32 = 65_534;

/// A server that ends when this is dropped. Its user is `postgres`, without a password, its database `postgres`.
pub struct Postgres {
    bin: PathBuf,
    dir: TempDir,
    options: Vec<String>,
    process: Option<Child>,
    ports: Ports,
}

/// A session of it.
pub struct Session {
    client: Client,
    _driving: AbortOnDropHandle<()>,
}

impl std::ops::Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Postgres {
    /// Starts one, with the outbox in it. `None`, said on standard output, when PostgreSQL is not installed and need not be.
    pub async fn start() -> Option<Self> {
        let server = Self::start_with(&[]).await?;
        let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/postgres/outbox.sql");
        let schema = fs::read_to_string(schema).expect("the outbox' SQL");
        let session = server.session().await;
        session.batch_execute(&schema).await.expect("it is SQL");
        Some(server)
    }

    /// Starts one that is empty, with further settings (`name=value`).
    ///
    /// # Panics
    /// When it does not start, and when it is not installed although the environment requires it.
    pub async fn start_with(settings: &[&str]) -> Option<Self> {
        let Some(bin) = installed() else {
            let required = ["CI", "TIDINGS_REQUIRE_POSTGRES"];
            let required = required.iter().any(|name| env::var_os(name).is_some());
            assert!(
                !required,
                "PostgreSQL is not installed, and the environment requires it"
            );
            println!("SKIPPED: PostgreSQL is not installed");
            return None;
        };
        let dir = tempfile::tempdir().expect("a directory for temporary files");
        if is_root() {
            chown(dir.path(), Some(NOBODY), Some(NOBODY)).expect("root may give away what is its own");
        }
        let mut server = Self {
            bin,
            dir,
            options: settings.iter().map(|&setting| setting.to_owned()).collect(),
            process: None,
            ports: Ports::reserve(),
        };
        let mut init = server.command("initdb");
        init.arg("--no-sync")
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-D"]);
        init.arg(server.data()).stdout(Stdio::null());
        assert!(init.status().is_ok_and(|status| status.success()), "initdb fails");
        server.up().await;
        Some(server)
    }

    /// Puts a file beside its data, that it alone can read.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn keep(&self, name: &str, text: &[u8]) {
        let path = self.data().join(name);
        fs::write(&path, text).expect("a file of the server's");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a file of the server's");
        if is_root() {
            chown(&path, Some(NOBODY), Some(NOBODY)).expect("root may give away what is its own");
        }
    }

    /// With further settings from the next start on.
    pub fn set(&mut self, settings: &[&str]) {
        self.options
            .extend(settings.iter().map(|&setting| setting.to_owned()));
    }

    /// Starts it again, with what it had, and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub async fn up(&mut self) {
        let mut run = self.command("postgres");
        run.arg("-D")
            .arg(self.data())
            .args(["-h", "127.0.0.1", "-p", &self.port().to_string()]);
        run.arg("-k").arg(self.dir.path());
        run.args(["-c", "fsync=off", "-c", "log_min_messages=fatal"]);
        run.args(self.options.iter().flat_map(|option| ["-c", option]));
        run.stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(run.spawn().expect("postgres starts"));
        eventually("PostgreSQL answers", async || {
            tokio_postgres::connect(&self.url(), NoTls).await.ok().map(drop)
        })
        .await;
    }

    /// Ends it at once: sessions are cut, what was not committed is gone.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Fails only when it has ended by itself.
            let _ = Command::new("kill")
                .args(["-QUIT", &process.id().to_string()])
                .status();
            let _ = process.wait();
        }
    }

    /// Its address, by a password that it does not ask for.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres:hunter2@127.0.0.1:{}/postgres", self.port())
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports.clients()
    }

    /// A session.
    ///
    /// # Panics
    /// When there is none.
    pub async fn session(&self) -> Session {
        let (client, wire) = tokio_postgres::connect(&self.url(), NoTls)
            .await
            .expect("it answers");
        let driving = TaskTracker::new().spawn(async move { drop(wire.await) });
        Session {
            client,
            _driving: AbortOnDropHandle::new(driving),
        }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The newest that Debian has installed.
fn installed() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let numbered = versions.filter_map(|version| {
        let number: u32 = version.file_name().to_str()?.parse().ok()?;
        let bin = version.path().join("bin");
        bin.join("postgres").exists().then_some((number, bin))
    });
    numbered.max().map(|(_, bin)| bin)
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
