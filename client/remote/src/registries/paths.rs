//! Where configuration lies: every path and variable that is read, in one value, so that tests have their own.

use std::path::PathBuf;

use crate::home::home_folder;

/// The files and variables that say what is known of registries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigPaths {
    /// Cove's own files; of a setting that stands in several, the last one's counts.
    pub cove: Vec<PathBuf>,
    /// Folders with one folder a registry, holding `hosts.toml` or certificates; of several `hosts.toml` the first
    /// one's counts, certificates are gathered from all.
    pub hosts: Vec<PathBuf>,
    /// Candidates for `registries.conf`: the first that exists is read.
    pub registries_conf: Vec<PathBuf>,
    /// Folders of `*.conf` that add to it, the later over the earlier.
    pub registries_conf_d: Vec<PathBuf>,
    /// docker's `daemon.json`; of a setting that stands in several, the first one's counts.
    pub daemon_json: Vec<PathBuf>,
    /// Variables of the environment.
    pub variables: Variables,
}

/// `COVE_…` variables, as text; they win over all files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variables {
    /// `COVE_DEFAULT_REGISTRY`: the registry of names without one.
    pub default_registry: Option<String>,
    /// `COVE_INSECURE_REGISTRIES`: hosts and address ranges, separated by commas.
    pub insecure_registries: Option<String>,
    /// `COVE_REGISTRY_MIRRORS`: addresses of mirrors of Docker Hub, separated by commas.
    pub registry_mirrors: Option<String>,
}

impl ConfigPaths {
    /// Those of whoever runs this: `/etc` for all, `$XDG_CONFIG_HOME` and `~/.docker` for the user, and the files that
    /// `COVE_CONFIG` and `CONTAINERS_REGISTRIES_CONF` name.
    pub fn of_this_user() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let text = |name: &str| variable(name).map(|value| value.to_string_lossy().into_owned());
        let home = home_folder();
        let config = variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| Some(home.as_ref()?.join(".config")));
        let user = |path: &str| config.as_ref().map(|config| config.join(path));
        let system = |path: &str| Some(PathBuf::from("/etc").join(path));
        let cove = match variable("COVE_CONFIG") {
            Some(file) => vec![Some(PathBuf::from(file))],
            None => vec![system("cove/cove.toml"), user("cove/cove.toml")],
        };
        let registries_conf = match variable("CONTAINERS_REGISTRIES_CONF") {
            Some(file) => vec![Some(PathBuf::from(file))],
            None => vec![user("containers/registries.conf"), system("containers/registries.conf")],
        };
        let hosts = vec![
            user("cove/certs.d"),
            user("containerd/certs.d"),
            user("containers/certs.d"),
            user("docker/certs.d"),
            home.map(|home| home.join(".docker/certs.d")),
            system("docker/certs.d"),
            system("containerd/certs.d"),
            system("containers/certs.d"),
        ];
        let present = |paths: Vec<Option<PathBuf>>| paths.into_iter().flatten().collect();
        ConfigPaths {
            cove: present(cove),
            hosts: present(hosts),
            registries_conf: present(registries_conf),
            registries_conf_d: present(vec![
                system("containers/registries.conf.d"),
                user("containers/registries.conf.d"),
            ]),
            daemon_json: present(vec![user("docker/daemon.json"), system("docker/daemon.json")]),
            variables: Variables {
                default_registry: text("COVE_DEFAULT_REGISTRY"),
                insecure_registries: text("COVE_INSECURE_REGISTRIES"),
                registry_mirrors: text("COVE_REGISTRY_MIRRORS"),
            },
        }
    }
}
