//! Under which keys a registry's credential lies: docker's key, older forms of it, and podman's namespaces.

use cove_oci::{RegistryName, RepositoryName};

/// Docker Hub's key, which is the address of an API that is long gone.
pub(super) const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// The key that docker writes for a registry, and the address it gives to credential helpers.
pub(super) fn key_of(registry: &RegistryName) -> &str {
    if registry.is_docker_hub() { DOCKER_HUB_KEY } else { registry.as_str() }
}

/// The host in a key of any form: `https://host/v1/`, `https://host`, `host/path` and `host` are all `host`
/// (docker/cli: `ConvertToHostname`).
fn host_of(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    rest.split('/').next().unwrap_or(rest)
}

/// Whether a key means the registry as a whole, in docker's sense, which takes any path behind the host.
pub(super) fn is_for_registry(key: &str, registry: &RegistryName) -> bool {
    if key == key_of(registry) {
        return true;
    }
    let host = host_of(key);
    match registry.is_docker_hub() {
        true => matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io"),
        false => host.eq_ignore_ascii_case(registry.as_str()),
    }
}

/// Whether a key means the whole registry and no namespace of it: what a logout removes.
pub(super) fn is_whole(key: &str) -> bool {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let path = rest.unwrap_or(key).split_once('/').map_or("", |(_, path)| path);
    rest.is_some() || matches!(path.trim_end_matches('/'), "" | "v1" | "v2")
}

/// podman's keys for a repository, the most exact first: `host/team/app`, `host/team`, `host`
/// (containers-auth.json, "FORMAT").
pub(super) fn namespaced(registry: &RegistryName, repository: &RepositoryName) -> Vec<String> {
    let mut keys = Vec::new();
    let mut name = format!("{registry}/{repository}");
    while name.len() > registry.as_str().len() {
        keys.push(name.clone());
        name.truncate(name.rfind('/').unwrap_or(0));
    }
    keys
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn old_forms_of_keys_are_known() {
        let registry: RegistryName = "hub.example.com:5000".parse().unwrap();
        for key in [
            "hub.example.com:5000",
            "https://hub.example.com:5000",
            "http://hub.example.com:5000/",
            "https://hub.example.com:5000/v1/",
            "hub.example.com:5000/team",
            "Hub.Example.com:5000",
        ] {
            assert!(is_for_registry(key, &registry), "{key}");
        }
        for key in ["hub.example.com", "https://hub.example.com/v1/", "xhub.example.com:5000", ""] {
            assert!(!is_for_registry(key, &registry), "{key}");
        }
        for key in ["docker.io", DOCKER_HUB_KEY, "index.docker.io/v1", "https://registry-1.docker.io/v2/"] {
            assert!(is_for_registry(key, &RegistryName::docker_hub()), "{key}");
        }
        assert!(!is_whole("hub.example.com/team"));
        assert!(
            is_whole("hub.example.com/v2/") && is_whole("https://hub.example.com/x") && is_whole("hub.example.com")
        );
    }

    #[test]
    fn namespaces_go_from_the_longest_to_the_registry() {
        let registry: RegistryName = "hub.example.com:5000".parse().unwrap();
        let keys = namespaced(&registry, &"team/service/api".parse().unwrap());
        assert_eq!(
            keys,
            ["hub.example.com:5000/team/service/api", "hub.example.com:5000/team/service", "hub.example.com:5000/team"]
        );
    }
}
