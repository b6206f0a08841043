//! The `tidings` executable that the tests run.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::SystemTime,
};

/// Where it is: what `TIDINGS_BIN` names, or the one beside the test's own executable. That one is built first
/// when it is missing or older than its sources, so that no test speaks of a program that is no more.
#[must_use]
pub fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| env::var_os("TIDINGS_BIN").map_or_else(beside, PathBuf::from))
}

fn beside() -> PathBuf {
    let test = env::current_exe().expect("the test's own path");
    // target/<profile>/deps/<test>
    let profile = test
        .ancestors()
        .nth(2)
        .expect("tests are built into a target directory");
    let binary = profile.join("tidings");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this crate is in the workspace");
    if changed(&binary).is_none_or(|built| newest_source(root) > built) {
        build(root, profile);
    }
    binary
}

fn build(root: &Path, profile: &Path) {
    let target = profile
        .parent()
        .expect("a profile's directory is in the target directory");
    let name = profile
        .file_name()
        .and_then(|name| name.to_str())
        .expect("cargo's names are ASCII");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(root)
        .args(["build", "--package", "tidings", "--target-dir"])
        .arg(target);
    cargo.args(["--profile", if name == "debug" { "dev" } else { name }]);
    assert!(
        cargo.status().is_ok_and(|status| status.success()),
        "{cargo:?} failed"
    );
}

fn newest_source(root: &Path) -> SystemTime {
    let crates = ["libs", "services"]
        .iter()
        .filter_map(|folder| fs::read_dir(root.join(folder)).ok())
        .flatten();
    let sources = crates.flatten().map(|entry| entry.path().join("src"));
    let all = sources.chain([root.join("proto"), root.join("Cargo.lock")]);
    all.map(|path| newest(&path))
        .max()
        .expect("the workspace has sources")
}

fn newest(path: &Path) -> SystemTime {
    let Ok(entries) = fs::read_dir(path) else {
        return changed(path).unwrap_or(SystemTime::UNIX_EPOCH);
    };
    entries
        .flatten()
        .map(|entry| newest(&entry.path()))
        .max()
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}
