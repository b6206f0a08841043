//! What the kernel says about a process, and asks of this one. Linux only: it is read from `/proc`.

use std::{fs, time::Duration};

use anyhow::{Context as _, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// CPU time that the threads of a process have used, in user space and in the kernel, to the nanosecond.
pub(crate) fn cpu(id: u32) -> anyhow::Result<Duration> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir(format!("/proc/{id}/task"))? {
        let path = thread?.path().join("schedstat");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let used = text.split(' ').next().unwrap_or_default();
        nanoseconds += used
            .parse::<u64>()
            .with_context(|| format!("{} says {text:?}", path.display()))?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Memory of a process that is in RAM, in bytes.
pub(crate) fn resident(id: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    let kilobytes = line.trim().trim_end_matches(" kB").parse::<u64>()?;
    Ok(kilobytes * 1024)
}

/// Lets this process, and those that it starts, open at least `files` files.
pub(crate) fn allow_open_files(files: u64) -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= files) {
        return Ok(());
    }
    if let Some(maximum) = limit.maximum.filter(|maximum| *maximum < files) {
        bail!(
            "{files} open files are needed and {maximum} allowed; raise the hard limit, or lower --clients"
        );
    }
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(files),
            ..limit
        },
    )?;
    Ok(())
}
