//! `images`: which images a list shows, in which order, and what stands in its columns.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use cove_oci::{Digest, Reference, ReferenceDefaults};
use time::OffsetDateTime;

use crate::error::Error;
use crate::filter::{Filter, FilterError, path_match};
use crate::format::{Column, List, Row, row};
use crate::progress::short;
use crate::units::{ago, go_time, human_size};

/// What stands where there is nothing.
pub const NONE: &str = "<none>";

/// The fields of an image in docker's templates.
pub const COLUMNS: &[Column] = &[
    Column { name: "Containers", title: "CONTAINERS" },
    Column { name: "CreatedAt", title: "CREATED AT" },
    Column { name: "CreatedSince", title: "CREATED" },
    Column { name: "Digest", title: "DIGEST" },
    Column { name: "ID", title: "IMAGE ID" },
    Column { name: "Repository", title: "REPOSITORY" },
    Column { name: "SharedSize", title: "SHARED SIZE" },
    Column { name: "Size", title: "SIZE" },
    Column { name: "Tag", title: "TAG" },
    Column { name: "UniqueSize", title: "UNIQUE SIZE" },
    Column { name: "VirtualSize", title: "SIZE" },
];

/// An image as lists see it.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its id.
    pub id: Digest,
    /// Its names.
    pub tags: Vec<Reference>,
    /// Its RepoDigests.
    pub digests: Vec<Reference>,
    /// When it was made.
    pub created: Option<OffsetDateTime>,
    /// Bytes of its files.
    pub size: u64,
    /// Labels of its configuration.
    pub labels: BTreeMap<String, String>,
}

/// The conditions of `--filter`.
pub const FILTERS: [&str; 6] = ["before", "dangling", "label", "reference", "since", "until"];

/// A choice of images.
#[derive(Debug, Default)]
pub struct Choice {
    dangling: Option<bool>,
    labels: Vec<(String, Option<String>)>,
    references: Vec<String>,
    before: Option<OffsetDateTime>,
    since: Option<OffsetDateTime>,
}

impl Choice {
    /// Reads conditions. `created` finds when the image was made that `before` or `since` names.
    pub fn read(
        filters: &[Filter],
        now: OffsetDateTime,
        created: impl Fn(&str) -> Result<Option<OffsetDateTime>, Error>,
    ) -> Result<Self, Error> {
        Filter::check(filters, &FILTERS)?;
        let mut choice = Choice::default();
        let earlier = |one: Option<OffsetDateTime>, other| Some(one.map_or(other, |one| one.min(other)));
        for filter in filters {
            match filter.name.as_str() {
                "dangling" => choice.dangling = Some(filter.boolean()?),
                "label" => choice.labels.push(label(&filter.value)),
                "reference" => choice.references.push(filter.value.clone()),
                "until" => choice.before = earlier(choice.before, filter.moment(now)?),
                "before" => {
                    if let Some(moment) = created(&filter.value)? {
                        choice.before = earlier(choice.before, moment);
                    }
                }
                "since" => choice.since = choice.since.max(created(&filter.value)?),
                _ => {}
            }
        }
        Ok(choice)
    }

    /// Adds the pattern that is given as argument.
    pub fn and_reference(&mut self, pattern: &str) {
        self.references.push(pattern.to_owned());
    }

    /// Whether the image is chosen, and if so, which of its names: those that fit.
    pub fn choose(&self, mut image: Listed, defaults: &ReferenceDefaults) -> Option<Listed> {
        let is_dangling = image.tags.is_empty();
        let has = |(name, value): &(String, Option<String>)| {
            image.labels.get(name).is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
        };
        let known = |wanted: Option<OffsetDateTime>, fits: fn(OffsetDateTime, OffsetDateTime) -> bool| {
            wanted.is_none_or(|wanted| image.created.is_some_and(|created| fits(created, wanted)))
        };
        if self.dangling.is_some_and(|wanted| wanted != is_dangling)
            || !self.labels.iter().all(has)
            || !known(self.before, |created, limit| created < limit)
            || !known(self.since, |created, limit| created > limit)
        {
            return None;
        }
        if !self.references.is_empty() {
            let fits = |name: &Reference| self.references.iter().any(|pattern| fits(pattern, name, defaults));
            image.tags.retain(fits);
            image.digests.retain(fits);
            if image.tags.is_empty() && image.digests.is_empty() {
                return None;
            }
        }
        Some(image)
    }
}

/// A label condition: a name, or a name and a value.
pub fn label(text: &str) -> (String, Option<String>) {
    match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (text.to_owned(), None),
    }
}

/// Whether a name fits a pattern, as it is shown or in full, with its tag or without.
fn fits(pattern: &str, name: &Reference, defaults: &ReferenceDefaults) -> bool {
    let short = familiar_repository(name, defaults);
    let with_tag = |repository: &str| match name.tag() {
        Some(tag) => format!("{repository}:{tag}"),
        None => repository.to_owned(),
    };
    let full = name.full_repository();
    let hub = name.familiar_repository();
    [with_tag(&short), short, with_tag(&hub), hub, with_tag(&full), full].iter().any(|name| path_match(pattern, name))
}

/// How a repository is shown: without the registry where that is the default one.
pub fn familiar_repository(name: &Reference, defaults: &ReferenceDefaults) -> String {
    match name.registry() == &defaults.registry && !name.registry().is_docker_hub() {
        // What is shown must be read as the same name: not as one of another registry (`a.b/app`), nor as an id.
        true => {
            let short = name.repository().to_string();
            let read = Reference::parse(&short, defaults);
            match read.is_ok_and(|read| read.full_repository() == name.full_repository()) {
                true => short,
                false => name.full_repository(),
            }
        }
        // With another default, a name of Docker Hub is only understood with its registry.
        false if name.registry().is_docker_hub() && !defaults.registry.is_docker_hub() => {
            format!("{}/{}", name.registry(), name.familiar_repository())
        }
        false => name.familiar_repository(),
    }
}

/// How a whole name is shown.
pub fn familiar(name: &Reference, defaults: &ReferenceDefaults) -> String {
    let mut text = familiar_repository(name, defaults);
    if let Some(tag) = name.tag() {
        text.push_str(&format!(":{tag}"));
    }
    if let Some(digest) = name.digest() {
        text.push_str(&format!("@{digest}"));
    }
    text
}

/// How a list of images is shown.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// With digests.
    pub digests: bool,
    /// With whole ids.
    pub no_trunc: bool,
}

/// The list of images.
pub fn list(look: Look) -> List {
    let mut usual = vec![("Repository", true), ("Tag", true)];
    if look.digests {
        usual.push(("Digest", false));
    }
    usual.extend([("ID", false), ("CreatedSince", false), ("Size", false)]);
    List { columns: COLUMNS, usual }
}

/// The rows of images, the newest first, a row a name.
pub fn rows(mut images: Vec<Listed>, look: Look, defaults: &ReferenceDefaults, now: OffsetDateTime) -> Vec<Row> {
    images.sort_by_key(|image| Reverse(image.created));
    images.iter().flat_map(|image| rows_of(image, look, defaults, now)).collect()
}

fn rows_of(image: &Listed, look: Look, defaults: &ReferenceDefaults, now: OffsetDateTime) -> Vec<Row> {
    let repository = |name: &Reference| familiar_repository(name, defaults);
    let mut names: Vec<(String, String, String)> = Vec::new();
    for tag in &image.tags {
        let text = tag.tag().map_or(NONE.to_owned(), ToString::to_string);
        let mut digests = image.digests.iter().filter(|digest| digest.full_repository() == tag.full_repository());
        if look.digests {
            let digests: Vec<String> = digests.filter_map(|digest| digest.digest().map(ToString::to_string)).collect();
            let digests = if digests.is_empty() { vec![NONE.to_owned()] } else { digests };
            names.extend(digests.into_iter().map(|digest| (repository(tag), text.clone(), digest)));
        } else {
            let digest = digests.next().and_then(Reference::digest).map_or(NONE.to_owned(), ToString::to_string);
            names.push((repository(tag), text, digest));
        }
    }
    // A pull by digest gives a repository, but no tag.
    for digest in &image.digests {
        if !image.tags.iter().any(|tag| tag.full_repository() == digest.full_repository()) {
            let shown = digest.digest().map_or(NONE.to_owned(), ToString::to_string);
            names.push((repository(digest), NONE.to_owned(), shown));
        }
    }
    if !look.digests {
        names.dedup_by(|one, other| (&one.0, &one.1) == (&other.0, &other.1));
    }
    if names.is_empty() {
        names.push((NONE.to_owned(), NONE.to_owned(), NONE.to_owned()));
    }
    let id = if look.no_trunc { image.id.to_string() } else { short(&image.id) };
    let size = human_size(image.size);
    let unknown = || "N/A".to_owned();
    let make = |(repository, tag, digest)| {
        row([
            ("Repository", repository),
            ("Tag", tag),
            ("Digest", digest),
            ("ID", id.clone()),
            ("CreatedSince", ago(image.created, now)),
            ("CreatedAt", image.created.map_or_else(unknown, go_time)),
            ("Size", size.clone()),
            ("VirtualSize", size.clone()),
            ("SharedSize", unknown()),
            ("UniqueSize", unknown()),
            ("Containers", unknown()),
        ])
    };
    names.into_iter().map(make).collect()
}

/// The conditions of `prune`: those that the store is asked for.
pub struct PruneConditions {
    /// Made before this moment.
    pub until: Option<OffsetDateTime>,
    /// With these labels.
    pub labels: Vec<(String, Option<String>)>,
    /// Without these.
    pub without: Vec<(String, Option<String>)>,
    /// Whether `dangling=false` asks for all unused images.
    pub all: bool,
}

impl PruneConditions {
    /// Reads conditions.
    pub fn read(filters: &[Filter], now: OffsetDateTime) -> Result<Self, FilterError> {
        Filter::check(filters, &["dangling", "label", "label!", "until"])?;
        let mut conditions = PruneConditions { until: None, labels: Vec::new(), without: Vec::new(), all: false };
        for filter in filters {
            match filter.name.as_str() {
                "until" => conditions.until = Some(filter.moment(now)?),
                "label" => conditions.labels.push(label(&filter.value)),
                "label!" => conditions.without.push(label(&filter.value)),
                "dangling" => conditions.all = !filter.boolean()?,
                _ => {}
            }
        }
        Ok(conditions)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::units::parse_rfc3339;
    use cove_oci::Algorithm;

    fn image(names: &[&str], digests: &[&str], created: &str) -> Listed {
        let parse = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        Listed {
            id: Digest::of(Algorithm::Sha256, created.as_bytes()),
            tags: parse(names),
            digests: parse(digests),
            created: parse_rfc3339(created),
            size: 1840,
            labels: BTreeMap::from([("stage".to_owned(), "test".to_owned())]),
        }
    }

    fn now() -> OffsetDateTime {
        parse_rfc3339("2026-11-24T00:00:00Z").unwrap()
    }

    const LOOK: Look = Look { digests: false, no_trunc: false };
    const DIGEST: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn shown(images: &[Listed], look: Look) -> Vec<String> {
        let rows = rows(images.to_vec(), look, &ReferenceDefaults::default(), now());
        let text = |row: &Row, name: &str| row[name].as_str().unwrap().to_owned();
        rows.iter()
            .map(|row| format!("{}:{}@{}", text(row, "Repository"), text(row, "Tag"), text(row, "Digest")))
            .collect()
    }

    #[test]
    fn a_row_a_name_the_newest_first() {
        let by_digest = format!("team/app@{DIGEST}");
        let images = [
            image(&["debian", "localhost:5000/d:v1"].map(|n| n), &[], "2026-01-01T00:00:00Z"),
            image(&[], &[], "2026-02-01T00:00:00Z"),
            image(&[], &[&by_digest], "2026-03-01T00:00:00Z"),
        ];
        let mut named = images.to_vec();
        named[0].tags = named[0].tags.iter().cloned().map(Reference::or_latest).collect();
        assert_eq!(
            shown(&named, LOOK),
            [
                format!("team/app:<none>@{DIGEST}"),
                "<none>:<none>@<none>".to_owned(),
                "debian:latest@<none>".to_owned(),
                "localhost:5000/d:v1@<none>".to_owned()
            ]
        );
        let rows = rows(vec![named[0].clone()], LOOK, &ReferenceDefaults::default(), now());
        assert_eq!(rows[0]["CreatedSince"], "10 months ago");
        assert_eq!(rows[0]["Size"], "1.84kB");
        assert_eq!(rows[0]["ID"].as_str().unwrap().len(), 12);
    }

    #[test]
    fn filters_choose() {
        let chosen = |filters: &[&str]| {
            let filters: Vec<Filter> = filters.iter().map(|text| text.parse().unwrap()).collect();
            let choice = Choice::read(&filters, now(), |_| Ok(parse_rfc3339("2026-01-15T00:00:00Z"))).unwrap();
            let defaults = ReferenceDefaults::default();
            let images = [
                image(&["debian:12", "team/app:v1"], &[], "2026-01-01T00:00:00Z"),
                image(&[], &[], "2026-02-01T00:00:00Z"),
            ];
            let chosen = images.into_iter().filter_map(|image| choice.choose(image, &defaults));
            chosen
                .map(|image| image.tags.iter().map(Reference::familiar).collect::<Vec<_>>().join(" "))
                .collect::<Vec<_>>()
        };
        assert_eq!(chosen(&["dangling=true"]), [""]);
        assert_eq!(chosen(&["dangling=false"]), ["debian:12 team/app:v1"]);
        assert_eq!(chosen(&["label=stage"]).len(), 2);
        assert_eq!(chosen(&["label=stage=test"]).len(), 2);
        assert_eq!(chosen(&["label=stage=live"]).len(), 0);
        assert_eq!(chosen(&["reference=deb*"]), ["debian:12"]);
        assert_eq!(chosen(&["reference=*:v1"]).len(), 0, "a star does not reach over a slash");
        assert_eq!(chosen(&["reference=*/*:v1"]), ["team/app:v1"]);
        assert_eq!(chosen(&["before=x"]), ["debian:12 team/app:v1"]);
        assert_eq!(chosen(&["since=x"]), [""]);
        assert_eq!(chosen(&["until=2026-01-02"]), ["debian:12 team/app:v1"]);
        assert!(Choice::read(&["foo=bar".parse().unwrap()], now(), |_| Ok(None)).is_err());
    }

    #[test]
    fn ones_own_default_registry_is_left_out() {
        let defaults = ReferenceDefaults { registry: "hub.example.com".parse().unwrap() };
        let name = |text: &str| familiar(&text.parse().unwrap(), &defaults);
        assert_eq!(name("hub.example.com/app:1"), "app:1");
        assert_eq!(name("hub.example.com/a.b/app:1"), "hub.example.com/a.b/app:1");
        assert_eq!(name("hub.example.com/localhost/app:1"), "hub.example.com/localhost/app:1");
        assert_eq!(name("docker.io/library/debian:12"), "docker.io/debian:12");
        for text in ["hub.example.com/app:1", "docker.io/library/debian:12", "a.b/c"] {
            let full: Reference = text.parse().unwrap();
            assert_eq!(Reference::parse(&familiar(&full, &defaults), &defaults).unwrap(), full);
        }
    }
}
