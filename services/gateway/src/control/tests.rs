//! What is no message of ours is refused, whatever it is.

use proptest::prelude::*;
use tidings_proto::bus::order::What as Wire;

use super::*;

fn encoded(body: Body) -> Bytes {
    bus::Control { body: Some(body) }.encode_to_vec().into()
}

fn order(clients: bus::Clients, what: Option<Wire>) -> Bytes {
    encoded(Body::Order(bus::Order {
        id: 7,
        asker: "asker".to_owned(),
        clients: Some(clients),
        what,
    }))
}

fn ada() -> bus::Clients {
    bus::Clients {
        user: "ada".to_owned(),
        ..bus::Clients::default()
    }
}

fn disconnect(code: u32) -> Option<Wire> {
    Some(Wire::Disconnect(bus::Disconnect {
        code,
        ..bus::Disconnect::default()
    }))
}

#[test]
fn what_the_vocabulary_forbids_is_refused() {
    let check = |message: Bytes, expected: &str| {
        let error = decode(message).err().expect("a refusal").to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(Bytes::from_static(b"\xff"), "no tidings.bus.v1.Control");
    check(Bytes::new(), "says nothing");
    check(encoded(Body::Answer(bus::Answer::default())), "not asked");
    check(encoded(Body::Report(bus::Report::default())), "not asked");
    check(encoded(Body::Survey(bus::Survey::default())), "says nothing");
    check(encoded(Body::Emulate(bus::Emulate::default())), "session");
    check(order(ada(), None), "says nothing");
    check(order(bus::Clients::default(), disconnect(3503)), "for nobody");
    check(order(ada(), disconnect(1000)), "code 1000");
    check(order(ada(), disconnect(70_000)), "code 70000");
    let client = bus::Clients {
        client: "7".to_owned(),
        ..ada()
    };
    check(order(client, disconnect(3503)), "no UUID");
    let session = bus::Clients {
        session: "7".to_owned(),
        ..ada()
    };
    check(order(session, disconnect(3503)), "session");
    check(
        order(ada(), Some(Wire::Subscribe(bus::Subscribe::default()))),
        "channel name is empty",
    );
    check(
        order(ada(), Some(Wire::Unsubscribe(bus::Unsubscribe::default()))),
        "channel name is empty",
    );
}

#[test]
fn an_order_that_says_no_more_than_it_must_is_one() {
    let Ok(Told::Order { id: 7, asker, order }) = decode(order(ada(), disconnect(3503))) else {
        panic!("an order was sent");
    };
    assert_eq!(asker, "asker");
    assert!(matches!(order.what, What::Disconnect(reason) if reason.code() == 3503));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(message: Vec<u8>) {
        let _ = decode(message.into());
    }

    #[test]
    fn damaged_orders_never_panic(at: prop::sample::Index, byte: u8) {
        let mut message = order(ada(), disconnect(3503)).to_vec();
        let at = at.index(message.len());
        message[at] = byte;
        let _ = decode(message.into());
    }
}
