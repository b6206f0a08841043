//! The calls that are about connections: checked, allowed, carried out by all gateways, answered.

use std::time::SystemTime;

use tidings_auth::Key;
use tidings_proto::{bus::order::What, fanout as proto};
use tidings_telemetry::trace;
use tonic::{Code, Request, Response, Status};
use tonic_types::FieldViolation;

use super::{Answer, Fanout, caller, caller_trace, order::Order, status, traced};

pub(crate) const DISCONNECT: &str = "tidings.fanout.v1.Fanout/Disconnect";
pub(crate) const SUBSCRIBE: &str = "tidings.fanout.v1.Fanout/Subscribe";
pub(crate) const UNSUBSCRIBE: &str = "tidings.fanout.v1.Fanout/Unsubscribe";
pub(crate) const REFRESH: &str = "tidings.fanout.v1.Fanout/Refresh";
pub(crate) const SEND: &str = "tidings.fanout.v1.Fanout/Send";

impl Fanout {
    /// Answers a call to `method`, whose request `check` makes an order of.
    pub(super) async fn order<T>(
        &self,
        method: &'static str,
        request: Request<T>,
        check: impl FnOnce(T, SystemTime) -> Result<Order, Vec<FieldViolation>>,
    ) -> Answer<proto::ControlResponse> {
        let span = trace::server(method, caller_trace(&request).as_ref());
        let work = async {
            let key = caller(&request)?;
            let order = check(request.into_inner(), SystemTime::now());
            let response = self.carry_out(method, key.as_deref(), order).await?;
            Ok(Response::new(response))
        };
        traced(span, Box::pin(work)).await
    }

    /// Has an order carried out, by whichever way it came, if it is one and the key may give it.
    pub(crate) async fn carry_out(
        &self,
        method: &'static str,
        key: Option<&Key>,
        order: Result<Order, Vec<FieldViolation>>,
    ) -> Result<proto::ControlResponse, Status> {
        let order = order.map_err(status::invalid)?;
        if let Some(key) = key {
            self.publish.admit(key).map_err(|error| status::of(&error))?;
            within_scope(key, &order).inspect_err(|status| {
                self.publish.refused(key, "ORDER_OUT_OF_SCOPE", status.message());
            })?;
        }
        if let (Some(channel), What::Subscribe(_)) = (&order.channel, &order.what) {
            self.publish
                .configured(channel)
                .map_err(|error| status::of(&error))?;
        }
        let asked = self.control.ask(order.clients, order.what).await;
        self.metrics
            .order(method, &asked.as_ref().map(|affected| affected.complete));
        let affected = asked.map_err(|error| status::of_control(&error))?;
        Ok(proto::ControlResponse {
            affected: u32::try_from(affected.connections).unwrap_or(u32::MAX),
            complete: affected.complete,
        })
    }
}

/// A key that is for some channels does nothing elsewhere, and so nothing that is about whole connections.
fn within_scope(key: &Key, order: &Order) -> Result<(), Status> {
    let name = key.name();
    match &order.channel {
        Some(channel) if !key.may_publish_to(channel) => Err(status::refused(
            Code::PermissionDenied,
            "CHANNEL_OUT_OF_SCOPE",
            format!(
                "the API key {name:?} may not subscribe anyone to channel {channel}, nor unsubscribe; its scope is \
                backends.key.channels"
            ),
            &[("key", name), ("channel", channel.as_str())],
        )),
        None if !key.has_all_channels() => Err(status::refused(
            Code::PermissionDenied,
            "CONNECTIONS_OUT_OF_SCOPE",
            format!(
                "the API key {name:?} is for some channels only (backends.key.channels), and this is about whole \
                connections"
            ),
            &[("key", name)],
        )),
        _ => Ok(()),
    }
}
