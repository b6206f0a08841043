//! Where Redis is: at one address, where Sentinels say that the primary is now, or all over a Cluster; and how to connect to
//! it.

use std::{fs, path::Path, sync::Arc};

use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, TlsCertificates,
};

use super::{Config, RedisUrl, sentinel::Sentinels, slots::Address};
use crate::Error;

/// All that a connection needs, whoever makes it.
#[derive(Clone)]
pub(super) struct Place {
    info: ConnectionInfo,
    connection: AsyncConnectionConfig,
    sentinels: Option<Arc<Sentinels>>,
}

impl Place {
    /// Reads the files of TLS; connects to nothing.
    pub(super) fn new(config: &Config) -> Result<Self, Error> {
        let certificates = certificates(config)?;
        let connection = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(config.connect_timeout))
            .set_response_timeout(Some(config.command_timeout));
        let place = |info, sentinels, connection| Self {
            info,
            connection,
            sentinels,
        };
        if let Some(sentinel) = &config.sentinel {
            let nodes = sentinel.nodes.iter().map(|node| {
                let info = secured(node.connection_info()?, certificates.as_ref())?;
                Ok((node.to_string(), info))
            });
            let nodes = nodes.collect::<Result<_, Error>>()?;
            let sentinels = Arc::new(Sentinels::new(&sentinel.master, nodes, connection.clone()));
            let info = secured(sentinel.primary()?, certificates.as_ref())?;
            let connection = connection.set_dns_resolver(sentinels.resolver());
            return Ok(place(info, Some(sentinels), connection));
        }
        // Of a Cluster, whichever node is named first: the others are reached likewise.
        let url = config
            .url
            .as_ref()
            .or(config.cluster.first())
            .ok_or(Error::Setting {
                key: "redis.url",
                why: "is missing",
            })?;
        let info = secured(url.connection_info()?, certificates.as_ref())?;
        Ok(place(info, None, connection))
    }

    /// The same, but for the address.
    pub(super) fn at(&self, address: &Address) -> Self {
        let host = address.host.to_string();
        let addr = match self.info.addr().clone() {
            ConnectionAddr::TcpTls {
                insecure, tls_params, ..
            } => ConnectionAddr::TcpTls {
                host,
                port: address.port,
                insecure,
                tls_params,
            },
            _ => ConnectionAddr::Tcp(host, address.port),
        };
        Self {
            info: self.info.clone().set_addr(addr),
            ..self.clone()
        }
    }

    /// The address that is connected to.
    pub(super) fn address(&self) -> Address {
        match self.info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Address::new(host, *port)
            }
            _ => Address::new("", 0),
        }
    }

    /// Where the nodes of a Cluster are that the configuration names.
    pub(super) fn seeds(config: &Config) -> Result<Vec<Address>, Error> {
        let seed = |url: &RedisUrl| {
            let (host, port) = url.host_and_port()?;
            Ok(Address::new(&host, port))
        };
        config.cluster.iter().map(seed).collect()
    }

    /// What to connect to.
    pub(super) fn info(&self) -> ConnectionInfo {
        self.info.clone()
    }

    /// How to connect: to whatever address is the right one by then, within the timeouts.
    pub(super) fn connection(&self) -> AsyncConnectionConfig {
        self.connection.clone()
    }

    /// Who knows where the primary is; `None` where that does not change.
    pub(super) fn sentinels(&self) -> Option<&Arc<Sentinels>> {
        self.sentinels.as_ref()
    }
}

/// What is said of TLS, read.
fn certificates(config: &Config) -> Result<Option<TlsCertificates>, Error> {
    let read = |key, path: &Path| {
        fs::read(path).map_err(|why| Error::File {
            key,
            path: path.to_owned(),
            why: Arc::new(why),
        })
    };
    let authority = config.ca_file.as_deref();
    let root_cert = authority.map(|path| read("redis.ca_file", path)).transpose()?;
    let client_tls = match (&config.certificate_file, &config.key_file) {
        (Some(certificate), Some(key)) => Some(ClientTlsConfig {
            client_cert: read("redis.certificate_file", certificate)?,
            client_key: read("redis.key_file", key)?,
        }),
        _ => None,
    };
    Ok(
        (root_cert.is_some() || client_tls.is_some()).then_some(TlsCertificates {
            client_tls,
            root_cert,
        }),
    )
}

/// An address with what TLS needs, where it is one for TLS.
fn secured(info: ConnectionInfo, certificates: Option<&TlsCertificates>) -> Result<ConnectionInfo, Error> {
    match (info.addr(), certificates) {
        (redis::ConnectionAddr::TcpTls { .. }, Some(certificates)) => {
            let client = Client::build_with_tls(info, certificates.clone());
            let client = client.map_err(|_| Error::Setting {
                key: "redis.ca_file, redis.certificate_file or redis.key_file",
                why: "has no certificate, or no key, in PEM",
            })?;
            Ok(client.get_connection_info().clone())
        }
        _ => Ok(info),
    }
}
