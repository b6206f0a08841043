//! What runs out: subscriptions, and connections that the user's backend renews.

use std::time::Duration;

use bytes::Bytes;
use tidings_protocol::{CloseReason, Error, Reply, Request, reply::UnsubscribeReason};

use super::fixture::*;
use crate::{Action, Answer, Evidence, Grant, Identity, Refusal, Renewal, RenewedBy, Rules};

fn renewed_by_backend() -> Fixture {
    let minute = Identity {
        expiry: expiry(60, RenewedBy::Backend),
        ..identity("ada")
    };
    connected_as(minute, with_backend())
}

fn renew(client: &mut Fixture, result: Result<Renewal, Refusal>) -> Vec<Action> {
    client.answer(Answer::Renewed { result })
}

fn for_seconds(seconds: u64) -> Renewal {
    Renewal {
        expires_in: Some(Duration::from_secs(seconds)),
        info: None,
    }
}

fn sub_refresh(name: &str, token: &str) -> Request {
    Request::SubRefresh {
        channel: name.into(),
        token: token.into(),
    }
}

/// In a channel for a minute, in a session that does not ping.
fn subscribed(renewed_by: RenewedBy) -> Fixture {
    let mut client = connected(with_backend(), "ada");
    client.enter_by("asked:1", grant(60, renewed_by));
    client
}

fn unsubscribed(name: &str, reason: UnsubscribeReason) -> Action {
    Action::Reply(Reply::Unsubscribed {
        channel: channel(name),
        reason,
    })
}

#[test]
fn the_backend_is_asked_once_when_a_connection_expires_and_its_answer_counts() {
    let mut client = renewed_by_backend();
    assert_eq!(
        client.session.deadline(),
        Some(client.now + Duration::from_secs(60))
    );
    assert_eq!(client.wait(59), []);
    let asked = client.wait(1);
    assert!(matches!(&asked[..], [Action::Renew { info }] if &*info.user == "ada"));
    assert_eq!(client.wait(20), [], "one question at a time");
    let info = Bytes::from_static(b"{}");
    let renewal = Renewal {
        info: Some(info.clone()),
        ..for_seconds(60)
    };
    assert_eq!(renew(&mut client, Ok(renewal)), [], "the client is told nothing");
    assert_eq!(client.wait(59), []);
    let asked = client.wait(1);
    assert!(matches!(&asked[..], [Action::Renew { info: told }] if told.conn_info == info));
    assert_eq!(renew(&mut client, Ok(Renewal::default())), []);
    assert_eq!(client.wait(10_000), [], "good for ever");
}

#[test]
fn a_backend_that_is_away_is_asked_again_but_not_for_ever() {
    let mut client = renewed_by_backend();
    let mut asked = 0;
    let end = (0..100).find_map(|_| match &client.wait(1)[..] {
        [] => None,
        [Action::Renew { .. }] => {
            asked += 1;
            renew(&mut client, Err(Refusal::Unavailable));
            None
        }
        other => Some((close_code(other), client.now)),
    });
    assert_eq!(end.map(|it| it.0), Some(3005));
    assert_eq!(asked, 5);
}

#[test]
fn a_backend_that_never_answers_ends_the_connection() {
    let mut client = renewed_by_backend();
    assert_eq!(client.wait(60).len(), 1);
    assert_eq!(client.wait(24), []);
    assert_eq!(close_code(&client.wait(1)), 3005);
}

#[test]
fn a_process_that_stood_still_has_not_used_up_the_backends_time() {
    let mut client = renewed_by_backend();
    assert!(matches!(client.wait(1000)[..], [Action::Renew { .. }]));
    assert_eq!(client.wait(24), []);
    assert_eq!(renew(&mut client, Ok(for_seconds(60))), []);
}

#[test]
fn a_backend_that_refuses_ends_the_connection() {
    let refused = |refusal| {
        let mut client = renewed_by_backend();
        client.wait(60);
        renew(&mut client, Err(refusal))
    };
    assert_eq!(close_code(&refused(Refusal::Expired)), 3005);
    assert_eq!(
        close_code(&refused(Refusal::Error(Error::PERMISSION_DENIED))),
        3005
    );
    assert_eq!(
        close_code(&refused(Refusal::Close(CloseReason::ForceDisconnect))),
        3503
    );
    assert_eq!(refused(Refusal::Error(Error::INTERNAL)), [], "it may try again");
}

#[test]
fn a_renewal_for_no_time_at_all_is_a_refusal_and_one_for_hardly_any_is_for_a_second() {
    let mut client = renewed_by_backend();
    client.wait(60);
    assert_eq!(close_code(&renew(&mut client, Ok(for_seconds(0)))), 3005);

    let mut client = renewed_by_backend();
    client.wait(60);
    let hardly = Renewal {
        expires_in: Some(Duration::from_millis(1)),
        info: None,
    };
    renew(&mut client, Ok(hardly));
    assert_eq!(
        client.session.deadline(),
        Some(client.now + Duration::from_secs(1))
    );

    let mut client = subscribed(RenewedBy::Backend);
    client.wait(60);
    let none = client.authorize(0, "asked:1", Ok(grant(0, RenewedBy::Backend)));
    assert_eq!(none[0], unsubscribed("asked:1", UnsubscribeReason::EXPIRED));
}

#[test]
fn a_subscription_that_was_not_renewed_ends_after_its_grace_and_the_client_subscribes_again() {
    let mut client = subscribed(RenewedBy::Client);
    assert_eq!(client.wait(84), []);
    assert_eq!(
        client.wait(1),
        [
            unsubscribed("asked:1", UnsubscribeReason::EXPIRED),
            leave("asked:1", false)
        ]
    );
    assert!(!client.is_in("asked:1"));
    assert_eq!(client.wait(1000), []);
}

#[test]
fn a_subscription_that_the_client_did_not_ask_for_ends_with_the_connection() {
    let granted = *grant(60, RenewedBy::Client);
    let minute = Identity {
        channels: vec![(channel("tasks:1"), granted)],
        ..identity("ada")
    };
    let mut client = connected_as(minute, with_backend());
    client.confirm(1, "tasks:1");
    assert_eq!(client.wait(84), []);
    let actions = client.wait(1);
    assert_eq!(actions[0], leave("tasks:1", true));
    assert_eq!(close_code(&actions), 3006);
}

#[test]
fn a_client_renews_its_subscription_with_a_newer_token() {
    let mut client = subscribed(RenewedBy::Client);
    client.wait(70);
    let asked = client.send(sub_refresh("asked:1", "newer"));
    let [Action::Reauthorize { id: 3, by, .. }] = &asked[..] else {
        panic!("{asked:?}")
    };
    assert_eq!(*by, Evidence::Token("newer".into()));
    let expires_in = Some(Duration::from_secs(60));
    assert_eq!(
        client.authorize(3, "asked:1", Ok(grant(60, RenewedBy::Client))),
        [Action::Reply(Reply::SubRefresh { id: 3, expires_in })]
    );
    assert_eq!(client.wait(84), []);
    assert_eq!(client.wait(1).len(), 2);
}

#[test]
fn every_refusal_of_a_sub_refresh_has_its_answer() {
    let refused = |refusal| {
        let mut client = subscribed(RenewedBy::Client);
        client.send(sub_refresh("asked:1", "newer"));
        client.authorize(3, "asked:1", Err(refusal))
    };
    assert_eq!(error_code(&refused(Refusal::Expired)), 109);
    assert_eq!(error_code(&refused(Refusal::Unavailable)), 100);
    assert_eq!(close_code(&refused(Refusal::Invalid)), 3500);
    assert_eq!(close_code(&refused(Refusal::Mismatch)), 3500);

    let mut client = subscribed(RenewedBy::Client);
    assert_eq!(error_code(&client.send(sub_refresh("tasks:1", "newer"))), 103);
    assert_eq!(error_code(&client.send(sub_refresh("asked:1", ""))), 107);
    client.send(sub_refresh("asked:1", "newer"));
    let past = client.authorize(5, "asked:1", Ok(grant(0, RenewedBy::Client)));
    assert_eq!(error_code(&past), 110, "never for ever");

    let mut client = subscribed(RenewedBy::Backend);
    assert_eq!(close_code(&client.send(sub_refresh("asked:1", "newer"))), 3501);
}

#[test]
fn a_sub_refresh_that_comes_too_late_is_refused() {
    let mut client = subscribed(RenewedBy::Client);
    client.send(sub_refresh("asked:1", "newer"));
    assert_eq!(client.wait(85).len(), 2, "it has run out meanwhile");
    let actions = client.authorize(3, "asked:1", Ok(grant(60, RenewedBy::Client)));
    assert_eq!(error_code(&actions), 103);
}

#[test]
fn the_backend_is_asked_when_a_subscription_of_its_own_expires() {
    let mut client = subscribed(RenewedBy::Backend);
    let ask = |client: &Fixture| {
        [Action::Reauthorize {
            id: 0,
            channel: channel("asked:1"),
            info: tidings_core::ClientInfo {
                chan_info: Bytes::new(),
                ..client_info(client)
            },
            by: Evidence::Backend(tidings_core::Payload::default()),
        }]
    };
    assert_eq!(client.wait(59), []);
    assert_eq!(client.wait(1), ask(&client));
    assert_eq!(client.wait(10), []);
    assert_eq!(client.authorize(0, "asked:1", Err(Refusal::Unavailable)), []);
    assert_eq!(client.wait(5), ask(&client), "once more");
    assert_eq!(
        client.authorize(0, "asked:1", Ok(grant(60, RenewedBy::Backend))),
        []
    );
    assert_eq!(client.wait(60), ask(&client));
    let no = client.authorize(0, "asked:1", Err(Refusal::Expired));
    assert_eq!(no[0], unsubscribed("asked:1", UnsubscribeReason::EXPIRED));
    assert!(!client.is_in("asked:1"));
}

fn client_info(client: &Fixture) -> tidings_core::ClientInfo {
    tidings_core::ClientInfo {
        user: "ada".into(),
        client: client.session.client(),
        conn_info: Bytes::new(),
        chan_info: Bytes::new(),
    }
}

#[test]
fn the_answer_about_a_subscription_that_is_gone_changes_nothing() {
    let mut client = subscribed(RenewedBy::Backend);
    client.wait(60);
    client.send(unsubscribe("asked:1"));
    client.enter_by("asked:1", grant(60, RenewedBy::Client));
    assert_eq!(client.authorize(0, "asked:1", Err(Refusal::Expired)), []);
    assert!(client.is_in("asked:1"));
}

#[test]
fn where_nobody_can_be_asked_a_subscription_ends_after_its_grace() {
    let mut client = connected(with_backend(), "ada");
    client.enter_by("tasks:1", grant(60, RenewedBy::Backend));
    assert_eq!(client.wait(84), []);
    assert_eq!(
        client.wait(1)[0],
        unsubscribed("tasks:1", UnsubscribeReason::EXPIRED)
    );
}

#[test]
fn a_subscription_keeps_its_info_when_a_renewal_brings_none() {
    let mut client = connected(with_backend(), "ada");
    let info = Bytes::from_static(b"{}");
    let granted = Grant {
        info: info.clone(),
        ..*grant(60, RenewedBy::Client)
    };
    client.enter_by("tasks:1", Box::new(granted));
    client.send(sub_refresh("tasks:1", "newer"));
    client.authorize(3, "tasks:1", Ok(Box::default()));
    let Action::Publish { info: publisher, .. } = &client.send(publish("tasks:1"))[0] else {
        panic!("a subscriber may publish")
    };
    assert_eq!(publisher.chan_info, info);
    assert_eq!(client.wait(10_000), [], "good for ever");
}

#[test]
fn of_several_subscriptions_the_first_to_expire_is_due_first() {
    let mut client = connected(with_backend(), "ada");
    client.enter_by("tasks:1", grant(100, RenewedBy::Client));
    client.enter_by("tasks:2", grant(10, RenewedBy::Client));
    let start = client.now;
    let due = |client: &Fixture| client.session.deadline().unwrap() - start;
    assert_eq!(due(&client), Duration::from_secs(35));
    client.wait(35);
    assert_eq!(due(&client), Duration::from_secs(125));
    assert!(client.is_in("tasks:1") && !client.is_in("tasks:2"));
}

#[test]
fn where_nothing_is_checked_nothing_expires() {
    let insecure = Rules {
        insecure: true,
        ..with_backend()
    };
    let minute = Identity {
        expiry: expiry(60, RenewedBy::Client),
        ..identity("ada")
    };
    let mut client = connected_as(minute, insecure);
    client.enter_by("tasks:1", grant(60, RenewedBy::Client));
    assert_eq!(client.wait(1000), []);
}
