//! Presence reads are passed on, with the caller's scopes and without its key.

use std::net::{Ipv4Addr, SocketAddr};

use tidings_broker::Broker;
use tidings_core::{Namespace, Namespaces};
use tidings_fanout::Deps;
use tidings_proto::presence::{
    AnnouncedRequest, AnnouncedResponse, GatewayUpdate, ListRequest, ListResponse, Live, LookupRequest,
    LookupResponse, Member, PresenceAck, StatsRequest, StatsResponse, UserPresence, WatchRequest,
    WatchResponse, presence_client::PresenceClient, presence_server, watch_response,
};
use tidings_runtime::{Shutdown, serve};
use tonic::{Code, Request, Response, Status, Streaming, codec::CompressionEncoding, transport};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt as _;

use crate::harness::{Door, insecure, keyed, open_to_all, with};

const KEY: [(&str, &str); 1] = [("x-api-key", "secret-key")];

/// A presence service that knows one member of every channel: whoever asks, with the metadata it came with.
struct Echo;

#[tonic::async_trait]
impl presence_server::Presence for Echo {
    type AttachStream = tokio_stream::Empty<Result<PresenceAck, Status>>;
    type WatchStream = tokio_stream::Once<Result<WatchResponse, Status>>;

    async fn attach(
        &self,
        _: Request<Streaming<GatewayUpdate>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        panic!("never passed on")
    }

    async fn announced(&self, _: Request<AnnouncedRequest>) -> Result<Response<AnnouncedResponse>, Status> {
        panic!("never passed on")
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let metadata = format!("{:?}", request.metadata());
        let request = request.into_inner();
        let member = Member {
            channel: request.channel,
            user: metadata,
            ..Member::default()
        };
        Ok(Response::new(ListResponse {
            incomplete: false,
            members: vec![member],
            next_page_token: request.page_token,
        }))
    }

    async fn stats(&self, _: Request<StatsRequest>) -> Result<Response<StatsResponse>, Status> {
        Err(Status::not_found("as the service says it"))
    }

    async fn lookup(&self, request: Request<LookupRequest>) -> Result<Response<LookupResponse>, Status> {
        let users = request.into_inner().users.into_iter().map(|user| UserPresence {
            user,
            online: true,
            ..UserPresence::default()
        });
        Ok(Response::new(LookupResponse {
            users: users.collect(),
        }))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let live = WatchResponse {
            what: Some(watch_response::What::Live(Live {})),
            token: request.into_inner().token,
        };
        Ok(Response::new(tokio_stream::once(Ok(live))))
    }
}

fn presence_at(address: SocketAddr) -> transport::Channel {
    transport::Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect_lazy()
}

fn echo() -> (transport::Channel, Shutdown) {
    let listener = serve::bind("presence", (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let (address, shutdown) = (listener.local_addr().unwrap(), Shutdown::new());
    let router = tonic::service::Routes::new(presence_server::PresenceServer::new(Echo)).into_axum_router();
    drop(shutdown.spawn(serve::serve(
        listener,
        router,
        serve::Limits::default(),
        shutdown.clone(),
    )));
    (presence_at(address), shutdown)
}

fn list(channel: &str) -> ListRequest {
    ListRequest {
        channel: channel.to_owned(),
        page_size: 10,
        page_token: "next".to_owned(),
    }
}

/// A door's surroundings, with this presence.
fn asking(presence: transport::Channel) -> Deps {
    Deps {
        presence: Some(presence),
        ..open_to_all(&Broker::memory())
    }
}

#[tokio::test]
async fn a_question_may_be_compressed_as_events_may() {
    let (presence, _echo) = echo();
    let door = Door::open_with(asking(presence), &insecure(), &[]);
    let mut client = PresenceClient::new(door.channel().await).send_compressed(CompressionEncoding::Gzip);
    let answer = client.list(list("tasks:1")).await.unwrap().into_inner();
    assert_eq!(answer.next_page_token, "next");
}

#[tokio::test]
async fn a_question_is_passed_on_with_its_trace_and_without_its_key() {
    let (presence, _echo) = echo();
    let door = Door::open_with(asking(presence), &keyed(None, None), &[]);
    let mut client = PresenceClient::new(door.channel().await);
    let traceparent = (
        "traceparent",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    );
    let answer = client
        .list(with(list("tasks:1"), &[KEY[0], traceparent]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.next_page_token, "next");
    assert_eq!(answer.members[0].channel, "tasks:1");
    let metadata = &answer.members[0].user;
    assert!(metadata.contains(traceparent.1), "{metadata}");
    assert!(!metadata.contains("secret-key"), "{metadata}");

    let request = with(
        StatsRequest {
            channel: "tasks:1".to_owned(),
        },
        &KEY,
    );
    let status = client.stats(request).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::NotFound, "as the service says it")
    );
}

#[tokio::test]
async fn who_may_not_publish_to_a_channel_may_not_look_into_it() {
    let (presence, _echo) = echo();
    let door = Door::open_with(asking(presence), &keyed(None, Some(&["tasks:*"])), &[]);
    let mut client = PresenceClient::new(door.channel().await);
    let code = async |client: &mut PresenceClient<_>, channel: &str, metadata: &[_]| {
        client
            .list(with(list(channel), metadata))
            .await
            .map_or_else(|status| status.code(), |_| Code::Ok)
    };
    assert_eq!(code(&mut client, "tasks:1", &KEY).await, Code::Ok);
    assert_eq!(code(&mut client, "user:1", &KEY).await, Code::PermissionDenied);
    assert_eq!(code(&mut client, "", &KEY).await, Code::InvalidArgument);
    assert_eq!(code(&mut client, "tasks:1", &[]).await, Code::Unauthenticated);
}

#[tokio::test]
async fn a_channel_in_a_namespace_that_nobody_configured_is_not_found() {
    let (presence, _echo) = echo();
    let tasks = Namespace {
        name: "tasks".to_owned(),
        ..Namespace::default()
    };
    let deps = Deps {
        namespaces: Namespaces::new(vec![tasks]).unwrap(),
        ..asking(presence)
    };
    let door = Door::open_with(deps, &keyed(None, None), &[]);
    let mut client = PresenceClient::new(door.channel().await);
    client.list(with(list("tasks:1"), &KEY)).await.unwrap();
    let stats = StatsRequest {
        channel: "typo:1".to_owned(),
    };
    for status in [
        client.list(with(list("typo:1"), &KEY)).await.unwrap_err(),
        client.stats(with(stats, &KEY)).await.unwrap_err(),
    ] {
        assert_eq!(status.code(), Code::NotFound, "{status:?}");
        let resource = status.get_details_resource_info().unwrap();
        assert_eq!(
            (&*resource.resource_type, &*resource.resource_name),
            ("namespace", "typo")
        );
    }
}

#[tokio::test]
async fn a_key_for_some_channels_does_not_ask_where_users_are_and_one_for_all_does() {
    for (scope, expected) in [(None, Code::Ok), (Some(&["tasks:*"][..]), Code::PermissionDenied)] {
        let (presence, _echo) = echo();
        let door = Door::open_with(asking(presence), &keyed(None, scope), &[]);
        let mut client = PresenceClient::new(door.channel().await);
        let lookup = LookupRequest {
            users: vec!["ada".to_owned()],
        };
        let found = client.lookup(with(lookup, &KEY)).await;
        let code = found.map_or_else(
            |status| status.code(),
            |found| {
                assert!(found.into_inner().users[0].online);
                Code::Ok
            },
        );
        assert_eq!(code, expected);
        let request = WatchRequest {
            token: "1-2".to_owned(),
            ..WatchRequest::default()
        };
        match client.watch(with(request, &KEY)).await {
            Ok(stream) => {
                let heard = stream.into_inner().message().await.unwrap().unwrap();
                assert_eq!(heard.token, "1-2");
                assert_eq!(expected, Code::Ok);
            }
            Err(status) => assert_eq!(status.code(), expected),
        }
    }
}

#[tokio::test]
async fn gateways_do_not_attach_here() {
    let (presence, _echo) = echo();
    let door = Door::open_with(asking(presence), &insecure(), &[]);
    let mut client = PresenceClient::new(door.channel().await);
    let status = client.attach(tokio_stream::empty()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_presence_service_that_is_away_is_a_temporary_error() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let door = Door::open_with(asking(presence_at(nobody)), &insecure(), &[]);
    let mut client = PresenceClient::new(door.channel().await);
    let status = client.list(list("tasks:1")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.get_details_retry_info().is_some());

    let door = Door::open(&insecure(), &[]);
    let mut client = PresenceClient::new(door.channel().await);
    let status = client.list(list("tasks:1")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("presence.url"), "{}", status.message());
}

#[tokio::test]
async fn health_speaks_of_presence_where_it_is_known() {
    let (presence, _echo) = echo();
    let door = Door::open_with(asking(presence), &keyed(None, None), &[]);
    let request = HealthCheckRequest {
        service: "tidings.presence.v1.Presence".to_owned(),
    };
    let mut client = HealthClient::new(door.channel().await);
    let status = client.check(request).await.unwrap().into_inner().status();
    assert_eq!(status, ServingStatus::Serving);
}
