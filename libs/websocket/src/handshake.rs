//! The opening handshake as the server judges it (RFC 6455 section 4.2): pure functions over a request's head.
//!
//! Whoever speaks HTTP asks [`check`], answers `101 Switching Protocols` with what it returns as
//! `Sec-WebSocket-Accept` (and [`protocol`] as `Sec-WebSocket-Protocol`), or [`Error::status`] and the error's text.

use base64::{
    Engine, alphabet,
    engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD},
};
use http::{
    HeaderMap, Method, StatusCode,
    header::{
        AsHeaderName, CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};
use sha1::{Digest, Sha1};

/// The only version of the protocol there is; a 426 answer says it in `Sec-WebSocket-Version`.
pub const VERSION: &str = "13";

/// What the server adds to the client's key before hashing (section 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Base64 that does not mind what stands in the last character's unused bits: some clients draw the encoded key
/// at random instead of its 16 bytes.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Why a request opens no WebSocket. The display is meant for the person who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The method is not GET.
    #[error("a WebSocket is opened with GET")]
    Method,
    /// There is no `Connection: upgrade` with `Upgrade: websocket`: an ordinary request, or a proxy removed them.
    #[error(
        "this address speaks WebSocket: `Connection: Upgrade` and `Upgrade: websocket` are missing; \
         does a proxy in between pass them on?"
    )]
    NoUpgrade,
    /// `Sec-WebSocket-Version` is missing, repeated or not [`VERSION`].
    #[error("`Sec-WebSocket-Version` must be {VERSION}")]
    Version,
    /// `Sec-WebSocket-Key` is missing, repeated or not 16 bytes in base64.
    #[error("`Sec-WebSocket-Key` must be 16 bytes in base64")]
    Key,
}

impl Error {
    /// The HTTP status of the answer. With 405 goes `Allow: GET`; with 426 go `Upgrade: websocket` and
    /// `Sec-WebSocket-Version: 13`.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoUpgrade | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Key => StatusCode::BAD_REQUEST,
        }
    }
}

/// Checks a request over HTTP/1.1 and returns the value of `Sec-WebSocket-Accept` to answer.
///
/// # Errors
/// With the first of the section's demands that the request misses.
pub fn check(method: &Method, headers: &HeaderMap) -> Result<String, Error> {
    if method != Method::GET {
        return Err(Error::Method);
    }
    if !names(headers, CONNECTION, "upgrade") || !names(headers, UPGRADE, "websocket") {
        return Err(Error::NoUpgrade);
    }
    if single(headers, SEC_WEBSOCKET_VERSION) != Some(VERSION) {
        return Err(Error::Version);
    }
    let key = single(headers, SEC_WEBSOCKET_KEY).ok_or(Error::Key)?;
    match LENIENT.decode(key) {
        Ok(bytes) if bytes.len() == 16 => Ok(accept(key)),
        _ => Err(Error::Key),
    }
}

/// The answer to a client's key: proof that the server speaks WebSocket (section 4.2.2, item 5.4).
#[must_use]
pub fn accept(key: &str) -> String {
    let hash = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    STANDARD.encode(hash)
}

/// The subprotocol to speak: the first in the client's order of preference that is among `offered`, compared
/// exactly. `None` when there is none; then the answer has no `Sec-WebSocket-Protocol` (section 4.2.2, item 5.5).
#[must_use]
pub fn protocol<'a>(headers: &HeaderMap, offered: &[&'a str]) -> Option<&'a str> {
    items(headers, SEC_WEBSOCKET_PROTOCOL)
        .find_map(|wanted| offered.iter().find(|it| **it == wanted).copied())
}

/// Whether a header that lists words has this one, in any case.
fn names(headers: &HeaderMap, header: impl AsHeaderName, word: &str) -> bool {
    items(headers, header).any(|item| item.eq_ignore_ascii_case(word))
}

/// The words of a header that lists them, over all its lines.
fn items(headers: &HeaderMap, header: impl AsHeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(header)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
}

/// The value of a header that may stand only once.
fn single(headers: &HeaderMap, header: impl AsHeaderName) -> Option<&str> {
    let mut lines = headers.get_all(header).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => line.to_str().ok().map(str::trim),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header::HeaderName};

    use super::*;

    fn request() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("WebSocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(
            SEC_WEBSOCKET_KEY,
            HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="),
        );
        headers
    }

    /// What a request answers whose header is replaced by these lines.
    fn with(header: &HeaderName, lines: &[&'static str]) -> Result<String, Error> {
        let mut headers = request();
        headers.remove(header);
        for line in lines {
            headers.append(header, HeaderValue::from_static(line));
        }
        check(&Method::GET, &headers)
    }

    #[test]
    fn the_example_of_the_rfc_is_answered_as_it_says() {
        let answer = check(&Method::GET, &request());
        assert_eq!(answer.as_deref(), Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    #[test]
    fn only_get_opens_a_websocket() {
        let error = check(&Method::POST, &request()).unwrap_err();
        assert_eq!(
            (error, error.status()),
            (Error::Method, StatusCode::METHOD_NOT_ALLOWED)
        );
    }

    #[test]
    fn an_ordinary_request_is_told_to_upgrade() {
        for (header, lines) in [
            (CONNECTION, &[][..]),
            (CONNECTION, &["keep-alive"]),
            (UPGRADE, &[]),
            (UPGRADE, &["h2c"]),
        ] {
            let error = with(&header, lines).unwrap_err();
            assert_eq!(
                (error, error.status()),
                (Error::NoUpgrade, StatusCode::UPGRADE_REQUIRED)
            );
        }
    }

    #[test]
    fn an_upgrade_is_found_among_others_and_on_any_line() {
        assert!(with(&UPGRADE, &["h2c, websocket"]).is_ok());
        assert!(with(&CONNECTION, &["keep-alive", "UPGRADE"]).is_ok());
    }

    #[test]
    fn another_version_is_told_which_one_there_is() {
        for lines in [&[][..], &["8"], &["13", "13"], &["13, 8"]] {
            let error = with(&SEC_WEBSOCKET_VERSION, lines).unwrap_err();
            assert_eq!(
                (error, error.status()),
                (Error::Version, StatusCode::UPGRADE_REQUIRED)
            );
        }
    }

    #[test]
    fn a_key_is_sixteen_bytes_in_base64_and_stands_once() {
        const GOOD: &str = "AQIDBAUGBwgJCgsMDQ4PEC==";
        assert!(with(&SEC_WEBSOCKET_KEY, &[GOOD]).is_ok());
        for lines in [
            &[][..],
            &[""],
            &["short"],
            &["SGVsbG8sIHdvcmxkIQ=="],
            &[GOOD, GOOD],
        ] {
            let error = with(&SEC_WEBSOCKET_KEY, lines).unwrap_err();
            assert_eq!((error, error.status()), (Error::Key, StatusCode::BAD_REQUEST));
        }
    }

    #[test]
    fn the_clients_preference_decides_on_the_subprotocol() {
        let offered = ["centrifuge-json", "centrifuge-protobuf"];
        let choose = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(line));
            }
            protocol(&headers, &offered)
        };
        assert_eq!(
            choose(&["x, centrifuge-protobuf", "centrifuge-json"]),
            Some("centrifuge-protobuf")
        );
        assert_eq!(choose(&["Centrifuge-JSON"]), None);
        assert_eq!(choose(&[]), None);
    }
}
