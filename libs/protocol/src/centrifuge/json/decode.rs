//! Lines of JSON to commands.

use tidings_core::json;

use super::wire;
use crate::{Command, data::TooDeep};

/// A frame that is not made of commands. The client is closed with 3501.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// Nothing between two line breaks, or in the whole frame.
    #[error("line {line} is empty")]
    Empty {
        /// Counted from 1.
        line: usize,
    },
    /// A line that is not a command in JSON.
    #[error("line {line} is not a command: {source}")]
    Json {
        /// Counted from 1.
        line: usize,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Data that others might not be able to parse.
    #[error(
        "line {line} carries data that is nested more than {} arrays and objects deep",
        json::MAX_DEPTH
    )]
    Deep {
        /// Counted from 1.
        line: usize,
    },
}

/// The commands of a frame, in order. The iterator ends after the first error. One trailing line break is legal.
pub fn commands(frame: &[u8]) -> impl Iterator<Item = Result<Command, Malformed>> + '_ {
    let frame = frame.strip_suffix(b"\n").unwrap_or(frame);
    let mut failed = false;
    frame
        .split(|byte| *byte == b'\n')
        .enumerate()
        .map_while(move |(index, line)| {
            if failed {
                return None;
            }
            let command = decode(line, index + 1);
            failed = command.is_err();
            Some(command)
        })
}

fn decode(line: &[u8], number: usize) -> Result<Command, Malformed> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return Err(Malformed::Empty { line: number });
    }
    let command: wire::Command<'_> =
        serde_json::from_slice(line).map_err(|source| Malformed::Json { line: number, source })?;
    Ok(Command {
        id: command.id,
        request: command
            .try_into()
            .map_err(|TooDeep| Malformed::Deep { line: number })?,
    })
}

#[cfg(test)]
mod tests;
