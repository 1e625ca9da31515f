//! An answer: status, headers, and a body that is read with care.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, Method, StatusCode, header};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use url::Url;

use crate::error::Refusal;
use crate::patience::retry_after;
use crate::proxies::Proxy;
use crate::shown::shortened;
use crate::{Error, ShownUrl, transport};

/// Most of an error's body that is read.
const ERROR_LIMIT: usize = 64 * 1024;

/// An answer whose body has not been read.
pub(crate) struct Answer {
    pub(crate) response: reqwest::Response,
    /// Where it came from in the end.
    pub(crate) url: Url,
    /// The proxy through which it came.
    pub(crate) proxy: Option<Proxy>,
    /// Between two pieces of the body.
    pub(crate) idle: Duration,
    /// For all of the body, where it is read as a whole.
    pub(crate) whole: Duration,
    /// Counts against the host's limit until the body was read.
    pub(crate) _permit: Option<OwnedSemaphorePermit>,
}

impl Answer {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn header(&self, name: impl Into<HeaderName>) -> Option<&str> {
        self.response.headers().get(name.into())?.to_str().ok()
    }

    /// `Content-Length`, of HEAD too.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.header(header::CONTENT_LENGTH)?.trim().parse().ok()
    }

    pub(crate) fn protocol(&self, reason: impl Into<String>) -> Error {
        Error::Protocol { url: ShownUrl::from(&self.url), reason: reason.into() }
    }

    /// The next piece of the body.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        match tokio::time::timeout(self.idle, self.response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => Err(transport::failure(&self.url, self.proxy.as_ref(), error)),
            Err(_) => Err(Error::Unreachable {
                url: ShownUrl::from(&self.url),
                reason: format!("nothing came for {} s", self.idle.as_secs_f32()),
            }),
        }
    }

    /// The whole body, if it has no more than `limit` bytes.
    pub(crate) async fn bytes(self, limit: usize) -> Result<Bytes, Error> {
        let (url, whole) = (ShownUrl::from(&self.url), self.whole);
        tokio::time::timeout(whole, self.all_bytes(limit)).await.map_err(|_| Error::Unreachable {
            url,
            reason: format!("the answer was not complete after {} s", whole.as_secs_f32()),
        })?
    }

    async fn all_bytes(mut self, limit: usize) -> Result<Bytes, Error> {
        let too_large = |url: &Url| Error::TooLarge { url: ShownUrl::from(url), limit: limit as u64 };
        if self.response.content_length().is_some_and(|length| length > limit as u64) {
            return Err(too_large(&self.url));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if body.len() + chunk.len() > limit {
                return Err(too_large(&self.url));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    /// The error that it is.
    pub(crate) async fn refusal(mut self, method: &Method) -> Error {
        let wait = self.header(header::RETRY_AFTER).and_then(retry_after);
        let status = self.status();
        let url = ShownUrl::from(&self.url);
        // Through a tunnel only the registry can answer.
        let proxy = self.proxy.as_ref().filter(|_| self.url.scheme() == "http").map(ToString::to_string);
        let mut body = Vec::new();
        // What cannot be read, or not in time, does not make the error another one.
        let whole = self.whole;
        let read = async {
            while body.len() < ERROR_LIMIT {
                match self.chunk().await {
                    Ok(Some(chunk)) => body.extend_from_slice(&chunk[..chunk.len().min(ERROR_LIMIT - body.len())]),
                    Ok(None) | Err(_) => break,
                }
            }
        };
        let _ = tokio::time::timeout(whole, read).await;
        let (code, message) = read_error(&body);
        let method = method.clone();
        Error::Refused(Box::new(Refusal { method, url, status, code, message, proxy, retry_after: wait }))
    }
}

/// The shapes of error bodies: the distribution specification's, OAuth 2's (RFC 6749, section 5.2), Docker Hub's.
#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    errors: Vec<OneError>,
    error: Option<String>,
    error_description: Option<String>,
    #[serde(alias = "details")]
    message: Option<String>,
}

#[derive(Deserialize)]
struct OneError {
    code: Option<String>,
    message: Option<String>,
}

/// Code and message of an error's body.
pub(crate) fn read_error(body: &[u8]) -> (Option<String>, Option<String>) {
    let tamed = |text: Option<String>| text.map(|text| shortened(&text)).filter(|text| !text.is_empty());
    if let Ok(parsed) = serde_json::from_slice::<ErrorBody>(body) {
        if let Some(first) = parsed.errors.into_iter().next() {
            return (tamed(first.code), tamed(first.message));
        }
        return (tamed(parsed.error), tamed(parsed.error_description.or(parsed.message)));
    }
    let text = String::from_utf8_lossy(body);
    // Pages of proxies say nothing that fits into a line, but for their title.
    let is_page = text.trim_start().starts_with('<');
    let title = || Some(text.split_once("<title>")?.1.split_once("</title>")?.0.to_owned());
    (None, tamed(if is_page { title() } else { Some(text.clone().into_owned()) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_in_all_shapes() {
        let read = |text: &str| {
            let (code, message) = read_error(text.as_bytes());
            (code.unwrap_or_default(), message.unwrap_or_default())
        };
        let pair = |code: &str, message: &str| (code.to_owned(), message.to_owned());
        assert_eq!(read(r#"{"errors":[{"code":"DENIED","message":"no","detail":{}}]}"#), pair("DENIED", "no"));
        assert_eq!(read(r#"{"error":"invalid_grant","error_description":"gone"}"#), pair("invalid_grant", "gone"));
        assert_eq!(read(r#"{"details":"incorrect username"}"#), pair("", "incorrect username"));
        assert_eq!(read("slow\ndown"), pair("", "slow down"));
        assert_eq!(read("<html>x</html>"), pair("", ""));
        assert_eq!(read("<html><head><title>400 No certificate</title>"), pair("", "400 No certificate"));
        assert_eq!(read(""), pair("", ""));
    }
}
