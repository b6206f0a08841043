//! Where a backend is, as a person wrote it.

use http::Uri;

/// Where a backend is, and which of the two languages it speaks.
pub(super) struct Address {
    /// `http` or `https`, for gRPC too.
    pub(super) uri: Uri,
    /// It speaks gRPC.
    pub(super) grpc: bool,
    pub(super) host: String,
    /// For people: without what stands behind a `?`, which may be a secret.
    pub(super) shown: String,
}

impl Address {
    pub(super) fn parse(endpoint: &str) -> Result<Self, String> {
        let expected = || {
            "expected http://host/path or https://host/path (JSON is posted), grpc://host:port or grpcs://host:port"
                .to_owned()
        };
        let (scheme, rest) = endpoint.split_once("://").ok_or_else(expected)?;
        let (scheme, grpc) = match scheme {
            "http" | "https" => (scheme, false),
            "grpc" => ("http", true),
            "grpcs" => ("https", true),
            _ => return Err(expected()),
        };
        let uri: Uri = format!("{scheme}://{rest}").parse().map_err(|_| expected())?;
        let authority = uri.authority().ok_or_else(expected)?;
        // It is shown in logs.
        if authority.as_str().contains('@') {
            return Err(
                "there is a user or a password in it; put `static_headers = { Authorization = \"…\" }` \
                        beside it instead"
                    .to_owned(),
            );
        }
        if grpc && uri.path() != "/" {
            return Err("a gRPC service is found by host and port alone; remove the path".to_owned());
        }
        Ok(Self {
            grpc,
            host: authority.host().to_owned(),
            shown: endpoint.split('?').next().unwrap_or_default().to_owned(),
            uri,
        })
    }
}
