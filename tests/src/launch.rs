//! How a `tidings` process is started: a configuration, an environment, a role.

use std::{
    fs::File,
    path::Path,
    process::{ExitStatus, Output, Stdio},
};

use tokio::process::{Child, Command};

use crate::{Redis, Tidings, binary, eventually::in_time, ports::Ports, token::CONFIG};

/// A process that is not running yet. It will have ports of its own, and of the environment only what it is given.
pub struct Launch {
    role: &'static str,
    config: String,
    environment: Vec<(String, String)>,
    ports: Ports,
}

/// How a process ended.
#[derive(Debug)]
pub struct Exit {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// All that it printed and logged.
    pub output: String,
}

impl Launch {
    /// A process in `role`, configured with [`CONFIG`].
    #[must_use]
    pub fn new(role: &'static str) -> Self {
        Self {
            role,
            config: CONFIG.to_owned(),
            environment: Vec::new(),
            ports: Ports::reserve(),
        }
    }

    /// With this configuration file instead.
    #[must_use]
    pub fn config(mut self, config: &str) -> Self {
        config.clone_into(&mut self.config);
        self
    }

    /// With a variable in its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a Redis.
    #[must_use]
    pub fn redis(self, redis: &Redis) -> Self {
        let url = redis.url();
        self.env("REDIS_URL", &url)
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become so; with what it logged.
    pub async fn start(self) -> Tidings {
        let mut node = self.spawn();
        node.wait_until_ready().await;
        node
    }

    /// Starts it, though it is expected to end by itself, and waits for that.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn exit(self) -> Exit {
        self.spawn().exit().await
    }

    fn spawn(self) -> Tidings {
        let dir = tempfile::tempdir().expect("a directory for temporary files");
        std::fs::write(dir.path().join("node.toml"), &self.config).expect("a file in it");
        Tidings::new(self.role, self.environment, dir, self.ports)
    }
}

/// Runs a role with the configuration `node.toml` of `dir`; what it prints and logs is appended to the file `log` there.
pub(crate) fn run(role: &str, environment: &[(String, String)], dir: &Path, ports: &Ports) -> Child {
    let log = File::options().create(true).append(true).open(dir.join("log"));
    let file = log.expect("a file in the directory of the process");
    let also = file.try_clone().expect("a second handle of a file");
    let mut command = bare(dir);
    command
        .arg("--config")
        .arg(dir.join("node.toml"))
        .arg(role)
        .env("PORT", ports.clients().to_string())
        .env(
            "TIDINGS_PRESENCE__LISTEN",
            format!("127.0.0.1:{}", ports.presence()),
        )
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdout(Stdio::from(file))
        .stderr(Stdio::from(also));
    command.spawn().expect("the tidings binary runs")
}

/// Runs one of the commands that end by themselves, with `environment` and in an empty directory.
///
/// # Panics
/// When it does not end.
pub async fn command(arguments: &[&str], environment: &[(&str, &str)]) -> Exit {
    let dir = tempfile::tempdir().expect("a directory for temporary files");
    let mut command = bare(dir.path());
    command.args(arguments).envs(environment.iter().copied());
    let output = in_time("the end of a command", command.output())
        .await
        .expect("the tidings binary runs");
    Exit::of(&output)
}

impl Exit {
    pub(crate) fn new(status: ExitStatus, output: String) -> Self {
        Self {
            code: status.code(),
            output,
        }
    }

    pub(crate) fn of(output: &Output) -> Self {
        let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        Self::new(output.status, text.concat())
    }
}

/// The binary, away from whatever the machine's environment says about Redis, ports and collectors.
fn bare(dir: &Path) -> Command {
    let mut command = Command::new(binary::path());
    command
        .current_dir(dir)
        .env_clear()
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}
