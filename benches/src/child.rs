//! A process that this one started: its orders, its answers, its end.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    process::{self, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, bail};
use serde::{Serialize, de::DeserializeOwned};

/// Another role of this program. Killed when it is dropped.
pub(crate) struct Child {
    role: &'static str,
    process: process::Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Child {
    /// Starts a role.
    pub(crate) fn start(role: &'static str, arguments: &[String]) -> anyhow::Result<Self> {
        let mut process = Command::new(env::current_exe()?)
            .arg(role)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {role}"))?;
        let (Some(orders), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
            bail!("{role} has no standard input or output");
        };
        Ok(Self {
            role,
            process,
            orders,
            answers: BufReader::new(answers),
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Gives an order without waiting for the answer.
    pub(crate) fn tell(&mut self, order: &impl Serialize) -> anyhow::Result<()> {
        writeln!(self.orders, "{}", serde_json::to_string(order)?)
            .with_context(|| format!("{} is gone", self.role))
    }

    /// Waits for what it says next.
    pub(crate) fn hear<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!(
                "{} ended before it had answered; its own words are above",
                self.role
            );
        }
        serde_json::from_str(&line).with_context(|| format!("{} said {line:?}", self.role))
    }

    /// Gives an order and waits for the answer.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self, order: &impl Serialize) -> anyhow::Result<T> {
        self.tell(order)?;
        self.hear()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
