//! A script that Redis runs: known to it by its hash, or sent whole when it does not know it; and what a command has to
//! know of the connection that it goes by.

use redis::Cmd;

/// How a script is named in a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// Redis may not know it: then nothing happens, and the answer is NOSCRIPT.
    Hash,
    /// Always works, and Redis knows it from then on.
    Code,
}

/// How a command is put on a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    /// How it names its script, if it has one.
    pub(super) by: By,
    /// The generation of the Redis at the other end; empty where nothing of a stream is asked.
    pub(super) generation: &'a str,
    /// The slot is on its way to this node of a Cluster, and the node that it comes from has none of the command's keys.
    pub(super) asking: bool,
}

/// The code of a script.
pub(super) struct Script {
    code: &'static str,
    hash: String,
}

impl Script {
    pub(super) fn new(code: &'static str) -> Self {
        let hash = redis::Script::new(code).get_hash().to_owned();
        Self { code, hash }
    }

    /// The beginning of the command that runs it; the arguments follow, among them the names of the keys that it uses.
    ///
    /// A node that a slot is on its way to refuses what has several keys, unless it has them all. So only the first is
    /// declared there: keys that are still elsewhere are ruled out by who sent the command on, which has none of them.
    pub(super) fn run(&self, call: Call<'_>, keys: &[String]) -> Cmd {
        let keys = if call.asking { &keys[..1] } else { keys };
        let by = call.by;
        let mut command = match by {
            By::Hash => redis::cmd("EVALSHA"),
            By::Code => redis::cmd("EVAL"),
        };
        command
            .arg(match by {
                By::Hash => &self.hash,
                By::Code => self.code,
            })
            .arg(keys.len())
            .arg(keys);
        command
    }
}
