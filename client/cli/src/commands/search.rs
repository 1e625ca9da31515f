//! `cove search`

use cove_oci::{Reference, RegistryName};
use cove_remote::SearchResult;

use crate::arguments::Search;
use crate::context::Context;
use crate::error::Error;
use crate::filter::Filter;
use crate::format::{Column, List, Row, row};
use crate::table::cut;

const COLUMNS: &[Column] = &[
    Column { name: "Description", title: "DESCRIPTION" },
    Column { name: "IsAutomated", title: "AUTOMATED" },
    Column { name: "IsOfficial", title: "OFFICIAL" },
    Column { name: "Name", title: "NAME" },
    Column { name: "StarCount", title: "STARS" },
];
/// Widest description, unless all of it is wanted.
const DESCRIPTION_WIDTH: usize = 45;
/// Docker's number of results.
const USUAL_LIMIT: u32 = 25;

/// Which results are wanted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    official: Option<bool>,
    automated: Option<bool>,
    stars: u64,
}

/// Searches a registry.
pub fn run(context: &Context, arguments: &Search) -> Result<(), Error> {
    let wanted = wanted(&arguments.filter)?;
    // Docker takes 0 for its default.
    let limit = arguments.limit.filter(|limit| *limit > 0).unwrap_or(USUAL_LIMIT);
    if !(1..=100).contains(&limit) {
        return Err(Error::SearchLimit(limit));
    }
    let (registry, term) = place(&arguments.term, &context.defaults()?.registry)?;
    let mut results = context.network(async { Ok(context.client()?.search(&registry, &term, limit).await?) })?;
    results.retain(|result| {
        wanted.official.is_none_or(|official| official == result.is_official)
            && wanted.automated.is_none_or(|automated| automated == result.is_automated)
            && result.star_count >= wanted.stars
    });
    results.sort_by_key(|result| std::cmp::Reverse(result.star_count));
    let as_json =
        arguments.format.as_deref().map(str::trim).is_some_and(|format| matches!(format, "json" | "{{json .}}"));
    let rows: Vec<Row> = results.iter().map(|result| shown(result, arguments.no_trunc, as_json)).collect();
    let usual = vec![("Name", true), ("Description", true), ("StarCount", false), ("IsOfficial", false)];
    let list = List { columns: COLUMNS, usual };
    Ok(list.print(&context.printer, arguments.format.as_deref(), None, arguments.no_trunc, &rows)?)
}

fn shown(result: &SearchResult, no_trunc: bool, as_json: bool) -> Row {
    let description = result.description.replace(['\n', '\r'], " ");
    let truth = |value: bool| match (value, as_json) {
        (true, true) => "true",
        (false, true) => "false",
        (true, false) => "[OK]",
        (false, false) => "",
    };
    row([
        ("Name", result.name.clone()),
        ("Description", if no_trunc { description } else { cut(&description, DESCRIPTION_WIDTH) }),
        ("StarCount", result.star_count.to_string()),
        ("IsOfficial", truth(result.is_official).to_owned()),
        ("IsAutomated", truth(result.is_automated).to_owned()),
    ])
}

/// The registry and what to look for: `HOST/term` asks that host.
fn place(term: &str, default: &RegistryName) -> Result<(RegistryName, String), Error> {
    let Some((first, rest)) = term.split_once('/') else { return Ok((default.clone(), term.to_owned())) };
    // Whether the first part is a host is decided where names are read.
    let probe = Reference::parse(&format!("{first}/x"), &cove_oci::ReferenceDefaults { registry: default.clone() });
    let is_host = first.contains(['.', ':']) || first == "localhost";
    match probe {
        Ok(reference) if is_host => Ok((reference.registry().clone(), rest.to_owned())),
        Err(error) if is_host => Err(error.into()),
        _ => Ok((default.clone(), term.to_owned())),
    }
}

fn wanted(filters: &[Filter]) -> Result<Wanted, Error> {
    Filter::check(filters, &["is-automated", "is-official", "stars"])?;
    let mut wanted = Wanted::default();
    for filter in filters {
        match filter.name.as_str() {
            "is-automated" => wanted.automated = Some(filter.boolean()?),
            "is-official" => wanted.official = Some(filter.boolean()?),
            "stars" => wanted.stars = wanted.stars.max(filter.number()?),
            _ => {}
        }
    }
    Ok(wanted)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_host_before_the_term_is_asked() {
        let hub = RegistryName::docker_hub();
        for (term, registry, rest) in [
            ("centos", "docker.io", "centos"),
            ("team/app", "docker.io", "team/app"),
            ("localhost:5000/app", "localhost:5000", "app"),
            ("hub.example.com/team/app", "hub.example.com", "team/app"),
        ] {
            let (found, term) = place(term, &hub).unwrap();
            assert_eq!((found.as_str(), term.as_str()), (registry, rest));
        }
    }

    #[test]
    fn filters_are_read() {
        let read = |texts: &[&str]| wanted(&texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>());
        let expected = Wanted { official: Some(true), automated: None, stars: 7 };
        assert_eq!(read(&["is-official=true", "stars=3", "stars=7"]).unwrap(), expected);
        assert!(read(&["stars=many"]).is_err() && read(&["foo=1"]).is_err());
    }
}
