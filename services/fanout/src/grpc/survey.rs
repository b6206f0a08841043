//! What all nodes are asked about themselves: which there are, and to which channels clients are subscribed.

use std::collections::BTreeMap;

use tidings_auth::Key;
use tidings_core::{Channel, Glob};
use tidings_proto::{
    bus::{self, active_channels::Pattern, report, survey::What},
    fanout as proto,
};
use tidings_telemetry::trace;
use tonic::{Code, Request, Response, Status};
use tonic_types::FieldViolation;

use super::{Answer, Fanout, caller, caller_trace, status, traced, wrong::Wrong};
use crate::control::Surveyed;

pub(crate) const INFO: &str = "tidings.fanout.v1.Fanout/Info";
pub(crate) const CHANNELS: &str = "tidings.fanout.v1.Fanout/Channels";

/// Channels of a page, where nobody says how many, and the most.
const PAGE: u32 = 100;
pub(crate) const MAX_PAGE: u32 = 1000;

/// A page of the channels that somebody is subscribed to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    /// With their clients, by name.
    pub(crate) channels: BTreeMap<String, u32>,
    /// After which name to go on; `None`: there are no others.
    pub(crate) next: Option<String>,
    pub(crate) complete: bool,
}

impl Fanout {
    pub(super) async fn answer_info(
        &self,
        request: Request<proto::InfoRequest>,
    ) -> Answer<proto::InfoResponse> {
        let span = trace::server(INFO, caller_trace(&request).as_ref());
        let work = async {
            let (nodes, complete) = self.nodes(caller(&request)?.as_deref()).await?;
            Ok(Response::new(proto::InfoResponse { nodes, complete }))
        };
        traced(span, Box::pin(work)).await
    }

    pub(super) async fn answer_channels(
        &self,
        request: Request<proto::ChannelsRequest>,
    ) -> Answer<proto::ChannelsResponse> {
        let span = trace::server(CHANNELS, caller_trace(&request).as_ref());
        let work = async {
            let key = caller(&request)?;
            let asked = checked(request.into_inner()).map_err(status::invalid)?;
            let page = self.active(key.as_deref(), asked).await?;
            let channels = page.channels.into_iter();
            Ok(Response::new(proto::ChannelsResponse {
                channels: channels
                    .map(|(channel, clients)| proto::ActiveChannel { channel, clients })
                    .collect(),
                next_page_token: page.next.unwrap_or_default(),
                complete: page.complete,
            }))
        };
        traced(span, Box::pin(work)).await
    }

    /// All nodes that answer, and whether these are all, if the key may know.
    pub(crate) async fn nodes(&self, key: Option<&Key>) -> Result<(Vec<proto::Node>, bool), Status> {
        if let Some(key) = key.filter(|key| !key.has_all_channels()) {
            let name = key.name();
            let why = format!(
                "the API key {name:?} is for some channels only (backends.key.channels), and this is about whole nodes"
            );
            self.publish.refused(key, "NODES_OUT_OF_SCOPE", &why);
            let about = [("key", name)];
            return Err(status::refused(
                Code::PermissionDenied,
                "NODES_OUT_OF_SCOPE",
                why,
                &about,
            ));
        }
        let Surveyed { reports, complete } = self.survey(INFO, key, What::RollCall(bus::RollCall {})).await?;
        let nodes = reports.into_iter().filter_map(|report| match report {
            report::What::Node(node) => Some(shown(node)),
            report::What::Channels(_) => None,
        });
        let mut nodes: Vec<_> = nodes.collect();
        nodes.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
        Ok((nodes, complete))
    }

    /// A page of channels, of those that the key may look into.
    pub(crate) async fn active(
        &self,
        key: Option<&Key>,
        mut asked: bus::ActiveChannels,
    ) -> Result<Page, Status> {
        if let Some(scope) = key.and_then(Key::channels) {
            if scope.is_empty() {
                return Ok(Page {
                    complete: true,
                    ..Page::default()
                });
            }
            asked.within = scope.iter().map(Glob::to_string).collect();
        }
        let limit = asked.limit;
        let Surveyed { reports, complete } = self.survey(CHANNELS, key, What::Channels(asked)).await?;
        let counts = reports.into_iter().filter_map(|report| match report {
            report::What::Channels(counts) => Some(counts),
            report::What::Node(_) => None,
        });
        let mut page = merged(counts.collect(), limit as usize);
        page.complete = complete;
        Ok(page)
    }

    async fn survey(&self, method: &'static str, key: Option<&Key>, what: What) -> Result<Surveyed, Status> {
        if let Some(key) = key {
            self.publish.admit(key).map_err(|error| status::of(&error))?;
        }
        let surveyed = self.control.survey(what).await;
        self.metrics
            .order(method, &surveyed.as_ref().map(|surveyed| surveyed.complete));
        surveyed.map_err(|error| status::of_control(&error))
    }
}

fn checked(request: proto::ChannelsRequest) -> Result<bus::ActiveChannels, Vec<FieldViolation>> {
    let mut wrong = Wrong::default();
    let proto::ChannelsRequest {
        pattern,
        page_size,
        page_token,
    } = request;
    if !pattern.is_empty()
        && let Err(error) = Glob::parse(&pattern, ':')
    {
        wrong.add("pattern", error.to_string());
    }
    if page_size > MAX_PAGE {
        wrong.add(
            "page_size",
            format!("is {page_size}, at most {MAX_PAGE} are allowed"),
        );
    }
    if !page_token.is_empty() && Channel::parse(&page_token).is_err() {
        wrong.add(
            "page_token",
            "is none that was ever given: repeat the last answer's next_page_token",
        );
    }
    wrong.nothing()?;
    Ok(bus::ActiveChannels {
        pattern: (!pattern.is_empty()).then_some(Pattern::Segments(pattern)),
        within: Vec::new(),
        after: page_token,
        limit: if page_size == 0 { PAGE } else { page_size },
    })
}

/// The pages of all gateways in one. Each knows all of its channels up to its last name; so the sums are right up to the
/// first of these last names.
fn merged(counts: Vec<bus::ChannelCounts>, limit: usize) -> Page {
    let ends = counts.iter().filter(|counts| counts.more);
    let mut end = ends.map(|counts| counts.last.clone()).min();
    let mut channels = BTreeMap::<String, u32>::new();
    for bus::ChannelCount { channel, clients } in counts.into_iter().flat_map(|counts| counts.channels) {
        if end.as_ref().is_none_or(|end| channel <= *end) {
            let sum = channels.entry(channel).or_default();
            *sum = sum.saturating_add(clients);
        }
    }
    if channels.len() > limit {
        let beyond = channels.keys().nth(limit).cloned();
        drop(beyond.map(|beyond| channels.split_off(&beyond)));
        end = channels.keys().next_back().cloned();
    }
    Page {
        channels,
        next: end,
        complete: true,
    }
}

fn shown(node: bus::Node) -> proto::Node {
    let uptime = std::time::Duration::from_millis(node.uptime_ms);
    proto::Node {
        id: node.id,
        name: node.name,
        version: node.version,
        roles: node.roles,
        uptime: prost_types::Duration::try_from(uptime).ok(),
        connections: node.connections,
        users: node.users,
        channels: node.channels,
        subscriptions: node.subscriptions,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(channels: &[(&str, u32)], last: &str, more: bool) -> bus::ChannelCounts {
        let channels = channels.iter().map(|&(channel, clients)| bus::ChannelCount {
            channel: channel.to_owned(),
            clients,
        });
        bus::ChannelCounts {
            channels: channels.collect(),
            last: last.to_owned(),
            more,
        }
    }

    fn page(channels: &[(&str, u32)], next: Option<&str>) -> Page {
        let channels = channels
            .iter()
            .map(|&(channel, clients)| (channel.to_owned(), clients));
        Page {
            channels: channels.collect(),
            next: next.map(str::to_owned),
            complete: true,
        }
    }

    #[test]
    fn a_channel_of_several_gateways_has_the_clients_of_all() {
        let all = vec![
            counts(&[("a", 1), ("c", 2)], "c", false),
            counts(&[("b", 3), ("c", 4)], "c", false),
            counts(&[], "", false),
        ];
        assert_eq!(merged(all, 3), page(&[("a", 1), ("b", 3), ("c", 6)], None));
        assert_eq!(merged(Vec::new(), 3), page(&[], None));
    }

    #[test]
    fn a_page_ends_where_one_gateway_has_not_told_all() {
        // What the first knows of c is not said here.
        let all = vec![
            counts(&[("a", 1), ("b", 1)], "b", true),
            counts(&[("b", 1), ("d", 1)], "d", false),
        ];
        assert_eq!(merged(all, 2), page(&[("a", 1), ("b", 2)], Some("b")));
        // Nobody was in the gateway's first channels any more: the page is empty, and not the last.
        assert_eq!(merged(vec![counts(&[], "b", true)], 2), page(&[], Some("b")));
    }

    #[test]
    fn a_page_has_no_more_channels_than_it_may_and_the_rest_follows() {
        let all = vec![
            counts(&[("a", 1), ("c", 1)], "c", true),
            counts(&[("b", 1), ("d", 1)], "d", false),
        ];
        assert_eq!(merged(all, 2), page(&[("a", 1), ("b", 1)], Some("b")));
    }
}
