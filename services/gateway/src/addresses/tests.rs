use http::HeaderValue;
use proptest::{collection::vec, prelude::*};

use super::*;

fn proxies(trusted: &[&str]) -> Result<Proxies, NoNetwork> {
    let trusted: Vec<_> = trusted.iter().map(|entry| (*entry).to_owned()).collect();
    Proxies::new(&trusted)
}

fn headers(lists: &[&str]) -> HeaderMap {
    let value = |list: &&str| HeaderValue::from_str(list).unwrap();
    let name = || http::HeaderName::from_static(FORWARDED);
    lists.iter().map(|list| (name(), value(list))).collect()
}

fn client(trusted: &[&str], peer: &str, lists: &[&str]) -> String {
    let peer = peer.parse().unwrap();
    proxies(trusted)
        .unwrap()
        .client(peer, &headers(lists))
        .to_string()
}

#[test]
fn without_a_trusted_proxy_a_client_is_where_its_connection_comes_from() {
    assert_eq!(client(&[], "1.2.3.4", &["9.9.9.9"]), "1.2.3.4");
    assert_eq!(client(&["10.0.0.0/8"], "1.2.3.4", &["9.9.9.9"]), "1.2.3.4");
    assert_eq!(client(&["10.0.0.0/8"], "10.0.0.1", &[]), "10.0.0.1");
}

#[test]
fn the_last_address_that_no_trusted_proxy_has_is_the_clients() {
    let trusted = &["10.0.0.0/8", "fd00::/8", "192.0.2.7"];
    let from = |lists: &[&str]| client(trusted, "10.0.0.1", lists);
    assert_eq!(from(&["1.2.3.4"]), "1.2.3.4");
    assert_eq!(
        from(&["6.6.6.6, 1.2.3.4"]),
        "1.2.3.4",
        "what stands before it may be forged"
    );
    assert_eq!(from(&["6.6.6.6,1.2.3.4,10.9.9.9 , 192.0.2.7"]), "1.2.3.4");
    assert_eq!(from(&["6.6.6.6", "1.2.3.4, 10.9.9.9", "fd00::1"]), "1.2.3.4");
    assert_eq!(from(&["10.3.3.3, 10.4.4.4"]), "10.3.3.3", "an internal client");
}

#[test]
fn what_cannot_be_read_ends_the_list_at_the_proxy_that_said_it() {
    let from = |list: &str| client(&["10.0.0.0/8"], "10.0.0.1", &[list]);
    assert_eq!(from("1.2.3.4, unknown"), "10.0.0.1");
    assert_eq!(from("1.2.3.4, _hidden, 10.2.2.2"), "10.2.2.2");
    assert_eq!(from("1.2.3.4,"), "10.0.0.1");
}

#[test]
fn addresses_are_read_in_every_form_that_proxies_write() {
    for (written, read) in [
        ("1.2.3.4:5678", "1.2.3.4"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:5678", "2001:db8::1"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
    ] {
        assert_eq!(client(&["10.0.0.0/8"], "10.0.0.1", &[written]), read);
    }
    assert_eq!(
        client(&["10.0.0.0/8"], "::ffff:10.0.0.1", &["1.2.3.4"]),
        "1.2.3.4",
        "a listener on [::] shows IPv4 like this"
    );
}

#[test]
fn an_entry_that_is_no_network_is_refused_by_name() {
    for entry in ["", "10.0.0.0/33", "proxy", "10.0.0/8", "10.0.0.0/8 "] {
        let refused = proxies(&["10.0.0.0/8", entry]).unwrap_err().to_string();
        assert!(
            refused.starts_with(&format!("{entry:?} is no network")),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn an_address_has_as_many_places_as_one_may_and_an_ipv6_network_counts_as_one() {
    let addresses = Addresses::new(proxies(&[]).unwrap(), 2);
    let enter = |peer: &str| addresses.enter(peer.parse().unwrap(), &HeaderMap::new());
    let held = [enter("1.2.3.4").unwrap(), enter("::ffff:1.2.3.4").unwrap()];
    assert!(enter("1.2.3.4").is_err());
    assert!(enter("1.2.3.5").is_ok());
    let _network = [enter("2001:db8::1").unwrap(), enter("2001:db8::ffff:1").unwrap()];
    assert!(enter("2001:db8:0:0:1::").is_err());
    assert!(enter("2001:db8:0:1::").is_ok());
    drop(held);
    assert!(enter("1.2.3.4").is_ok());
}

proptest! {
    #[test]
    fn nothing_in_the_header_is_too_odd(lists in vec(vec(any::<u8>(), 0..60), 0..4)) {
        let name = || http::HeaderName::from_static(FORWARDED);
        let values = lists.iter().filter_map(|list| HeaderValue::from_bytes(list).ok());
        let headers: HeaderMap = values.map(|value| (name(), value)).collect();
        let _ = proxies(&["0.0.0.0/0", "::/0"]).unwrap().client([10, 0, 0, 1].into(), &headers);
    }

    #[test]
    fn nothing_that_a_client_sends_moves_it_elsewhere(
        forged in "([0-9a-f:., ]|10\\.0\\.0\\.1|unknown){0,40}",
        at in any::<u32>().prop_filter("no proxy", |bits| bits >> 24 != 10),
        proxies_between in vec(any::<[u8; 3]>(), 0..4),
    ) {
        let at = IpAddr::from(at.to_be_bytes());
        let mut list = format!("{forged},{at}");
        for [a, b, c] in proxies_between {
            list += &format!(", 10.{a}.{b}.{c}");
        }
        let found = proxies(&["10.0.0.0/8"]).unwrap().client([10, 0, 0, 1].into(), &headers(&[&list]));
        prop_assert_eq!(found, at);
    }
}
