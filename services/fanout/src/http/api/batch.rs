//! `batch`: commands one after the other, or side by side, with a reply for each.

use std::collections::HashMap;

use axum::response::Response;
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Call, Error, Malformed, answer, decode, method::Name};

/// The most commands of one batch.
const MAX_COMMANDS: usize = 1000;
/// The most that are carried out at a time.
const PARALLEL: usize = 16;

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Batch {
    commands: Option<Vec<Command>>,
    parallel: Option<bool>,
}

/// One method by its name, with its parameters.
type Command = HashMap<String, Option<Box<RawValue>>>;

/// Its result by the same name, or `error`.
type Reply = HashMap<&'static str, Told>;

#[derive(Serialize)]
#[serde(untagged)]
enum Told {
    Result(Box<RawValue>),
    Error(Error),
}

#[derive(Serialize)]
struct Replies {
    replies: Vec<Reply>,
}

impl Call<'_> {
    /// Unlike that of other methods, the answer has no envelope, and errors are never HTTP's.
    pub(super) async fn batch(&self, params: &[u8]) -> Result<Response, Malformed> {
        let Batch { commands, parallel } = decode(params)?;
        let commands = commands.unwrap_or_default();
        if commands.len() > MAX_COMMANDS {
            return Err(Malformed(format!(
                "the batch has more than {MAX_COMMANDS} commands"
            )));
        }
        let at_a_time = if parallel.unwrap_or_default() { PARALLEL } else { 1 };
        let replies = stream::iter(commands)
            .map(|command| self.reply(command))
            .buffered(at_a_time)
            .collect()
            .await;
        let text = serde_json::to_string(&Replies { replies });
        let text = text.map_err(|error| Malformed(format!("the answer cannot be written: {error}")))?;
        Ok(answer::json(text))
    }

    async fn reply(&self, command: Command) -> Reply {
        let told = match self.command(command).await {
            Ok((name, result)) => (name, Told::Result(result)),
            Err(error) => ("error", Told::Error(error)),
        };
        HashMap::from([told])
    }

    async fn command(&self, command: Command) -> Result<(&'static str, Box<RawValue>), Error> {
        let mut set = command
            .into_iter()
            .filter_map(|(name, params)| Some((name, params?)));
        let (Some((name, params)), None) = (set.next(), set.next()) else {
            return Err(Error::bad_request(
                "a command has one method by its name, and nothing else",
            ));
        };
        match Name::parse(&name) {
            Some(Name::One(method)) => {
                let answer = self.answer(method, params.get().as_bytes()).await;
                let answer = answer.map_err(|Malformed(why)| Error::bad_request(why))?;
                Ok((method.name(), answer?))
            }
            Some(Name::NotOffered(name)) => Err(Error::not_available(format!("{name} is not offered"))),
            Some(Name::Batch) => Err(Error::bad_request("a batch has no batches in it")),
            None => Err(Error::method_not_found("the API has no such method")),
        }
    }
}
