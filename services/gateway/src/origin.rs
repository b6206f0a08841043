//! Which pages may connect. Browsers send an `Origin`, and only browsers have to be asked for one.

use axum::http::{HeaderMap, header};

/// The origins of `clients.allowed_origins`.
#[derive(Debug)]
pub(crate) struct Origins {
    any: bool,
    exact: Vec<String>,
}

impl Origins {
    pub(crate) fn new(allowed: &[String]) -> Self {
        Self {
            any: allowed.iter().any(|origin| origin == "*"),
            exact: allowed.iter().map(|origin| origin.to_ascii_lowercase()).collect(),
        }
    }

    /// The origin for which a request is refused; `None` when it may pass.
    pub(crate) fn refuses(&self, headers: &HeaderMap) -> Option<String> {
        let origin = headers.get(header::ORIGIN)?;
        let origin = String::from_utf8_lossy(origin.as_bytes()).to_ascii_lowercase();
        (!self.any && !origin.is_empty() && !self.exact.contains(&origin)).then_some(origin)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn passes(allowed: &[&str], origin: &'static str) -> bool {
        let allowed: Vec<_> = allowed.iter().map(|origin| (*origin).to_owned()).collect();
        let headers = HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static(origin))]);
        Origins::new(&allowed).refuses(&headers).is_none()
    }

    #[test]
    fn a_page_passes_only_when_its_origin_is_listed() {
        assert!(passes(&["https://app.example.com"], "https://APP.example.com"));
        assert!(!passes(&["https://app.example.com"], "https://evil.example.com"));
        assert!(!passes(&[], "https://app.example.com"));
        assert!(passes(&["*"], "null"));
    }

    #[test]
    fn a_client_that_is_no_browser_has_no_origin_and_passes() {
        assert!(Origins::new(&[]).refuses(&HeaderMap::new()).is_none());
    }
}
