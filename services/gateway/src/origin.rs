//! Which pages may connect. Browsers send an `Origin`, and only browsers have to be asked for one.
//!
//! An entry of `clients.allowed_origins` is an origin as browsers write it (RFC 6454 section 6.2), and a `*` in it stands for
//! anything: `https://*.example.com`, `http://localhost:*`. The channels' and events' globs go by segments, and an
//! origin's would not: `*.example.com` is to match subdomains of any depth.

use http::{HeaderMap, HeaderValue, header};

/// No origin is longer: a host has 253 bytes at most, beside it are a scheme and a port. So looking costs little.
const LONGEST: usize = 512;

/// The origins of `clients.allowed_origins`.
#[derive(Debug)]
pub(crate) struct Origins {
    any: bool,
    patterns: Vec<Pattern>,
}

/// An entry in lower case, cut at its stars.
#[derive(Debug)]
struct Pattern(Vec<String>);

/// Why no page can have the origin of an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{entry:?} cannot be an origin: {why}")]
pub(crate) struct Impossible {
    entry: String,
    why: &'static str,
}

impl Origins {
    /// # Errors
    /// At the first entry that no page can match.
    pub(crate) fn new(allowed: &[String]) -> Result<Self, Impossible> {
        let mut origins = Self {
            any: false,
            patterns: Vec::new(),
        };
        for entry in allowed {
            if entry == "*" {
                origins.any = true;
                continue;
            }
            let lower = entry.to_ascii_lowercase();
            check(&lower).map_err(|why| Impossible {
                entry: entry.clone(),
                why,
            })?;
            let parts = lower.split('*').map(str::to_owned).collect();
            origins.patterns.push(Pattern(parts));
        }
        Ok(origins)
    }

    /// The origin for which a request is refused; `None` when it may pass.
    pub(crate) fn refuses(&self, headers: &HeaderMap) -> Option<String> {
        let origin = headers.get(header::ORIGIN)?.as_bytes();
        if self.any || origin.is_empty() {
            return None;
        }
        let shown = &origin[..origin.len().min(LONGEST)];
        let lower = String::from_utf8_lossy(shown).to_ascii_lowercase();
        let allowed = origin.len() <= LONGEST && self.patterns.iter().any(|pattern| pattern.matches(&lower));
        (!allowed).then_some(lower)
    }

    /// Whether a browser sends this for a page that did not ask to read the answer, with the user's cookies all the same:
    /// a link, a form, an element such as a picture. None of them has an origin if it is a GET. Whoever may read it, by
    /// `fetch` or as an `EventSource`, has one, or is of our own origin (<https://www.w3.org/TR/fetch-metadata/>).
    pub(crate) fn is_navigation(&self, headers: &HeaderMap) -> bool {
        let is = |name, among: &[&str]| {
            let value: Option<&HeaderValue> = headers.get(name);
            value.is_some_and(|value| among.iter().any(|it| value.as_bytes() == it.as_bytes()))
        };
        !self.any
            && !headers.contains_key(header::ORIGIN)
            && (is("sec-fetch-site", &["cross-site", "same-site"]) || is("sec-fetch-mode", &["navigate"]))
    }
}

impl Pattern {
    fn matches(&self, origin: &str) -> bool {
        let [first, rest @ ..] = &*self.0 else {
            return false;
        };
        let [middle @ .., last] = rest else {
            return origin == first;
        };
        // An entry has the slashes of its `://` alone, so where the origin has no more of them no star stands for one.
        if origin.matches('/').count() > 2 {
            return false;
        }
        let inner = origin
            .strip_prefix(&**first)
            .and_then(|origin| origin.strip_suffix(&**last));
        let Some(mut inner) = inner else {
            return false;
        };
        // Each part at its first place leaves the most for those after it.
        middle.iter().all(|part| match inner.split_once(&**part) {
            Some((_, after)) => {
                inner = after;
                true
            }
            None => false,
        })
    }
}

/// Whether a page can have an origin like this. In lower case.
fn check(entry: &str) -> Result<(), &'static str> {
    // What browsers send for files and sandboxed frames; and Android's web views, for files.
    if matches!(entry, "null" | "file://") {
        return Ok(());
    }
    if entry.len() > LONGEST {
        return Err("it is longer than 512 bytes");
    }
    if !entry.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("browsers send printable ASCII without spaces, and international names as xn--…");
    }
    let Some((scheme, authority)) = entry.split_once("://") else {
        return Err("expected a scheme and a host, such as https://app.example.com");
    };
    let in_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.*".contains(&byte);
    if scheme.is_empty() || !scheme.bytes().all(in_scheme) {
        return Err("expected a scheme such as https before the ://");
    }
    if authority.contains(['/', '?', '#']) {
        return Err("an origin ends with its host and port; leave out what comes after, also the slash");
    }
    if authority.contains('@') {
        return Err("an origin has no user");
    }
    let (host, port) = match authority.rfind(':') {
        // The colons of an IPv6 address stand between brackets.
        Some(at) if !authority[at..].contains(']') => (&authority[..at], Some(&authority[at + 1..])),
        _ => (authority, None),
    };
    if host.is_empty() || (host.contains(':') && !(host.starts_with('[') && host.ends_with(']'))) {
        return Err("expected a host, such as app.example.com, or [::1]");
    }
    match port {
        Some("443") if scheme == "https" => Err("browsers leave the default port out; so must the entry"),
        Some("80") if scheme == "http" => Err("browsers leave the default port out; so must the entry"),
        Some(port) if port.contains('*') => Ok(()),
        Some(port) if port.parse::<u16>().is_err() => Err("expected a port number, or *, after the colon"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn origins(allowed: &[&str]) -> Result<Origins, Impossible> {
        let allowed: Vec<_> = allowed.iter().map(|origin| (*origin).to_owned()).collect();
        Origins::new(&allowed)
    }

    fn passes(allowed: &[&str], origin: &str) -> bool {
        let origin = HeaderValue::from_str(origin).unwrap();
        let headers = HeaderMap::from_iter([(header::ORIGIN, origin)]);
        origins(allowed).unwrap().refuses(&headers).is_none()
    }

    #[test]
    fn a_page_passes_only_when_its_origin_is_listed() {
        assert!(passes(&["https://app.example.com"], "https://APP.example.com"));
        assert!(passes(&["https://APP.example.com"], "https://app.example.com"));
        assert!(!passes(&["https://app.example.com"], "https://evil.example.com"));
        assert!(!passes(
            &["https://app.example.com"],
            "https://app.example.com:8443"
        ));
        assert!(!passes(&["https://app.example.com"], "null"));
        assert!(!passes(&[], "https://app.example.com"));
        assert!(passes(&["*"], "null"));
        assert!(passes(&["null"], "null"));
    }

    #[test]
    fn a_star_stands_for_anything_within_an_origin_and_nothing_beside_it() {
        let sub = &["https://*.example.com"];
        assert!(passes(sub, "https://app.example.com"));
        assert!(passes(sub, "https://a.b.EXAMPLE.com"));
        assert!(!passes(sub, "https://example.com"));
        assert!(!passes(sub, "https://evilexample.com"));
        assert!(!passes(sub, "https://app.example.com.evil.net"));
        assert!(!passes(sub, "http://app.example.com"));
        assert!(!passes(sub, "https://app.example.com:8443"));
        assert!(!passes(sub, "https://evil.net/.example.com"));
        let port = &["http://localhost:*"];
        assert!(passes(port, "http://localhost:3000"));
        assert!(!passes(port, "http://localhost"));
        assert!(!passes(port, "http://localhost.evil.net:3000"));
        let both = &["https://*.example.*:84*"];
        assert!(passes(both, "https://app.example.org:8443"));
        assert!(!passes(both, "https://app.example.org:9443"));
        assert!(passes(&["*://app.example.com"], "capacitor://app.example.com"));
        // A prefix and a suffix must not share what is between them.
        assert!(!passes(&["https://aba*aba.net"], "https://aba.net"));
    }

    #[test]
    fn an_entry_that_no_page_can_match_is_refused_by_name() {
        for entry in [
            "",
            "app.example.com",
            "https://",
            "://app.example.com",
            "https://app.example.com/",
            "https://app.example.com/path",
            "https://user@app.example.com",
            "https://app.example.com:443",
            "http://app.example.com:80",
            "https://app.example.com:",
            "https://app.example.com:http",
            "https://app.example.com:70000",
            "https://app example.com",
            "https://bücher.example",
            "https://::1",
            "https://:443",
        ] {
            let refused = origins(&["*", entry]).map(drop).unwrap_err();
            assert!(
                refused.to_string().starts_with(&format!("{entry:?} cannot be")),
                "{refused}"
            );
        }
        for entry in [
            "https://[::1]:8443",
            "https://[::1]",
            "http://127.0.0.1:*",
            "chrome-extension://*",
            "file://",
        ] {
            assert!(origins(&[entry]).is_ok(), "{entry}");
        }
    }

    #[test]
    fn a_client_that_is_no_browser_has_no_origin_and_passes() {
        assert!(origins(&[]).unwrap().refuses(&HeaderMap::new()).is_none());
    }

    #[test]
    fn what_a_page_of_another_site_fetches_without_reading_it_does_not_pass() {
        let navigation = |allowed: &[&str], sent: &[(&'static str, &'static str)]| {
            let headers = sent
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
            origins(allowed).unwrap().is_navigation(&headers.collect())
        };
        let picture = &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")];
        let link = &[("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")];
        assert!(navigation(&[], picture) && navigation(&[], link));
        assert!(navigation(&[], &[("sec-fetch-site", "same-site")]));
        assert!(!navigation(&["*"], picture), "every page may connect");
        let same = [("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors")];
        assert!(!navigation(&[], &same), "an EventSource of our own origin");
        let other = [
            ("origin", "https://app.example.com"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "cors"),
        ];
        assert!(
            !navigation(&["https://app.example.com"], &other),
            "its origin is judged"
        );
        assert!(!navigation(&[], &[]), "no browser");
    }

    #[test]
    fn an_origin_that_is_too_long_to_be_one_does_not_pass_and_is_not_repeated_whole() {
        let headers = HeaderMap::from_iter([(
            header::ORIGIN,
            HeaderValue::from_str(&format!("https://{}.example.com", "a".repeat(LONGEST))).unwrap(),
        )]);
        let refused = origins(&["https://*.example.com"]).unwrap().refuses(&headers);
        assert_eq!(refused.map(|origin| origin.len()), Some(LONGEST));
    }

    /// A matcher that is right by its looks, and slow.
    fn slowly(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], _) => text.is_empty(),
            ([b'*', pattern @ ..], _) => (0..=text.len()).any(|at| slowly(pattern, &text[at..])),
            ([p, pattern @ ..], [t, text @ ..]) => p == t && slowly(pattern, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn stars_match_as_everywhere(pattern in "[ab*]{1,8}", text in "[ab]{0,10}") {
            let parts = Pattern(pattern.split('*').map(str::to_owned).collect());
            prop_assert_eq!(parts.matches(&text), slowly(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn no_entry_and_no_header_is_too_odd(entry in any::<String>(), origin in any::<Vec<u8>>()) {
            if let (Ok(origins), Ok(origin)) = (origins(&[&entry]), HeaderValue::from_bytes(&origin)) {
                let _ = origins.refuses(&HeaderMap::from_iter([(header::ORIGIN, origin)]));
            }
        }
    }
}
