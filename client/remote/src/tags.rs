//! The list of a repository's tags, page by page.

use std::collections::HashSet;

use cove_oci::Tag;
use http::{HeaderMap, Method, header};
use serde::Deserialize;
use url::Url;

use crate::endpoint::Request;
use crate::shown::same_origin;
use crate::{Error, Repository, ShownUrl};

/// Largest page that is read.
const PAGE_LIMIT: usize = 8 * 1024 * 1024;
/// Most pages.
const PAGES: usize = 10_000;
/// Most tags.
const TAGS: usize = 100_000;

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl Repository {
    /// All tags, in the registry's order.
    pub async fn tags(&self) -> Result<Vec<Tag>, Error> {
        let endpoint = self.home().await?;
        let first = self.inner.request(&endpoint, Method::GET, "tags/list")?;
        let mut url = first.url.clone();
        url.query_pairs_mut().append_pair("n", "1000");
        let (mut tags, mut seen) = (Vec::new(), HashSet::new());
        for _ in 0..PAGES {
            if !seen.insert(url.clone()) {
                let reason = "the list goes on where it was before".to_owned();
                return Err(Error::Protocol { url: ShownUrl::from(&url), reason });
            }
            let request = Request { url: url.clone(), ..first.clone() };
            let (headers, body) = endpoint.fetch(&request, PAGE_LIMIT).await?;
            let wrong = |reason: String| Error::Protocol { url: ShownUrl::from(&url), reason };
            let page: Page = serde_json::from_slice(&body).map_err(|error| wrong(error.to_string()))?;
            for tag in page.tags.unwrap_or_default() {
                tags.push(tag.parse().map_err(|error: cove_oci::NameError| wrong(error.to_string()))?);
            }
            if tags.len() > TAGS {
                return Err(wrong(format!("it has more than {TAGS} tags")));
            }
            match next_page(&url, &headers)? {
                Some(next) => url = next,
                None => return Ok(tags),
            }
        }
        Err(Error::Protocol { url: ShownUrl::from(&url), reason: format!("it has more than {PAGES} pages") })
    }
}

/// The links of one header, each a target and its parameters: `<A>; rel="x", <B>; title="a, b"` are two.
fn links(header: &str) -> Vec<(&str, &str)> {
    let mut links = Vec::new();
    let mut rest = header;
    while let Some((target, after)) =
        rest.trim_start_matches([' ', '\t', ',']).strip_prefix('<').and_then(|link| link.split_once('>'))
    {
        let mut is_quoted = false;
        let end = after.find(|character| {
            is_quoted ^= character == '"';
            character == ',' && !is_quoted
        });
        let (parameters, next) = after.split_at(end.unwrap_or(after.len()));
        links.push((target, parameters));
        rest = next;
    }
    links
}

/// `Link: <URL>; rel="next"`: RFC 8288.
fn next_page(url: &Url, headers: &HeaderMap) -> Result<Option<Url>, Error> {
    let values = headers.get_all(header::LINK).iter().filter_map(|value| value.to_str().ok());
    let is_next = |parameters: &str| {
        parameters.split(';').filter_map(|parameter| parameter.trim().split_once('=')).any(|(name, value)| {
            // `rel` holds words: section 3.3.
            name.trim().eq_ignore_ascii_case("rel")
                && value.trim().trim_matches('"').split(' ').any(|word| word.eq_ignore_ascii_case("next"))
        })
    };
    for (target, parameters) in values.flat_map(links) {
        if !is_next(parameters) {
            continue;
        }
        let refused = |to: String, reason| Error::Redirect {
            from: ShownUrl::from(url),
            to: crate::shown::shortened(&to),
            reason,
        };
        let next = url.join(target).map_err(|_| refused(String::new(), "it is no URL"))?;
        return match same_origin(&next, url) {
            true => Ok(Some(next)),
            false => Err(refused(ShownUrl::from(&next).to_string(), "a list goes on where it began, or nowhere")),
        };
    }
    Ok(None)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lists_go_on_where_they_began() {
        let next = |link: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::LINK, link.parse().unwrap());
            next_page(&"https://a.example/v2/x/tags/list?n=2".parse().unwrap(), &headers)
        };
        let shown = |link: &str| next(link).unwrap().map(String::from);
        assert_eq!(
            shown(r#"</v2/x/tags/list?n=2&last=b>; rel="next""#).unwrap(),
            "https://a.example/v2/x/tags/list?n=2&last=b"
        );
        assert_eq!(shown("<list?last=b>;rel=next").unwrap(), "https://a.example/v2/x/tags/list?last=b");
        assert_eq!(
            shown(r#"</x>; rel="prev"; title="a, <b>", <list?last=b>; rel="last next", </y>; rel=up"#).unwrap(),
            "https://a.example/v2/x/tags/list?last=b"
        );
        assert_eq!(shown(r#"</x>; rel="prev""#), None);
        assert_eq!(shown("nonsense"), None);
        for link in ["<https://b.example/x>; rel=next", "<//b.example/x>; rel=next", "<http://a.example/>; rel=next"] {
            assert!(next(link).is_err(), "{link}");
        }
    }
}
