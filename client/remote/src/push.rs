//! Writing to a repository: is it there, mount it, upload it; then the manifests.

use bytes::Bytes;
use cove_oci::{Action, Algorithm, Descriptor, Digest, Manifest, ManifestReference, RepositoryName};
use cove_transfer::{Origin, Placed, Progress, Side, Source, Step, Target};
use http::{HeaderValue, Method, StatusCode, header};
use url::Url;

use crate::answer::Answer;
use crate::endpoint::{Endpoint, Told};
use crate::pull::CONTENT_DIGEST;
use crate::upload::Upload;
use crate::{Error, Repository};

/// How many repositories are tried as the origin of a mount.
const MOUNTS: usize = 2;

impl Target for Repository {
    async fn holds(&self, root: &Descriptor, reference: &ManifestReference) -> Result<bool, cove_transfer::Error> {
        self.stands_at(root, reference).await.map_err(|error| error.on(Side::Target))
    }

    async fn has_manifest(&self, manifest: &Descriptor) -> Result<bool, cove_transfer::Error> {
        let reference = ManifestReference::Digest(manifest.digest.clone());
        self.stands_at(manifest, &reference).await.map_err(|error| error.on(Side::Target))
    }

    async fn put_blob<S: Source>(
        &self,
        blob: &Descriptor,
        source: &S,
        progress: &dyn Progress,
    ) -> Result<Placed, cove_transfer::Error> {
        let on_target = |error: Error| error.on(Side::Target).about(&blob.digest);
        if self.inner.is_known(&blob.digest) || self.has_blob(blob, progress).await.map_err(on_target)? {
            self.inner.remember(&blob.digest);
            progress.step(blob, Step::Existed);
            return Ok(Placed::Existed);
        }
        let placed = match self.begin(blob, &source.origins(&blob.digest), progress).await.map_err(on_target)? {
            Begun::Mounted(from) => {
                progress.step(blob, Step::Mounted(from.clone()));
                Placed::Mounted(from)
            }
            Begun::Upload(upload) => {
                let sent = upload.send(source, progress).await?;
                progress.step(blob, Step::Transferred);
                Placed::Stored(sent)
            }
        };
        self.inner.remember(&blob.digest);
        Ok(placed)
    }

    async fn put_manifest(
        &self,
        manifest: &Manifest,
        reference: Option<&ManifestReference>,
    ) -> Result<(), cove_transfer::Error> {
        self.write_manifest(manifest, reference).await.map_err(|error| error.on(Side::Target))
    }
}

/// What became of asking for an upload.
enum Begun<'a> {
    Mounted(RepositoryName),
    Upload(Upload<'a>),
}

impl Repository {
    async fn stands_at(&self, root: &Descriptor, reference: &ManifestReference) -> Result<bool, Error> {
        let endpoint = self.home().await?;
        let request = self.manifest_request(&endpoint, Method::HEAD, &reference.to_string())?;
        let answer = endpoint.send(&request, None).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(false),
            // A registry that cannot tell is told again.
            StatusCode::METHOD_NOT_ALLOWED => Ok(false),
            // Asked by its digest, it can be no other one.
            status if status.is_success() && *reference == ManifestReference::Digest(root.digest.clone()) => Ok(true),
            status if status.is_success() => {
                let stated = answer.header(CONTENT_DIGEST).and_then(|digest| digest.parse::<Digest>().ok());
                Ok(stated.as_ref() == Some(&root.digest))
            }
            _ => Err(answer.refusal(&Method::HEAD).await),
        }
    }

    /// Whether the blob is there. An error is an error: taken for "no", it would cost an upload.
    async fn has_blob(&self, blob: &Descriptor, progress: &dyn Progress) -> Result<bool, Error> {
        let endpoint = self.home().await?;
        let request = self.inner.request(&endpoint, Method::HEAD, &format!("blobs/{}", blob.digest))?;
        let answer = endpoint.send(&request, Some(Told { progress, blob })).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(false),
            // One of another size is damaged: an upload heals it.
            status if status.is_success() => Ok(answer.content_length().is_none_or(|length| length == blob.size)),
            _ => Err(answer.refusal(&Method::HEAD).await),
        }
    }

    /// Mounts the blob, or begins an upload, or takes up one that an earlier command left.
    async fn begin<'a>(
        &'a self,
        blob: &'a Descriptor,
        origins: &[Origin],
        progress: &dyn Progress,
    ) -> Result<Begun<'a>, Error> {
        let told = Told { progress, blob };
        let here = self.origin();
        let elsewhere = |origin: &&Origin| origin.registry == here.registry && origin.repository != here.repository;
        for origin in origins.iter().filter(elsewhere).take(MOUNTS) {
            match self.mount(blob, &origin.repository, told).await? {
                Mount::Done => {
                    self.journal.forget(here, &blob.digest);
                    return Ok(Begun::Mounted(origin.repository.clone()));
                }
                // What was begun in its place serves as well as any other, if nothing better is known.
                Mount::Begun(upload) if self.journal.find(here, &blob.digest).is_none() => {
                    return Ok(Begun::Upload(upload));
                }
                // The one that is remembered goes on; this one is not needed.
                Mount::Begun(upload) => upload.cancel().await,
                Mount::Refused => {}
            }
        }
        if let Some(upload) = Upload::take_up(self, blob).await? {
            return Ok(Begun::Upload(upload));
        }
        Ok(Begun::Upload(Upload::begin(self, blob, told).await?))
    }

    async fn mount<'a>(
        &'a self,
        blob: &'a Descriptor,
        from: &RepositoryName,
        told: Told<'_>,
    ) -> Result<Mount<'a>, Error> {
        let endpoint = self.home().await?;
        let Some(name) = endpoint.host.repository(from) else { return Ok(Mount::Refused) };
        let mut request = self.inner.request(&endpoint, Method::POST, "blobs/uploads/")?;
        {
            let mut query = request.url.query_pairs_mut();
            query.append_pair("mount", blob.digest.as_str()).append_pair("from", name.as_str());
        }
        request.scopes = request.scopes.and(&name, &[Action::Pull]);
        let answer = match endpoint.send(&request, Some(told)).await {
            Ok(answer) => answer,
            // The other repository is not for this user, perhaps, or the token service gives no token at all where one of
            // two scopes is refused: the upload will tell.
            Err(Error::Unauthorized { .. } | Error::Login { .. }) => return Ok(Mount::Refused),
            Err(error) => return Err(error),
        };
        match answer.status() {
            StatusCode::CREATED => Ok(Mount::Done),
            StatusCode::ACCEPTED => Ok(Mount::Begun(Upload::begun(self, &endpoint, blob, &answer)?)),
            status if status.is_client_error() => Ok(Mount::Refused),
            _ => Err(answer.refusal(&Method::POST).await),
        }
    }

    async fn write_manifest(&self, manifest: &Manifest, reference: Option<&ManifestReference>) -> Result<(), Error> {
        let endpoint = self.home().await?;
        let name = match reference {
            Some(reference) => reference.to_string(),
            None => manifest.digest(Algorithm::Sha256).to_string(),
        };
        let media_type =
            HeaderValue::from_str(manifest.media_type()).map_err(|error| Error::Setup(error.to_string()))?;
        let request = self
            .manifest_request(&endpoint, Method::PUT, &name)?
            .header(header::CONTENT_TYPE, media_type)
            .body(Bytes::copy_from_slice(manifest.bytes()));
        let answer = endpoint.send(&request, None).await?;
        if !answer.status().is_success() {
            return Err(answer.refusal(&Method::PUT).await);
        }
        check_stored_digest(&answer, manifest)
    }
}

/// What a registry says it stored must be what it was sent.
fn check_stored_digest(answer: &Answer, manifest: &Manifest) -> Result<(), Error> {
    let Some(stated) = answer.header(CONTENT_DIGEST) else { return Ok(()) };
    let Ok(stated) = stated.parse::<Digest>() else {
        return Err(answer.protocol("its `Docker-Content-Digest` is no digest"));
    };
    let sent = manifest.digest(stated.algorithm());
    match stated == sent {
        true => Ok(()),
        false => Err(answer.protocol(format!("{sent} was sent, it says that it stored {stated}"))),
    }
}

enum Mount<'a> {
    Done,
    Begun(Upload<'a>),
    Refused,
}

/// The URL with the digest that ends an upload; what else is in its query stays.
pub(crate) fn with_digest(url: &Url, digest: &Digest) -> Url {
    let mut url = url.clone();
    url.query_pairs_mut().append_pair("digest", digest.as_str());
    url
}

/// The address of an upload: relative to what was asked, or absolute.
pub(crate) fn location(endpoint: &Endpoint, answer: &Answer) -> Result<Url, Error> {
    let Some(location) = answer.header(header::LOCATION) else {
        return Err(answer.protocol("it begins an upload without a `Location`"));
    };
    let mut url = answer.url.join(location).map_err(|_| answer.protocol("the upload's `Location` is no URL"))?;
    url.set_fragment(None);
    // A registry behind a proxy may not know that it is reached by https, or at which port: on its own host, the
    // way that was configured is the one that works.
    let base = &endpoint.host.base;
    if base.scheme() == "https"
        && url.scheme() == "http"
        && url.host() == base.host()
        && url.set_scheme("https").is_ok()
    {
        let _ = url.set_port(base.port());
    }
    Ok(url)
}
