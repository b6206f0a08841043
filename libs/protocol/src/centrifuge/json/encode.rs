//! Replies and pushes to one line of JSON each.
//!
//! A field that has its zero value is left out, except where the SDKs expect it: `presence`, `num_clients` and
//! `num_users`, and all of a history.

use std::io::Write;

use super::{body, object::Object};
use crate::{CloseReason, Push, Reply};

/// Writes a reply. `out` is memory: writing to it must not fail.
///
/// # Errors
/// When something in it is not JSON: a client that reads JSON cannot have it and is closed with 3506. Nothing is written
/// then.
pub fn reply(reply: &Reply, out: &mut impl Write) -> Result<(), CloseReason> {
    body::check(reply)?;
    let mut line = Object::open(out);
    match reply {
        Reply::Ping => {}
        Reply::Error { id, error } => {
            line.number("id", id);
            line.object("error", |e| body::error(e, error));
        }
        Reply::Connect { id, result } => {
            line.number("id", id);
            line.object("connect", |c| {
                body::connected(c, result);
                if result.pong {
                    c.flag("pong");
                }
            });
        }
        Reply::Subscribe { id, result } => {
            line.number("id", id);
            line.object("subscribe", |s| body::subscribed(s, result));
        }
        Reply::Unsubscribe { id } => {
            line.number("id", id);
            line.object("unsubscribe", |_| {});
        }
        Reply::Publish { id } => {
            line.number("id", id);
            line.object("publish", |_| {});
        }
        Reply::Presence { id, members } => {
            line.number("id", id);
            line.object("presence", |p| {
                p.object("presence", |all| {
                    for member in members {
                        all.object(&member.client.to_string(), |m| body::client_info(m, member));
                    }
                });
            });
        }
        Reply::PresenceStats { id, clients, users } => {
            line.number("id", id);
            line.object("presence_stats", |p| {
                p.number("num_clients", clients);
                p.number("num_users", users);
            });
        }
        Reply::History {
            id,
            publications,
            top,
        } => {
            line.number("id", id);
            line.object("history", |h| {
                h.list("publications", publications, body::publication);
                h.text("epoch", &top.epoch);
                h.number("offset", top.offset);
            });
        }
        Reply::Rpc { id, payload } => {
            line.number("id", id);
            line.object("rpc", |r| body::data(r, &payload.data));
        }
        Reply::Refresh { id, expires_in } => {
            line.number("id", id);
            line.object("refresh", |r| body::expiry(r, *expires_in));
        }
        Reply::SubRefresh { id, expires_in } => {
            line.number("id", id);
            line.object("sub_refresh", |r| body::expiry(r, *expires_in));
        }
        Reply::Subscribed { .. }
        | Reply::Unsubscribed { .. }
        | Reply::Message(_)
        | Reply::Refreshed { .. }
        | Reply::Disconnect(_) => line.object("push", |p| body::unasked(p, reply)),
    }
    line.close();
    Ok(())
}

/// Writes a push. `out` is memory: writing to it must not fail.
///
/// # Errors
/// As those of [`reply`], for the publication's data.
pub fn push(push: Push<'_>, out: &mut impl Write) -> Result<(), CloseReason> {
    body::check_push(&push)?;
    let mut line = Object::open(out);
    line.object("push", |p| body::push(p, &push));
    line.close();
    Ok(())
}

#[cfg(test)]
mod tests;
