//! A file on the web, for `cove import`: asked for by the rules of registries, without any credential. https, or http
//! where the configuration allows it for that host; redirects are followed, but not out of https, and not into one's own
//! network.

use bytes::Bytes;
use http::Method;
use url::Url;

use crate::answer::Answer;
use crate::authorization::Scopes;
use crate::endpoint::{Request, Sending};
use crate::{Client, Error, ShownUrl};

/// A file that is being read.
pub struct WebFile {
    answer: Answer,
}

impl WebFile {
    /// The next piece; `None` at the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        self.answer.chunk().await
    }
}

impl Client {
    /// Asks for a file by its address.
    pub async fn open(&self, address: &str) -> Result<WebFile, Error> {
        let bad = |reason: &'static str| Error::Address { address: crate::shown::shortened(address), reason };
        let mut url = Url::parse(address).map_err(|_| bad("it is no URL"))?;
        url.set_fragment(None);
        if !url.username().is_empty() || url.password().is_some() {
            // The address itself must not be shown now.
            let address = ShownUrl::from(&url).to_string();
            return Err(Error::Address { address, reason: "it has a user name or a password in it" });
        }
        let host = url.host_str().ok_or_else(|| bad("it names no host"))?;
        let name = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let name = name.parse().map_err(|_| bad("its host has no valid name"))?;
        let mut host = self.home(&name).await?;
        // The address says itself whether TLS is to be spoken.
        let may_be_plain = host.plain_http_fallback || host.base.scheme() == "http";
        host.plain_http_fallback = false;
        host.base = url.clone();
        match url.scheme() {
            "https" => {}
            "http" if may_be_plain => {}
            "http" => return Err(bad("plain http is for this machine and for hosts that are configured as insecure")),
            _ => return Err(bad("it is neither https nor http")),
        }
        let endpoint = self.endpoint(&name, None, host);
        let request = Request::new(Method::GET, url, &Scopes::default());
        let once = || async {
            let answer = endpoint.follow(&request, &mut Sending::default(), None).await?;
            match answer.status().is_success() {
                true => Ok(answer),
                false => Err(answer.refusal(&request.method).await),
            }
        };
        Ok(WebFile { answer: endpoint.retry(None, once).await? })
    }
}
