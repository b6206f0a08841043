//! The variables by which Kubernetes tells a pod of the services around it: not ours, though they may look it.
//!
//! A service `tidings-gateway` gives every pod of its namespace `TIDINGS_GATEWAY_SERVICE_HOST`,
//! `TIDINGS_GATEWAY_SERVICE_PORT`, one `…_SERVICE_PORT_NAME` for each named port, and the links that Docker once made:
//! `TIDINGS_GATEWAY_PORT`, `TIDINGS_GATEWAY_PORT_9000_TCP` and its `_ADDR`, `_PORT` and `_PROTO`. Source: "Accessing
//! the Service", Kubernetes documentation.

/// Whether `name` has the shape of such a variable. One with `__` in it names a nested key, and is ours.
pub(super) fn is(name: &str) -> bool {
    if name.contains("__") {
        return false;
    }
    if name.ends_with("_SERVICE_HOST") || name.ends_with("_SERVICE_PORT") || name.ends_with("_PORT") {
        return true;
    }
    name.contains("_SERVICE_PORT_")
        || name
            .match_indices("_PORT_")
            .any(|(at, port)| is_link(&name[at + port.len()..]))
}

/// Whether this is what follows `_PORT_` in a link: `9000_TCP`, `9000_TCP_ADDR`.
fn is_link(rest: &str) -> bool {
    let mut parts = rest.split('_');
    let number = parts.next().is_some_and(|number| number.parse::<u16>().is_ok());
    let protocol = matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"));
    let part = matches!(parts.next(), None | Some("ADDR" | "PORT" | "PROTO"));
    number && protocol && part && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_sets_for_a_service_is_told_by_its_shape() {
        for name in [
            "TIDINGS_SERVICE_HOST",
            "TIDINGS_SERVICE_PORT",
            "TIDINGS_SERVICE_PORT_HTTP",
            "TIDINGS_PORT",
            "TIDINGS_PORT_8000_TCP",
            "TIDINGS_PORT_8000_TCP_ADDR",
            "TIDINGS_GATEWAY_SERVICE_HOST",
            "TIDINGS_GATEWAY_SERVICE_PORT_CLIENTS_WS",
            "TIDINGS_GATEWAY_PORT",
            "TIDINGS_GATEWAY_PORT_9000_TCP_PROTO",
            "TIDINGS_GATEWAY_PORT_9000_UDP_PORT",
            "TIDINGS_GATEWAY_PORT_9000_SCTP",
            "TIDINGS_PORT_8000_PORT_9000_TCP",
        ] {
            assert!(is(name), "{name}");
        }
    }

    #[test]
    fn what_has_another_shape_is_ours() {
        for name in [
            "TIDINGS_CLIENTS",
            "TIDINGS_CLIENTS__LISTEN",
            "TIDINGS_CLIENTS__SERVICE_HOST",
            "TIDINGS_CLIENTS__PORT",
            "TIDINGS_SERVICE",
            "TIDINGS_PORTS",
            "TIDINGS_PORT_HTTP",
            "TIDINGS_PORT_8000",
            "TIDINGS_PORT_8000_TLS",
            "TIDINGS_PORT_8000_TCP_NAME",
            "TIDINGS_PORT_8000_TCP_ADDR_2",
        ] {
            assert!(!is(name), "{name}");
        }
    }
}
