//! The paths below `/v2/`, read from their right end: repository names have any depth, so only the end of a
//! path tells what it is.

use cove_oci::{Digest, ManifestReference, NameError, RepositoryName};

use crate::error::Error;

/// What a path is about.
#[derive(Debug, Clone)]
pub enum Endpoint {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v1/search`, docker's
    Search,
    /// `/v2/NAME/tags/list`
    Tags(RepositoryName),
    /// `/v2/NAME/manifests/REFERENCE`
    Manifest(RepositoryName, ManifestReference),
    /// `/v2/NAME/blobs/DIGEST`
    Blob(RepositoryName, Digest),
    /// `/v2/NAME/blobs/uploads/`
    Uploads(RepositoryName),
    /// `/v2/NAME/blobs/uploads/ID`
    Upload(RepositoryName, String),
    /// `/v2/NAME/referrers/DIGEST`
    Referrers(RepositoryName, Digest),
}

impl Endpoint {
    /// Reads a path. Percent-encoding is undone first, so that an encoded colon in a digest is a colon; what
    /// comes out must follow the grammars, so an encoded `..` or NUL is refused like a plain one.
    pub fn parse(path: &str) -> Result<Self, Error> {
        let path = decode(path).ok_or(NameError::Repository("a path that is not UTF-8".to_owned()))?;
        if path == "/v1/search" {
            return Ok(Endpoint::Search);
        }
        let rest = match path.strip_prefix("/v2") {
            Some("" | "/") => return Ok(Endpoint::Base),
            Some("/_catalog") => return Ok(Endpoint::Catalog),
            Some(rest) => rest.strip_prefix('/').ok_or(Error::NotFound)?,
            None => return Err(Error::NotFound),
        };
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Ok(Endpoint::Tags(name.parse()?));
        }
        if let Some(name) = rest.strip_suffix("/blobs/uploads/").or_else(|| rest.strip_suffix("/blobs/uploads")) {
            return Ok(Endpoint::Uploads(name.parse()?));
        }
        let (before, last) = rest.rsplit_once('/').ok_or(Error::NotFound)?;
        if let Some(name) = before.strip_suffix("/manifests") {
            return Ok(Endpoint::Manifest(name.parse()?, last.parse()?));
        }
        if let Some(name) = before.strip_suffix("/blobs/uploads") {
            return Ok(Endpoint::Upload(name.parse()?, last.to_owned()));
        }
        if let Some(name) = before.strip_suffix("/blobs") {
            return Ok(Endpoint::Blob(name.parse()?, last.parse()?));
        }
        if let Some(name) = before.strip_suffix("/referrers") {
            return Ok(Endpoint::Referrers(name.parse()?, last.parse()?));
        }
        Err(Error::NotFound)
    }

    /// The repository, where there is one.
    pub fn repository(&self) -> Option<&RepositoryName> {
        match self {
            Endpoint::Base | Endpoint::Catalog | Endpoint::Search => None,
            Endpoint::Tags(name)
            | Endpoint::Manifest(name, _)
            | Endpoint::Blob(name, _)
            | Endpoint::Uploads(name)
            | Endpoint::Upload(name, _)
            | Endpoint::Referrers(name, _) => Some(name),
        }
    }

    /// The digest in the path, where there is one.
    pub fn digest(&self) -> Option<&Digest> {
        match self {
            Endpoint::Blob(_, digest)
            | Endpoint::Referrers(_, digest)
            | Endpoint::Manifest(_, ManifestReference::Digest(digest)) => Some(digest),
            Endpoint::Base
            | Endpoint::Catalog
            | Endpoint::Search
            | Endpoint::Tags(_)
            | Endpoint::Manifest(_, ManifestReference::Tag(_))
            | Endpoint::Uploads(_)
            | Endpoint::Upload(..) => None,
        }
    }

    /// What somebody is told who may not know whether the thing exists: the same as when it does not.
    pub fn absent(&self) -> Error {
        match self {
            Endpoint::Base | Endpoint::Catalog | Endpoint::Search => Error::NotFound,
            Endpoint::Tags(name) | Endpoint::Uploads(name) | Endpoint::Referrers(name, _) => {
                Error::NameUnknown(name.clone())
            }
            Endpoint::Manifest(repository, reference) => {
                Error::ManifestUnknown { repository: repository.clone(), reference: reference.clone() }
            }
            Endpoint::Blob(_, digest) => Error::BlobUnknown(digest.clone()),
            Endpoint::Upload(..) => Error::UploadUnknown,
        }
    }
}

fn decode(path: &str) -> Option<std::borrow::Cow<'_, str>> {
    percent_encoding::percent_decode_str(path).decode_utf8().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn name_of(path: &str) -> Option<String> {
        Endpoint::parse(path).ok()?.repository().map(|name| name.to_string())
    }

    #[test]
    fn names_have_any_depth() {
        assert_eq!(name_of("/v2/a/manifests/latest").as_deref(), Some("a"));
        assert_eq!(name_of("/v2/a/b/c/d/manifests/latest").as_deref(), Some("a/b/c/d"));
        assert_eq!(name_of(&format!("/v2/a/b/blobs/{DIGEST}")).as_deref(), Some("a/b"));
        assert_eq!(name_of(&format!("/v2/a/blobs/{}", DIGEST.replace(':', "%3A"))).as_deref(), Some("a"));
        // A name may hold the words of the API.
        assert_eq!(name_of("/v2/manifests/blobs/tags/list").as_deref(), Some("manifests/blobs"));
        assert_eq!(name_of("/v2/x/manifests/blobs/uploads/").as_deref(), Some("x/manifests"));
        let id = "0123456789abcdef0123456789abcdef";
        let upload = Endpoint::parse(&format!("/v2/a/blobs/uploads/{id}"));
        assert!(matches!(upload, Ok(Endpoint::Upload(_, found)) if found == id));
        assert!(matches!(Endpoint::parse("/v2"), Ok(Endpoint::Base)));
        assert!(matches!(Endpoint::parse("/v2/_catalog"), Ok(Endpoint::Catalog)));
        assert!(matches!(Endpoint::parse("/v1/search"), Ok(Endpoint::Search)));
    }

    #[test]
    fn bad_paths_are_refused() {
        for path in [
            "/",
            "/v3/",
            "/v2x",
            "/v2/a",
            "/v2/a/b",
            "/v2//manifests/x",
            "/v2/../x/manifests/y",
            "/v2/%2e%2e/x/manifests/y",
            "/v2/a%00b/tags/list",
            "/v2/%ff/tags/list",
            "/v2/A/tags/list",
            "/v2/a/blobs/sha256:abc",
            "/v2/a/blobs/md5:abc",
            "/v2/a/manifests/..",
            "/v2/a/manifests/%2e%2e",
        ] {
            assert!(Endpoint::parse(path).is_err(), "{path} must be refused");
        }
        let long = format!("/v2/{}/tags/list", "a".repeat(300));
        assert!(matches!(Endpoint::parse(&long), Err(Error::Name(NameError::RepositoryTooLong(_)))));
    }
}
