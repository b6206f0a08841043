//! Routes are read again on SIGHUP and when the configuration's file changes, and replaced while the node runs. So are the
//! files of `[backends.tls]`, as certificates are renewed more often than nodes start.
//!
//! The whole configuration is checked first, as at the start. What is wrong with it keeps the routes in force, and is said
//! in one line; other keys than `[[route]]` take effect when the node starts anew.

use std::{path::PathBuf, time::Duration};

use tidings_fanout::routing::live::Live;
use tidings_runtime::{
    Shutdown,
    config::Source,
    serve::tls::{self, Tls},
};
use tokio::time::MissedTickBehavior;

use crate::{config::Config, failure::Failure};

/// How often the file is looked at. Its text is compared, so that a file that is swapped in whatever way (a link, a
/// Kubernetes volume) is noticed.
const LOOK: Duration = Duration::from_secs(2);

/// Where a configuration comes from, and how it is read.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) source: Source,
    /// [`Config::load`], or its likeness for `tidings dev`.
    pub(crate) load: fn(&Source) -> Result<Config, Failure>,
}

/// Keeps `routes` as the configuration says, and `tls` as its files are, until `shutdown` is requested.
pub(super) async fn run(origin: Origin, routes: Live, tls: Option<Tls>, shutdown: Shutdown) {
    let path = origin
        .source
        .file
        .clone()
        .unwrap_or_else(|| PathBuf::from("tidings.toml"));
    let mut seen = text(path.clone()).await;
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut hangups = hangups();
    let mut certificates = tls.map(Certificates::new);
    loop {
        let asked = tokio::select! {
            () = shutdown.requested() => return,
            () = hangup(&mut hangups) => true,
            _ = look.tick() => false,
        };
        let now = text(path.clone()).await;
        // A file that is being replaced may not be there for a moment.
        if asked || (now.is_some() && now != seen) {
            seen = now;
            reload(&origin, &routes);
        }
        if let Some(certificates) = &mut certificates {
            certificates.renew().await;
        }
    }
}

/// The files of TLS, looked at again and again.
struct Certificates {
    tls: Tls,
    /// What was wrong with them last, so that it is said once.
    wrong: Option<tls::Error>,
}

impl Certificates {
    fn new(tls: Tls) -> Self {
        Self { tls, wrong: None }
    }

    async fn renew(&mut self) {
        let tls = self.tls.clone();
        match tokio::task::spawn_blocking(move || tls.renew()).await {
            Ok(Ok(renewed)) => {
                self.wrong = None;
                if renewed {
                    tracing::info!(
                        "the files of `backends.tls` have changed: new connections meet what is in them"
                    );
                }
            }
            Ok(Err(error)) if self.wrong.as_ref() != Some(&error) => {
                tracing::error!(
                    "`backends.tls.{error}`: the backends' door stays with the certificates that it has"
                );
                self.wrong = Some(error);
            }
            // Said already; or the process ends.
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

fn reload(origin: &Origin, routes: &Live) {
    let loaded = (origin.load)(&origin.source).inspect_err(|_| routes.refused());
    let replaced = loaded.and_then(|config| routes.replace(&config.route).map_err(Failure::usage));
    match replaced {
        Ok(count) => tracing::info!(
            routes = count,
            "the configuration was read again: its routes are in force"
        ),
        Err(failure) => tracing::error!(
            error = %failure.message(),
            "the configuration was read again and is wrong: the routes stay as they were"
        ),
    }
}

/// The file's text; `None` when it cannot be read.
async fn text(path: PathBuf) -> Option<String> {
    tokio::fs::read_to_string(path).await.ok()
}

#[cfg(unix)]
type Hangups = Option<tokio::signal::unix::Signal>;
#[cfg(not(unix))]
type Hangups = ();

/// From here on a SIGHUP no longer ends the process.
#[cfg(unix)]
fn hangups() -> Hangups {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::hangup()) {
        Ok(signal) => Some(signal),
        Err(error) => {
            tracing::warn!(%error, "cannot listen for SIGHUP; routes are read again when their file changes");
            None
        }
    }
}

#[cfg(unix)]
async fn hangup(hangups: &mut Hangups) {
    if let Some(signal) = hangups
        && signal.recv().await.is_some()
    {
        return;
    }
    std::future::pending::<()>().await;
}

#[cfg(not(unix))]
fn hangups() -> Hangups {}

#[cfg(not(unix))]
async fn hangup((): &mut Hangups) {
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use std::fs;

    use prometheus_client::registry::Registry;
    use tidings_broker::Broker;
    use tidings_core::Namespaces;
    use tidings_fanout::{self as fanout, Fanout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_wrong_keeps_the_routes_and_one_that_is_good_replaces_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tidings.toml");
        let route = "[[route]]\nevent = \"task.*\"\nchannels = [\"tasks\"]\n";
        fs::write(&path, "").unwrap();
        let origin = Origin {
            source: Source {
                file: Some(path.clone()),
                ..Source::default()
            },
            load: Config::load_for_dev,
        };
        let deps = fanout::Deps {
            node: "test".to_owned(),
            broker: Broker::memory(),
            namespaces: Namespaces::default().with_undeclared_open(),
            presence: None,
        };
        let config = fanout::Config {
            listen: ([127, 0, 0, 1], 0).into(),
            insecure: true,
            ..fanout::Config::default()
        };
        let mut registry = Registry::default();
        let routes = Fanout::bind(&config, &[], deps, &mut registry).unwrap().routes();
        let in_force = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            let mut lines = text.lines();
            lines.find(|line| line.starts_with("routes ")).unwrap().to_owned()
        };
        assert_eq!(in_force(), "routes 0");
        fs::write(&path, route).unwrap();
        reload(&origin, &routes);
        assert_eq!(in_force(), "routes 1");
        for wrong in [
            "[[route]]\nevent = \"a..b\"\nchannels = [\"x\"]\n",
            "[[route]\n",
            "rout = 1\n",
        ] {
            fs::write(&path, wrong).unwrap();
            reload(&origin, &routes);
            assert_eq!(in_force(), "routes 1");
        }

        // A change is noticed without being asked.
        let shutdown = Shutdown::new();
        let running = shutdown.spawn(run(origin, routes, None, shutdown.clone()));
        for number in 0.. {
            if in_force() == "routes 2" {
                break;
            }
            fs::write(&path, format!("{route}{route}# {number}")).unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        shutdown.request();
        running.await.unwrap();
    }
}
