//! One channel of a listener: whether it hears it, and where in its stream it is.

use tidings_core::{Channel, Position};
use tokio::time::Instant;

use super::Action;
use crate::command::listen::{
    backoff::Backoff,
    wire::{Command, Publication, Recover, Subscribe, Subscribed},
};

#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) channel: Channel,
    pub(super) state: State,
    pub(super) retries: Backoff,
    /// The last that it heard, where it can come back to that.
    at: Option<Position>,
}

#[derive(Debug, PartialEq)]
pub(super) enum State {
    /// Never asked for.
    New,
    /// `subscribe` is sent; its answer is due.
    Asked {
        id: u32,
        by: Instant,
    },
    Subscribed,
    /// To be asked for again.
    Waiting {
        until: Instant,
    },
    /// Refused for good.
    Ended,
}

impl Subscription {
    pub(super) fn new(channel: Channel) -> Self {
        Self {
            channel,
            state: State::New,
            retries: Backoff::default(),
            at: None,
        }
    }

    /// Asks for it: the command's line.
    pub(super) fn ask(&mut self, id: u32, by: Instant) -> String {
        self.state = State::Asked { id, by };
        let subscribe = Subscribe {
            channel: self.channel.as_str(),
            recoverable: true,
            recover: self.at.as_ref().map(|at| Recover {
                recover: true,
                offset: at.offset,
                epoch: &at.epoch,
            }),
        };
        Command {
            id,
            subscribe: Some(subscribe),
            ..Command::default()
        }
        .line()
    }

    /// It hears the channel now, and gets what it missed.
    pub(super) fn granted(&mut self, granted: Option<&Subscribed<'_>>, actions: &mut Vec<Action>) {
        self.state = State::Subscribed;
        self.retries.reset();
        actions.push(Action::Tell(format!("listening to {}", self.channel)));
        let Some(granted) = granted else { return };
        self.at = granted.recoverable.then(|| Position {
            offset: granted.offset,
            epoch: granted.epoch.clone(),
        });
        if granted.was_recovering && !granted.recovered {
            let channel = &self.channel;
            actions.push(Action::Tell(format!(
                "what was published to {channel} meanwhile is not kept any more"
            )));
        }
        for raw in &granted.publications {
            match serde_json::from_str::<Publication<'_>>(raw.get()) {
                Ok(publication) => {
                    self.heard(publication.offset);
                    actions.push(Action::Print {
                        channel: self.channel.to_string(),
                        data: publication.data.get().to_owned(),
                        push: format!(
                            r#"{{"channel":{},"pub":{raw}}}"#,
                            serde_json::json!(self.channel.as_str())
                        ),
                    });
                }
                Err(error) => actions.push(Action::Tell(format!("passed over a publication: {error}"))),
            }
        }
    }

    /// A publication came.
    pub(super) fn heard(&mut self, offset: u64) {
        if let Some(at) = self.at.as_mut().filter(|_| offset > 0) {
            at.offset = offset;
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Asked { by: at, .. } | State::Waiting { until: at } => Some(at),
            State::New | State::Subscribed | State::Ended => None,
        }
    }
}
