//! Routes as tables.

use std::{collections::BTreeMap, time::UNIX_EPOCH};

use super::*;
use crate::payload::Payload;

fn route(event: &str, channels: &[&str], payload: Payload) -> Route {
    Route {
        event: event.to_owned(),
        channels: channels.iter().map(|&text| text.to_owned()).collect(),
        payload,
        ..Route::default()
    }
}

fn event(kind: &str, data: &'static str) -> Event {
    Event {
        id: "e1".to_owned(),
        kind: kind.to_owned(),
        source: String::new(),
        subject: None,
        time: UNIX_EPOCH,
        data_content_type: "application/json".to_owned(),
        data: data.into(),
        attributes: BTreeMap::from([("tenant".to_owned(), "acme".to_owned())]),
        tags: BTreeMap::new(),
    }
}

fn names(routes: &Routes, event: &Event) -> Vec<(String, Payload)> {
    let targets = routes.targets(event).unwrap();
    targets
        .into_iter()
        .map(|target| (target.channel.to_string(), target.form.payload))
        .collect()
}

#[test]
fn every_matching_route_has_its_say_and_a_channel_hears_once() {
    let routes = Routes::compile(&[
        route("task.*", &["tasks:{tenant}", "user:{data.owner}"], Payload::Event),
        route("task.created", &["new", "tasks:{tenant}"], Payload::Data),
        route("**", &["audit"], Payload::Event),
    ])
    .unwrap();
    let owned = |names: &[(&str, Payload)]| -> Vec<(String, Payload)> {
        names
            .iter()
            .map(|&(name, payload)| (name.to_owned(), payload))
            .collect()
    };
    assert_eq!(
        names(&routes, &event("task.created", r#"{"owner": ["ann", "ann"]}"#)),
        owned(&[
            ("tasks:acme", Payload::Event),
            ("user:ann", Payload::Event),
            ("new", Payload::Data),
            ("audit", Payload::Event),
        ])
    );
    assert_eq!(
        names(&routes, &event("bill.paid", "")),
        owned(&[("audit", Payload::Event)])
    );
}

#[test]
fn an_event_that_no_route_matches_has_no_channels() {
    let routes = Routes::compile(&[route("task.*", &["a"], Payload::Event)]).unwrap();
    assert_eq!(routes.targets(&event("bill.paid", "")), Ok(vec![]));
    assert_eq!(Routes::default().targets(&event("bill.paid", "")), Ok(vec![]));
}

#[test]
fn an_event_that_lacks_what_its_route_needs_is_refused_as_a_whole() {
    let routes = Routes::compile(&[
        route("**", &["audit"], Payload::Event),
        route("task.*", &["user:{data.owner}"], Payload::Event),
    ])
    .unwrap();
    let error = routes.targets(&event("task.created", "{}")).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"route 2 ("task.*"), channel "user:{data.owner}": the event has no data.owner"#
    );
}

#[test]
fn routes_together_reach_a_bounded_number_of_channels() {
    let list: Vec<usize> = (0..MAX_CHANNELS).collect();
    let data = serde_json::to_string(&serde_json::json!({ "to": list })).unwrap();
    let event = Event {
        data: data.into(),
        ..event("a", "")
    };
    let one = route("a", &["x:{data.to}"], Payload::Event);
    let other = route("a", &["y"], Payload::Event);
    assert!(
        Routes::compile(std::slice::from_ref(&one))
            .unwrap()
            .targets(&event)
            .is_ok()
    );
    assert_eq!(
        Routes::compile(&[one, other]).unwrap().targets(&event),
        Err(Error::TooMany)
    );
}

#[test]
fn a_wrong_route_is_named_by_its_number() {
    let refused = |routes: &[Route]| Routes::compile(routes).unwrap_err().to_string();
    let good = route("a", &["x"], Payload::Event);
    assert_eq!(
        refused(&[good.clone(), route("a..b", &["x"], Payload::Event)]),
        r#"route 2: event: pattern "a..b" has an empty segment"#
    );
    assert_eq!(
        refused(&[good.clone(), route("a", &[], Payload::Event)]),
        r#"route 2 ("a") names no channels"#
    );
    assert_eq!(
        refused(&[good, route("a", &["x", "x:{"], Payload::Event)]),
        r#"route 2 ("a"): channel "x:{": the braces do not match at byte 2"#
    );
}
