//! Reading from a repository: resolve, manifests, blobs.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use cove_oci::{Algorithm, Descriptor, Digest, Manifest, ManifestReference, Verifier, media_type};
use cove_transfer::{ByteStream, Origin, Side, Source};
use futures_util::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::download::Download;
use crate::endpoint::{Endpoint, Request, Sending};
use crate::{Error, Repository, ShownUrl};

/// `Docker-Content-Digest`.
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Every type of manifest that is read.
fn accept() -> HeaderValue {
    const ALL: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                       application/vnd.docker.distribution.manifest.list.v2+json, \
                       application/vnd.docker.distribution.manifest.v2+json";
    HeaderValue::from_static(ALL)
}

impl Source for Repository {
    async fn resolve(&self, reference: &ManifestReference) -> Result<Descriptor, cove_transfer::Error> {
        let ask = |endpoint: Arc<Endpoint>| async move { self.resolve_at(&endpoint, reference).await };
        self.at_first_host(reference, ask).await.map_err(|error| error.on(Side::Source))
    }

    async fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest, cove_transfer::Error> {
        let ask = |endpoint: Arc<Endpoint>| async move { self.manifest_at(&endpoint, descriptor).await };
        let reference = ManifestReference::Digest(descriptor.digest.clone());
        let found = self.at_first_host(&reference, ask).await;
        found.map_err(|error| error.on(Side::Source).about(&descriptor.digest))
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<ByteStream, cove_transfer::Error> {
        let about = |error: Error, digest: &Digest| error.on(Side::Source).about(digest);
        let download = Download::open(self, blob, offset).await.map_err(|error| about(error, &blob.digest))?;
        let stream = futures_util::stream::try_unfold(download, async |mut download| {
            Ok(download.next().await?.map(|bytes| (bytes, download)))
        });
        let digest = blob.digest.clone();
        Ok(stream.map(move |bytes| bytes.map_err(|error| about(error, &digest))).boxed())
    }

    fn origins(&self, _blob: &Digest) -> Vec<Origin> {
        vec![self.origin().clone()]
    }
}

impl Repository {
    /// Asks one host after the other until one has it. What the registry itself says is what counts in the end.
    async fn at_first_host<T, F>(
        &self,
        reference: &ManifestReference,
        ask: impl Fn(Arc<Endpoint>) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let hosts = self.inner.hosts(|host| host.serves(reference)).await?;
        let mut outcome = Err(Error::NoHost(self.origin().registry.clone()));
        for endpoint in hosts {
            outcome = ask(endpoint.clone()).await;
            match &outcome {
                Ok(_) => break,
                Err(error) if endpoint.host.is_mirror => self.inner.note_failure(&endpoint, error),
                Err(_) => {}
            }
        }
        outcome
    }

    pub(crate) fn manifest_request(
        &self,
        endpoint: &Endpoint,
        method: Method,
        reference: &str,
    ) -> Result<Request, Error> {
        let request = self.inner.request(endpoint, method, &format!("manifests/{reference}"))?;
        Ok(request.header(header::ACCEPT, accept()))
    }

    async fn resolve_at(&self, endpoint: &Endpoint, reference: &ManifestReference) -> Result<Descriptor, Error> {
        let request = self.manifest_request(endpoint, Method::HEAD, &reference.to_string())?;
        let answer = self.send_patiently(endpoint, &request).await?;
        let status = answer.status();
        if status == StatusCode::METHOD_NOT_ALLOWED {
            return self.resolve_by_reading(endpoint, reference).await;
        }
        if !status.is_success() {
            return Err(answer.refusal(&Method::HEAD).await);
        }
        let stated = answer.header(CONTENT_DIGEST).and_then(|digest| digest.parse::<Digest>().ok());
        let digest = match (reference, stated) {
            // Other algorithms' digests of the same content are no contradiction; the content will tell.
            (ManifestReference::Digest(asked), Some(stated))
                if stated.algorithm() == asked.algorithm() && stated != *asked =>
            {
                return Err(answer.protocol(format!("asked for {asked}, it answers with {stated}")));
            }
            (ManifestReference::Digest(asked), _) => Some(asked.clone()),
            (ManifestReference::Tag(_), stated) => stated,
        };
        let media_type = media_type_of(answer.response.headers());
        match (digest, answer.content_length(), media_type) {
            (Some(digest), Some(size), Some(media_type)) if size > 0 => Ok(Descriptor::new(&media_type, digest, size)),
            _ => self.resolve_by_reading(endpoint, reference).await,
        }
    }

    async fn resolve_by_reading(
        &self,
        endpoint: &Endpoint,
        reference: &ManifestReference,
    ) -> Result<Descriptor, Error> {
        let request = self.manifest_request(endpoint, Method::GET, &reference.to_string())?;
        let (headers, bytes) = self.fetch_patiently(endpoint, &request).await?;
        let digest = match reference {
            ManifestReference::Digest(digest) => {
                verify(&request, digest, bytes.len() as u64, &bytes)?;
                digest.clone()
            }
            ManifestReference::Tag(_) => Digest::of(Algorithm::Sha256, &bytes),
        };
        let size = bytes.len() as u64;
        let manifest = parse(&request, bytes, &headers)?;
        Ok(Descriptor::new(manifest.media_type(), digest, size))
    }

    async fn manifest_at(&self, endpoint: &Endpoint, descriptor: &Descriptor) -> Result<Manifest, Error> {
        let request = self.manifest_request(endpoint, Method::GET, descriptor.digest.as_str())?;
        let (headers, bytes) = self.fetch_patiently(endpoint, &request).await?;
        verify(&request, &descriptor.digest, descriptor.size, &bytes)?;
        let manifest = parse(&request, bytes, &headers)?;
        if !descriptor.media_type.is_empty() && manifest.media_type() != descriptor.media_type {
            let (found, stated) = (manifest.media_type(), crate::shown::shortened(&descriptor.media_type));
            let reason = format!("the manifest's media type is `{found}`, but its descriptor says `{stated}`");
            return Err(Error::Protocol { url: ShownUrl::from(&request.url), reason });
        }
        Ok(manifest)
    }

    /// With all patience for the registry itself, and little for a mirror, after which there is somebody to ask.
    async fn send_patiently(&self, endpoint: &Endpoint, request: &Request) -> Result<crate::answer::Answer, Error> {
        match endpoint.host.is_mirror {
            true => endpoint.attempt(request, Sending::default()).await,
            false => endpoint.send(request, None).await,
        }
    }

    async fn fetch_patiently(&self, endpoint: &Endpoint, request: &Request) -> Result<(HeaderMap, Bytes), Error> {
        endpoint.fetch(request, Manifest::SIZE_LIMIT).await
    }
}

fn media_type_of(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let value = value.split(';').next().unwrap_or_default().trim();
    let known = [media_type::OCI_MANIFEST, media_type::OCI_INDEX, media_type::DOCKER_MANIFEST, media_type::DOCKER_LIST];
    known.contains(&value).then(|| value.to_owned())
}

fn verify(request: &Request, digest: &Digest, size: u64, bytes: &[u8]) -> Result<(), Error> {
    let mut verifier = Verifier::new(digest, size);
    let verified = verifier.update(bytes).and_then(|()| verifier.finish());
    verified.map_err(|error| Error::Verify { url: ShownUrl::from(&request.url), error })
}

fn parse(request: &Request, bytes: Bytes, headers: &HeaderMap) -> Result<Manifest, Error> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let url = ShownUrl::from(&request.url);
    Manifest::parse(bytes.into(), content_type).map_err(|error| Error::Manifest { url, error })
}
