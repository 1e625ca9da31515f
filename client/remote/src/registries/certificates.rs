//! Certificates in `certs.d` folders: `HOST:PORT/*.crt` are authorities, `*.cert` with `*.key` are shown to the host.
//!
//! Source: docker, "Verify repository client with certificates"; podman's `containers-certs.d(5)`.

use std::path::{Path, PathBuf};

use cove_oci::RegistryName;

use super::error::RegistriesError;
use super::host::ClientCertificate;

/// What the folders have for a registry.
#[derive(Default)]
pub(super) struct Certificates {
    pub(super) ca: Vec<PathBuf>,
    pub(super) client: Vec<ClientCertificate>,
}

impl Certificates {
    pub(super) fn load(folders: &[PathBuf], registry: &RegistryName) -> Result<Self, RegistriesError> {
        let mut all = Certificates::default();
        for folder in folders.iter().flat_map(|folder| folders_of(folder, registry)) {
            let Ok(entries) = fs_err::read_dir(&folder) else { continue };
            let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
            files.sort();
            for file in &files {
                match file.extension().and_then(|extension| extension.to_str()) {
                    Some("crt") => all.ca.push(file.clone()),
                    Some("cert") => all.client.push(client(file, &files)?),
                    _ => {}
                }
            }
        }
        Ok(all)
    }
}

/// The folders that a registry may have in a `certs.d`: under its name, and as containerd writes a port where colons
/// are no part of file names.
pub(super) fn folders_of(folder: &Path, registry: &RegistryName) -> Vec<PathBuf> {
    let mut names = vec![registry.as_str().to_owned()];
    if let Some(port) = registry.port() {
        names.push(format!("{}_{port}_", registry.host()));
    }
    if registry.is_docker_hub() {
        names.push("registry-1.docker.io".to_owned());
    }
    names.iter().map(|name| folder.join(name)).collect()
}

fn client(certificate: &Path, files: &[PathBuf]) -> Result<ClientCertificate, RegistriesError> {
    let key = certificate.with_extension("key");
    if !files.contains(&key) {
        let folder = certificate.parent().unwrap_or(certificate).display();
        let name = certificate.file_name().unwrap_or_default().to_string_lossy();
        let expected = "of use without a `.key` of the same name (authorities end in `.crt`)";
        return Err(RegistriesError::value(folder, "client certificate", &name, expected));
    }
    Ok(ClientCertificate { certificate: certificate.to_owned(), key: Some(key) })
}
