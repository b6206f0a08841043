//! Where the doors are. The clients' door leads; the ports of the others follow it unless they are set.
//!
//! So two nodes on one machine need only `PORT=4000` and `PORT=4010`. `PORT` is the variable that platforms set;
//! it moves the clients' door to another port of the same address, unless our own variable says where the door is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, de::IgnoredAny};
use tidings_runtime::config::{self, Environment, Source};

use crate::{config::RESERVED, failure::Failure};

/// The variable that moves the clients' door.
const PORT: &str = "PORT";

/// The address of every door that a node may open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Doors {
    pub(crate) clients: SocketAddr,
    pub(crate) backends: SocketAddr,
    pub(crate) operators: SocketAddr,
    pub(crate) presence: SocketAddr,
    /// Whether the backends' door speaks TLS.
    pub(crate) tls: bool,
}

/// What the configuration says of the doors, whatever else it says: all of it is checked elsewhere.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Configured {
    clients: Door,
    backends: Door,
    operators: Door,
    presence: Door,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Door {
    listen: Option<SocketAddr>,
    tls: Option<IgnoredAny>,
}

/// The default of the clients' door.
const CLIENTS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8000);

/// Where a door is that is not set: on this host, this far from the clients' port.
struct Unset {
    key: &'static str,
    host: Ipv4Addr,
    distance: u16,
}

const BACKENDS: Unset = Unset {
    key: "backends.listen",
    host: Ipv4Addr::UNSPECIFIED,
    distance: 1000,
};
const PRESENCE: Unset = Unset {
    key: "presence.listen",
    host: Ipv4Addr::UNSPECIFIED,
    distance: 1001,
};
const OPERATORS: Unset = Unset {
    key: "operators.listen",
    host: Ipv4Addr::LOCALHOST,
    distance: 1100,
};

impl Doors {
    /// Reads where the doors are, and nothing else of the configuration.
    pub(crate) fn load(source: &Source) -> Result<Self, Failure> {
        let configured: Configured = config::load(&Source {
            reserved: RESERVED,
            ..source.clone()
        })?;
        // The file's address is moved; one from the environment is meant.
        let ours = configured.clients.listen.is_some() && source.environment.configures("clients.listen");
        let port = if ours { None } else { port(&source.environment)? };
        Self::resolve(&configured, port)
    }

    fn resolve(configured: &Configured, port: Option<u16>) -> Result<Self, Failure> {
        let mut clients = configured.clients.listen.unwrap_or(CLIENTS);
        if let Some(port) = port {
            clients.set_port(port);
        }
        let place = |door: &Door, default: &Unset| match door.listen {
            Some(address) => Ok(address),
            None => default
                .beside(clients.port())
                .map(|port| SocketAddr::from((default.host, port))),
        };
        Ok(Self {
            clients,
            backends: place(&configured.backends, &BACKENDS)?,
            operators: place(&configured.operators, &OPERATORS)?,
            presence: place(&configured.presence, &PRESENCE)?,
            tls: configured.backends.tls.is_some(),
        })
    }

    /// The same ports on loopback, for a node that nobody else may reach.
    pub(crate) fn on_loopback(self) -> Self {
        self.map(|address| {
            let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
            SocketAddr::new(
                if address.ip().is_loopback() {
                    address.ip()
                } else {
                    loopback
                },
                address.port(),
            )
        })
    }

    /// Where a process on the same machine finds them.
    pub(crate) fn reach(self) -> Self {
        self.map(reachable)
    }

    /// The URL of the backends' door.
    pub(crate) fn backends_url(self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.backends)
    }

    fn map(self, place: impl Fn(SocketAddr) -> SocketAddr) -> Self {
        Self {
            clients: place(self.clients),
            backends: place(self.backends),
            operators: place(self.operators),
            presence: place(self.presence),
            tls: self.tls,
        }
    }
}

impl Unset {
    /// The door's port when the clients' port is `lead`. Any free port, when that is any free port.
    fn beside(&self, lead: u16) -> Result<u16, Failure> {
        match lead {
            0 => Ok(0),
            lead => lead.checked_add(self.distance).ok_or_else(|| {
                let Self { key, distance, .. } = self;
                Failure::usage(format!(
                    "`{key}` is not set, and {distance} above the clients' port {lead} there is no port; \
                     set it, or choose a clients' port of at most {}",
                    u16::MAX - distance
                ))
            }),
        }
    }
}

/// The address under which a listener on `address` is found from its own machine.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn port(environment: &Environment) -> Result<Option<u16>, Failure> {
    let wrong = |_| {
        Failure::usage(format!(
            "environment variable {PORT}: expected a port, a whole number from 0 to 65535"
        ))
    };
    environment
        .get(PORT)
        .map(|text| text.trim().parse().map_err(wrong))
        .transpose()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn doors(variables: &[(&str, &str)]) -> Result<[String; 4], String> {
        let environment = variables.iter().copied().collect();
        let source = Source {
            environment,
            ..Source::default()
        };
        match Doors::load(&source) {
            Ok(doors) => {
                Ok([doors.clients, doors.backends, doors.operators, doors.presence]
                    .map(|door| door.to_string()))
            }
            Err(Failure::Usage(message)) => Err(message),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn check(variables: &[(&str, &str)], expected: [&str; 4]) {
        assert_eq!(doors(variables).unwrap(), expected, "{variables:?}");
    }

    #[test]
    fn ports_that_are_not_set_follow_the_clients_port() {
        check(
            &[],
            ["0.0.0.0:8000", "0.0.0.0:9000", "127.0.0.1:9100", "0.0.0.0:9001"],
        );
        check(
            &[("PORT", "4000")],
            ["0.0.0.0:4000", "0.0.0.0:5000", "127.0.0.1:5100", "0.0.0.0:5001"],
        );
        check(
            &[("TIDINGS_CLIENTS__LISTEN", "10.0.0.7:7000")],
            ["10.0.0.7:7000", "0.0.0.0:8000", "127.0.0.1:8100", "0.0.0.0:8001"],
        );
        check(
            &[("PORT", "0")],
            ["0.0.0.0:0", "0.0.0.0:0", "127.0.0.1:0", "0.0.0.0:0"],
        );
    }

    #[test]
    fn the_port_variable_moves_the_files_port_and_no_other_door_that_is_set() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"clients.listen = '10.0.0.7:7000'\nbackends.listen = '10.0.0.8:9000'")
            .unwrap();
        let doors = Doors::load(&Source {
            file: Some(file.path().to_owned()),
            environment: [("PORT", "4000")].into_iter().collect(),
            ..Source::default()
        })
        .unwrap();
        assert_eq!(doors.clients, "10.0.0.7:4000".parse().unwrap());
        assert_eq!(doors.backends, "10.0.0.8:9000".parse().unwrap());
        assert_eq!(doors.operators, "127.0.0.1:5100".parse().unwrap());
    }

    #[test]
    fn the_port_variable_does_not_move_what_our_own_variable_sets() {
        let at_7000 = ["10.0.0.7:7000", "0.0.0.0:8000", "127.0.0.1:8100", "0.0.0.0:8001"];
        for ours in [
            ("TIDINGS_CLIENTS__LISTEN", "10.0.0.7:7000"),
            ("tidings_clients__listen", "10.0.0.7:7000"),
            ("TIDINGS_CLIENTS", "{ listen = '10.0.0.7:7000' }"),
        ] {
            check(&[("PORT", "4000"), ours], at_7000);
        }
        // It says nothing of the door.
        check(
            &[("PORT", "4000"), ("TIDINGS_CLIENTS", "{ cores = 1 }")],
            ["0.0.0.0:4000", "0.0.0.0:5000", "127.0.0.1:5100", "0.0.0.0:5001"],
        );
    }

    #[test]
    fn what_else_the_configuration_says_does_not_matter() {
        check(
            &[("TIDINGS_CLIENTS__NONSENSE", "1"), ("TIDINGS_NONSENSE", "1")],
            ["0.0.0.0:8000", "0.0.0.0:9000", "127.0.0.1:9100", "0.0.0.0:9001"],
        );
    }

    #[test]
    fn a_port_that_is_none_is_refused_by_name() {
        for port in ["http", "65536", "-1", "tcp://10.0.0.1:80"] {
            assert_eq!(
                doors(&[("PORT", port)]).unwrap_err(),
                "environment variable PORT: expected a port, a whole number from 0 to 65535"
            );
        }
        assert_eq!(
            doors(&[("PORT", "65000")]).unwrap_err(),
            "`backends.listen` is not set, and 1000 above the clients' port 65000 there is no port; \
             set it, or choose a clients' port of at most 64535"
        );
    }

    #[test]
    fn a_node_for_its_own_machine_is_on_loopback_and_found_there() {
        let doors = Doors::resolve(&Configured::default(), None).unwrap();
        assert_eq!(doors.reach().backends_url(), "http://127.0.0.1:9000");
        let by_tls = Doors { tls: true, ..doors };
        assert_eq!(by_tls.reach().backends_url(), "https://127.0.0.1:9000");
        assert_eq!(doors.on_loopback().clients, "127.0.0.1:8000".parse().unwrap());
        assert_eq!(doors.reach().backends, "127.0.0.1:9000".parse().unwrap());
        assert_eq!(reachable("[::]:1".parse().unwrap()), "[::1]:1".parse().unwrap());
        assert_eq!(
            reachable("10.0.0.7:1".parse().unwrap()),
            "10.0.0.7:1".parse().unwrap()
        );
    }
}
