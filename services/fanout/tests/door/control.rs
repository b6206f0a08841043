//! Orders about connections, as backends give them; a gateway on the same bus that counts what it hears.

use tidings_broker::{
    Broker,
    redis::{self, RedisUrl},
};
use tidings_core::{Namespace, Namespaces};
use tidings_fanout::Deps;
use tidings_proto::{
    bus::{self, order::What},
    fanout::{self as proto, fanout_client::FanoutClient},
};
use tonic::{Code, Status, transport};
use tonic_types::StatusExt as _;

use crate::gateway::Gateway;
use crate::harness::{Door, insecure, keyed, open_to_all, with};

const KEY: [(&str, &str); 1] = [("x-api-key", "secret-key")];

/// What the gateway was asked to do to ada's connections, as it answers that they are so many.
async fn asked(gateway: &mut Gateway, affected: u32) -> What {
    let order = gateway.answer(affected).await;
    assert_eq!(order.clients.unwrap().user, "ada");
    order.what.unwrap()
}

fn ada() -> Option<proto::Clients> {
    Some(proto::Clients {
        user: "ada".to_owned(),
        ..proto::Clients::default()
    })
}

fn subscribe(channel: &str) -> proto::SubscribeRequest {
    proto::SubscribeRequest {
        clients: ada(),
        channel: channel.to_owned(),
        ..proto::SubscribeRequest::default()
    }
}

fn disconnect() -> proto::DisconnectRequest {
    proto::DisconnectRequest {
        clients: ada(),
        ..proto::DisconnectRequest::default()
    }
}

async fn client(door: &Door) -> FanoutClient<transport::Channel> {
    FanoutClient::new(door.channel().await)
}

/// The fields that a refusal names.
fn fields(refused: &Status) -> Vec<String> {
    let details = refused.get_details_bad_request().unwrap();
    let violations = details.field_violations.into_iter();
    violations.map(|violation| violation.field).collect()
}

#[tokio::test]
async fn an_order_is_carried_out_by_gateways_and_answered_with_their_sum() {
    let broker = Broker::memory();
    let door = Door::open_with(open_to_all(&broker), &insecure(), &[]);
    let (mut client, mut gateway) = (client(&door).await, Gateway::start(&broker).await);
    let (answer, what) = tokio::join!(client.disconnect(disconnect()), asked(&mut gateway, 2));
    let expected = proto::ControlResponse {
        affected: 2,
        complete: true,
    };
    assert_eq!(answer.unwrap().into_inner(), expected);
    assert!(matches!(
        what,
        What::Disconnect(bus::Disconnect { code: 3503, .. })
    ));

    let (answer, what) = tokio::join!(client.subscribe(subscribe("news:1")), asked(&mut gateway, 0));
    assert_eq!(answer.unwrap().into_inner().affected, 0);
    assert!(matches!(what, What::Subscribe(what) if what.channel == "news:1"));

    let request = proto::UnsubscribeRequest {
        clients: ada(),
        channel: "news:1".to_owned(),
        ..proto::UnsubscribeRequest::default()
    };
    let (answer, what) = tokio::join!(client.unsubscribe(request), asked(&mut gateway, 1));
    assert_eq!(answer.unwrap().into_inner().affected, 1);
    assert!(matches!(
        what,
        What::Unsubscribe(bus::Unsubscribe { code: 2000, .. })
    ));

    let request = proto::RefreshRequest {
        clients: ada(),
        expired: true,
        ..proto::RefreshRequest::default()
    };
    let (answer, what) = tokio::join!(client.refresh(request), asked(&mut gateway, 1));
    assert_eq!(answer.unwrap().into_inner().affected, 1);
    let now = Some(bus::Expiry { after_ms: 0 });
    assert!(matches!(what, What::Refresh(bus::Refresh { expiry, .. }) if expiry == now));

    let request = proto::SendRequest {
        clients: ada(),
        data: "{}".into(),
        ..proto::SendRequest::default()
    };
    let (answer, what) = tokio::join!(client.send(request), asked(&mut gateway, 1));
    assert_eq!(answer.unwrap().into_inner().affected, 1);
    assert!(matches!(what, What::Send(bus::Send { data, binary: false }) if data == "{}"));

    let metrics = door.metrics();
    let counted = r#"orders_total{method="Disconnect",result="complete"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test]
async fn what_is_wrong_with_an_order_is_named_by_field() {
    let door = Door::open(&insecure(), &[]);
    let mut client = client(&door).await;
    let request = proto::DisconnectRequest {
        code: 7,
        ..proto::DisconnectRequest::default()
    };
    let refused = client.disconnect(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(fields(&refused), ["code", "clients"]);
    let refused = client.subscribe(subscribe("a b")).await.unwrap_err();
    assert_eq!(fields(&refused), ["channel"]);
}

#[tokio::test]
async fn a_key_for_some_channels_does_nothing_elsewhere_nor_to_whole_connections() {
    let door = Door::open(&keyed(None, Some(&["news:*"])), &[]);
    let mut narrow = client(&door).await;
    assert!(narrow.subscribe(with(subscribe("news:1"), &KEY)).await.is_ok());
    let refused = narrow.subscribe(with(subscribe("other:1"), &KEY)).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    let refused = narrow.disconnect(with(disconnect(), &KEY)).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    let refused = narrow.disconnect(disconnect()).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);

    let door = Door::open(&keyed(None, None), &[]);
    let mut wide = client(&door).await;
    assert!(wide.disconnect(with(disconnect(), &KEY)).await.is_ok());
}

#[tokio::test]
async fn nobody_is_subscribed_to_a_channel_whose_namespace_is_not_configured() {
    let news = Namespace {
        name: "news".to_owned(),
        ..Namespace::default()
    };
    let deps = Deps {
        namespaces: Namespaces::new(vec![news]).unwrap(),
        ..open_to_all(&Broker::memory())
    };
    let door = Door::open_with(deps, &insecure(), &[]);
    let mut client = client(&door).await;
    assert!(client.subscribe(subscribe("news:1")).await.is_ok());
    let refused = client.subscribe(subscribe("other:1")).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert_eq!(
        refused.get_details_resource_info().unwrap().resource_name,
        "other"
    );
}

#[tokio::test]
async fn an_order_while_the_bus_is_away_is_worth_another_try() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = RedisUrl::parse(&format!("redis://{nobody}")).unwrap();
    let broker = Broker::redis(&redis::Config::new(url)).unwrap();
    let door = Door::open_with(open_to_all(&broker), &insecure(), &[]);
    let refused = client(&door).await.disconnect(disconnect()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.get_details_retry_info().is_some());
}
