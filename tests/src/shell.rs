//! A person at a terminal, who types what they were told to.

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::{eventually::in_time, launch::Exit};

/// Types a line that ends by itself.
///
/// # Panics
/// When it does not end.
pub async fn shell(line: &str) -> Exit {
    let output = in_time(&format!("the end of {line}"), typed(line).output()).await;
    Exit::of(&output.expect("there is a shell"))
}

/// A line that goes on until this is dropped, and what it prints.
pub struct Shell {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Shell {
    /// Types a line.
    ///
    /// # Panics
    /// When there is no shell.
    #[must_use]
    pub fn start(line: &str) -> Self {
        let mut child = typed(line)
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let output = child.stdout.take().expect("it is piped");
        Self {
            _child: child,
            lines: BufReader::new(output).lines(),
        }
    }

    /// The next line that it prints.
    ///
    /// # Panics
    /// When it prints none.
    pub async fn line(&mut self) -> String {
        let line = in_time("a line", self.lines.next_line()).await;
        line.expect("its output can be read").expect("it still runs")
    }
}

fn typed(line: &str) -> Command {
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg(format!("exec {}", line.trim()))
        .env_clear()
        .stdin(Stdio::null())
        .kill_on_drop(true);
    shell
}
