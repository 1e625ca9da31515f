//! podman's `registries.conf`, version 2, with its drop-ins.
//!
//! Source: containers-registries.conf(5). A table is for a *prefix* of names; what matches it lies under `location`,
//! and its mirrors each under theirs, with the rest of the name behind.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cove_oci::{RegistryName, RepositoryName};
use serde::Deserialize;

use super::error::{RegistriesError, text_of};
use super::host::PrefixRewrite;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    unqualified_search_registries: Option<Vec<String>>,
    #[serde(default)]
    registry: Vec<RegistryTable>,
    /// Version 1, which had lists only.
    registries: Option<VersionOne>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct RegistryTable {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror_by_digest_only: bool,
    mirror: Vec<MirrorTable>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct MirrorTable {
    location: String,
    #[serde(default)]
    insecure: bool,
    pull_from_mirror: Option<MirrorUse>,
}

/// For which pulls a mirror is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum MirrorUse {
    All,
    DigestOnly,
    TagOnly,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct VersionOne {
    search: Listed,
    insecure: Listed,
    block: Listed,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Listed {
    registries: Vec<String>,
}

/// What the files say.
#[derive(Default)]
pub(super) struct RegistriesConf {
    pub(super) unqualified: Vec<RegistryName>,
    /// By prefix; a later file's table takes the place of an earlier one's.
    tables: BTreeMap<String, Table>,
}

/// What is said of the names under a prefix.
pub(super) struct Table {
    pub(super) path: PathBuf,
    pub(super) blocked: bool,
    pub(super) insecure: bool,
    pub(super) location: Option<Location>,
    pub(super) mirrors: Vec<Mirror>,
}

pub(super) struct Mirror {
    pub(super) location: Location,
    pub(super) insecure: bool,
    pub(super) used_for: MirrorUse,
}

/// Where names that match a prefix are: at this registry, called so there.
pub(super) struct Location {
    pub(super) registry: RegistryName,
    pub(super) rewrite: Option<PrefixRewrite>,
}

impl RegistriesConf {
    /// Reads the first of `files` that exists, then what is in `folders`.
    pub(super) fn load(files: &[PathBuf], folders: &[PathBuf]) -> Result<Self, RegistriesError> {
        let mut all = RegistriesConf::default();
        for path in files {
            if let Some(text) = text_of(path)? {
                all.add(&text, path)?;
                break;
            }
        }
        for folder in folders {
            let Ok(entries) = fs_err::read_dir(folder) else { continue };
            let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
            paths.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
            paths.sort();
            for path in paths {
                if let Some(text) = text_of(&path)? {
                    all.add(&text, &path)?;
                }
            }
        }
        Ok(all)
    }

    /// The table for a registry, or for a repository of it: that of the longest prefix.
    pub(super) fn table(&self, registry: &RegistryName, repository: Option<&RepositoryName>) -> Option<&Table> {
        let name = match repository {
            Some(repository) => format!("{registry}/{repository}"),
            None => registry.to_string(),
        };
        let matching = self.tables.iter().filter(|(prefix, _)| matches(prefix, &name, registry));
        matching.max_by_key(|(prefix, _)| prefix.len()).map(|(_, table)| table)
    }

    fn add(&mut self, text: &str, path: &Path) -> Result<(), RegistriesError> {
        let document: Document = toml::from_str(text).map_err(|error| RegistriesError::toml(&error, text, path))?;
        let mut search = document.unqualified_search_registries;
        for table in document.registry {
            self.add_table(table, path)?;
        }
        if let Some(old) = document.registries {
            search = search.or(Some(old.search.registries));
            for location in old.insecure.registries {
                self.add_table(RegistryTable { location, insecure: true, ..Default::default() }, path)?;
            }
            for location in old.block.registries {
                self.add_table(RegistryTable { location, blocked: true, ..Default::default() }, path)?;
            }
        }
        if let Some(search) = search {
            let names = search.iter().map(|name| {
                let bad = |_| {
                    RegistriesError::value(path.display(), "unqualified-search-registries", name, "HOST or HOST:PORT")
                };
                name.parse().map_err(bad)
            });
            self.unqualified = names.collect::<Result<_, _>>()?;
        }
        Ok(())
    }

    fn add_table(&mut self, table: RegistryTable, path: &Path) -> Result<(), RegistriesError> {
        let prefix = if table.prefix.is_empty() { &table.location } else { &table.prefix };
        let prefix = prefix.trim_end_matches('/').to_owned();
        if prefix.is_empty() {
            let expected = "set, and neither is `location`: one of them says what the table is for";
            return Err(RegistriesError::value(path.display(), "registry.prefix", "", expected));
        }
        let location = match table.location.as_str() {
            "" => None,
            text => Some(Location::new(&prefix, text, path)?),
        };
        let mut mirrors = Vec::new();
        for mirror in table.mirror {
            let only_by_digest = if table.mirror_by_digest_only { MirrorUse::DigestOnly } else { MirrorUse::All };
            mirrors.push(Mirror {
                location: Location::new(&prefix, &mirror.location, path)?,
                insecure: mirror.insecure,
                used_for: mirror.pull_from_mirror.unwrap_or(only_by_digest),
            });
        }
        let (blocked, insecure) = (table.blocked, table.insecure);
        self.tables.insert(prefix, Table { path: path.to_owned(), blocked, insecure, location, mirrors });
        Ok(())
    }
}

impl Location {
    fn new(prefix: &str, text: &str, path: &Path) -> Result<Self, RegistriesError> {
        let text = text.trim_end_matches('/');
        let (host, to) = text.split_once('/').unwrap_or((text, ""));
        let registry = host
            .parse()
            .map_err(|_| RegistriesError::value(path.display(), "location", text, "HOST or HOST/NAMESPACE"))?;
        let from = prefix.split_once('/').map_or("", |(_, path)| path);
        let rewrite = (from != to).then(|| PrefixRewrite { from: from.to_owned(), to: to.to_owned() });
        Ok(Location { registry, rewrite })
    }
}

/// Whether a name begins with a prefix: whole parts of it, or any host under a domain for `*.domain`.
fn matches(prefix: &str, name: &str, registry: &RegistryName) -> bool {
    match prefix.strip_prefix('*') {
        Some(domain) => domain.starts_with('.') && registry.as_str().ends_with(domain),
        None => name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
    }
}
