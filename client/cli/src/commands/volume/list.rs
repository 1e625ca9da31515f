//! `cove volume ls`

use std::cmp::Ordering;

use cove_container::Volume;
use cove_container::volumes::usage;

use crate::arguments::ListVolumes;
use crate::context::Context;
use crate::error::Error;
use crate::filter::Filter;
use crate::format::{Column, LABELS, List, Row, row};
use crate::listing::label;

/// The fields of a volume in docker's templates.
const COLUMNS: &[Column] = &[
    Column { name: "Availability", title: "AVAILABILITY" },
    Column { name: "Driver", title: "DRIVER" },
    Column { name: "Group", title: "GROUP" },
    Column { name: "Labels", title: "LABELS" },
    Column { name: "Links", title: "LINKS" },
    Column { name: "Mountpoint", title: "MOUNTPOINT" },
    Column { name: "Name", title: "VOLUME NAME" },
    Column { name: "Scope", title: "SCOPE" },
    Column { name: "Size", title: "SIZE" },
    Column { name: "Status", title: "STATUS" },
];

const FILTERS: [&str; 4] = ["dangling", "driver", "label", "name"];

/// Lists volumes.
pub fn run(context: &Context, arguments: &ListVolumes) -> Result<(), Error> {
    Filter::check(&arguments.filter, &FILTERS)?;
    let dangling = arguments.filter.iter().rfind(|filter| filter.name == "dangling");
    let dangling = dangling.map(Filter::boolean).transpose()?;
    let (mut found, broken) = context.volumes().all()?;
    for error in broken {
        context.printer.note(format!("WARNING: a volume cannot be listed: {error}"));
    }
    found.retain(|volume| fits(volume, &arguments.filter));
    if let Some(wanted) = dangling {
        let usage = usage(&context.containers())?;
        found.retain(|volume| usage.contains_key(volume.name()) != wanted);
    }
    found.sort_by(|one, other| natural(one.name(), other.name()));
    let rows: Vec<Row> = found.iter().map(shown).collect();
    let list = List { columns: COLUMNS, usual: vec![("Driver", false), ("Name", true)] };
    let only = arguments.quiet.then_some("Name");
    // Names are what scripts take from here: never cut.
    Ok(list.print(&context.printer, arguments.format.as_deref(), only, true, &rows)?)
}

fn shown(volume: &Volume) -> Row {
    let record = volume.record();
    let labels: Vec<String> = record.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let unknown = || "N/A".to_owned();
    let mut fields = row([
        ("Availability", unknown()),
        ("Driver", record.driver.clone()),
        ("Group", unknown()),
        ("Labels", labels.join(",")),
        ("Links", unknown()),
        ("Mountpoint", volume.data().display().to_string()),
        ("Name", record.name.clone()),
        ("Scope", record.scope.clone()),
        ("Size", unknown()),
        ("Status", unknown()),
    ]);
    fields.insert(LABELS.to_owned(), record.labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect());
    fields
}

/// Whether a volume has all labels that are asked for, and one of the names and drivers.
fn fits(volume: &Volume, filters: &[Filter]) -> bool {
    let record = volume.record();
    let one_of = |name: &str, fits: &dyn Fn(&str) -> bool| {
        let mut values = filters.iter().filter(|filter| filter.name == name).peekable();
        values.peek().is_none() || values.any(|filter| fits(&filter.value))
    };
    let labels = filters.iter().filter(|filter| filter.name == "label");
    one_of("name", &|value| is_part(value, &record.name))
        && one_of("driver", &|value| value == record.driver)
        && labels.map(|filter| label(&filter.value)).all(|wanted| has_label(volume, &wanted))
}

/// Whether a volume has a label, with that value if one is asked for.
pub fn has_label(volume: &Volume, (name, value): &(String, Option<String>)) -> bool {
    let found = volume.record().labels.get(name);
    found.is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
}

/// A part of a name; `^` and `$` stand for its ends.
pub fn is_part(pattern: &str, name: &str) -> bool {
    let (rest, at_start) = pattern.strip_prefix('^').map_or((pattern, false), |rest| (rest, true));
    let (rest, at_end) = rest.strip_suffix('$').map_or((rest, false), |rest| (rest, true));
    match (at_start, at_end) {
        (true, true) => name == rest,
        (true, false) => name.starts_with(rest),
        (false, true) => name.ends_with(rest),
        (false, false) => name.contains(rest),
    }
}

/// Docker's order: numbers in names count as numbers.
pub fn natural(one: &str, other: &str) -> Ordering {
    let (mut left, mut right) = (one.as_bytes(), other.as_bytes());
    loop {
        let (digits, more) = (digits(left), digits(right));
        if digits > 0 && more > 0 {
            let (number, rest) = left.split_at(digits);
            let (against, after) = right.split_at(more);
            let plain = |number: &[u8]| number.iter().position(|digit| *digit != b'0').unwrap_or(number.len());
            let (significant, of_other) = (&number[plain(number)..], &against[plain(against)..]);
            let order = significant.len().cmp(&of_other.len()).then_with(|| significant.cmp(of_other));
            if order != Ordering::Equal {
                return order;
            }
            (left, right) = (rest, after);
            continue;
        }
        match (left.split_first(), right.split_first()) {
            (Some((first, rest)), Some((second, after))) if first == second => (left, right) = (rest, after),
            (Some((first, _)), Some((second, _))) => return first.cmp(second),
            _ => return left.len().cmp(&right.len()).then_with(|| one.cmp(other)),
        }
    }
}

fn digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order is what docker 28.2.2 printed.
    #[test]
    fn names_are_in_dockers_order() {
        let docker = ["24cb", "78e7", "387a", "22954e", "AA", "a.", "a2", "a10", "aa", "bv", "bv2", "mv", "named"];
        let mut names = docker;
        names.reverse();
        names.sort_by(|one, other| natural(one, other));
        assert_eq!(names, docker);
        assert_eq!(natural("a01", "a1"), Ordering::Less);
        assert_eq!(natural("a01b", "a1a"), Ordering::Greater);
        assert_eq!(natural("a", "a"), Ordering::Equal);
    }

    #[test]
    fn parts_of_names_are_found() {
        for (pattern, name, found) in [
            ("a", "data", true),
            ("^a", "data", false),
            ("^da", "data", true),
            ("ta$", "data", true),
            ("^ata$", "data", false),
            ("", "data", true),
            ("D", "data", false),
        ] {
            assert_eq!(is_part(pattern, name), found, "{pattern} {name}");
        }
    }
}
