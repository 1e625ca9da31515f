//! What may be shown of secrets and URLs: in messages, in logs, in `Debug` output.

use std::fmt;

use url::Url;

/// A text that no message, log or `Debug` output shows.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself, for a header or a form and nothing else.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A URL as messages show it: without user name and password, and without the query, which holds signatures and
/// upload states as often as anything that helps a reader.
#[derive(Clone, PartialEq, Eq)]
pub struct ShownUrl(String);

impl From<&Url> for ShownUrl {
    fn from(url: &Url) -> Self {
        let mut text = format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
        if let Some(port) = url.port() {
            text.push_str(&format!(":{port}"));
        }
        text.push_str(url.path());
        if url.query().is_some_and(|query| !query.is_empty()) {
            text.push_str("?…");
        }
        ShownUrl(text)
    }
}

impl fmt::Display for ShownUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ShownUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Text from a registry, cut to what fits into a message and without characters that would move a cursor.
pub(crate) fn shortened(text: &str) -> String {
    const LIMIT: usize = 300;
    let mut short: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(LIMIT).collect();
    if text.trim().chars().nth(LIMIT).is_some() {
        short.push('…');
    }
    short
}

/// Whether two URLs have the same origin: RFC 6454, section 5.
pub(crate) fn same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host() == other.host()
        && one.port_or_known_default() == other.port_or_known_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn shown_urls_hide_what_gives_access() {
        let url: Url = "https://user:secret@a.example:444/v2/x?X-Amz-Signature=secret#secret".parse().unwrap();
        assert_eq!(ShownUrl::from(&url).to_string(), "https://a.example:444/v2/x?…");
        assert!(!format!("{:?}", Secret::new("hidden")).contains("hidden"));
    }

    #[test]
    fn origins_have_three_parts() {
        let same = |one: &str, other: &str| same_origin(&one.parse().unwrap(), &other.parse().unwrap());
        assert!(same("https://a.example/x", "https://A.example:443/y?z"));
        assert!(!same("https://a.example/", "http://a.example/"));
        assert!(!same("https://a.example/", "https://a.example:444/"));
        assert!(!same("https://a.example/", "https://a.example./"));
        assert!(!same("https://a.example/", "https://a.example.evil.example/"));
    }

    #[test]
    fn texts_of_registries_are_tamed() {
        assert_eq!(shortened(" a\x1b[31mb\n"), "a [31mb");
        assert_eq!(shortened(&"x".repeat(1000)).chars().count(), 301);
    }
}
