//! `cove system df`

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use cove_container::Volumes;
use cove_container::volumes::usage;
use cove_engine::Image;
use cove_oci::Digest;
use serde_json::Value as Json;
use time::OffsetDateTime;

use super::images::listed;
use crate::arguments::DiskUsage;
use crate::containers::disk_usage;
use crate::context::Context;
use crate::error::Error;
use crate::format::{Column, List, Row, row};
use crate::listing::{self, Look};
use crate::progress::short;
use crate::table::Table;
use crate::units::human_size;

const COLUMNS: &[Column] = &[
    Column { name: "Active", title: "ACTIVE" },
    Column { name: "Reclaimable", title: "RECLAIMABLE" },
    Column { name: "Size", title: "SIZE" },
    Column { name: "TotalCount", title: "TOTAL" },
    Column { name: "Type", title: "TYPE" },
];

/// Shows what takes room.
pub fn run(context: &Context, arguments: &DiskUsage) -> Result<(), Error> {
    let store = context.store()?;
    let usage = store.usage()?;
    if arguments.verbose && arguments.format.is_none() {
        let images = store.images()?;
        let look = Look { digests: false, no_trunc: false };
        let mut rows =
            listing::rows(images.iter().map(listed).collect(), look, &context.defaults()?, OffsetDateTime::now_utc());
        let shared = shared_sizes(&images);
        for row in &mut rows {
            let id = row.get("ID").and_then(Json::as_str).unwrap_or_default();
            let (shared, unique) = shared.get(id).copied().unwrap_or_default();
            row.extend(self::row([
                ("SharedSize", human_size(shared)),
                ("UniqueSize", human_size(unique)),
                ("Containers", "0".to_owned()),
            ]));
        }
        let mut list = listing::list(look);
        list.usual.push(("SharedSize", false));
        list.usual.push(("UniqueSize", false));
        list.usual.push(("Containers", false));
        context.printer.line("Images space usage:\n")?;
        list.print(&context.printer, None, None, false, &rows)?;
        // There are none of these yet; docker shows their columns all the same.
        context.printer.line("\nContainers space usage:\n")?;
        print_titles(
            context,
            &["CONTAINER ID", "IMAGE", "COMMAND", "LOCAL VOLUMES", "SIZE", "CREATED", "STATUS", "NAMES"],
        )?;
        context.printer.line("\nLocal Volumes space usage:\n")?;
        print_titles(context, &["VOLUME NAME", "LINKS", "SIZE"])?;
        context.printer.line("\nBuild cache usage: 0B\n")?;
        return print_titles(context, &["CACHE ID", "CACHE TYPE", "SIZE", "CREATED", "LAST USED", "USAGE", "SHARED"]);
    }
    let reclaimable = match usage.images_size {
        0 => human_size(0),
        size => format!("{} ({}%)", human_size(usage.reclaimable), usage.reclaimable * 100 / size),
    };
    let containers = containers(context)?;
    let used: HashSet<String> = containers.iter().map(|found| found.image.clone()).collect();
    let used = store.images()?.iter().filter(|image| used.contains(&image.id().to_string())).count();
    let part = |all: u64, idle: u64| match all {
        0 => human_size(0),
        all => format!("{} ({}%)", human_size(idle), idle * 100 / all),
    };
    let sum =
        |idle: bool| -> u64 { containers.iter().filter(|found| !idle || !found.runs).map(|found| found.size).sum() };
    let (volumes, linked, volumes_size, idle_size) = volumes(context)?;
    let running = containers.iter().filter(|found| found.runs).count();
    let rows: Vec<Row> = vec![
        line("Images", usage.images, used, human_size(usage.images_size), reclaimable),
        line("Containers", containers.len(), running, human_size(sum(false)), part(sum(false), sum(true))),
        line("Local Volumes", volumes, linked, human_size(volumes_size), part(volumes_size, idle_size)),
        line("Build Cache", 0, 0, human_size(0), human_size(0)),
    ];
    let usual = ["Type", "TotalCount", "Active", "Size", "Reclaimable"].map(|name| (name, false)).to_vec();
    Ok(List { columns: COLUMNS, usual }.print(&context.printer, arguments.format.as_deref(), None, false, &rows)?)
}

/// The header of a table without lines.
fn print_titles(context: &Context, titles: &[&str]) -> Result<(), Error> {
    let mut table = Table::new(&[]);
    table.line(titles.iter().copied());
    Ok(context.printer.text(&table.render(None))?)
}

/// Of each image, by its short id: bytes of layers that other images have too, and of its own.
fn shared_sizes(images: &[Image]) -> HashMap<String, (u64, u64)> {
    let mut users: HashMap<&PathBuf, HashSet<&Digest>> = HashMap::new();
    for image in images {
        for layer in image.layers() {
            users.entry(&layer.folder).or_default().insert(image.id());
        }
    }
    let sizes = images.iter().map(|image| {
        let mut seen = HashSet::new();
        let (mut shared, mut unique) = (0, 0);
        for layer in image.layers().iter().filter(|layer| seen.insert(&layer.folder)) {
            match users.get(&layer.folder).is_some_and(|users| users.len() > 1) {
                true => shared += layer.size,
                false => unique += layer.size,
            }
        }
        (short(image.id()), (shared, unique))
    });
    sizes.collect()
}

/// What a container takes.
struct Used {
    image: String,
    runs: bool,
    size: u64,
}

fn containers(context: &Context) -> Result<Vec<Used>, Error> {
    let used = |container: cove_container::Container| {
        let record = container.record().ok()?;
        let (state, _) = container.state().ok()?;
        Some(Used { image: record.image, runs: state.status.is_running(), size: disk_usage(&container.changes()) })
    };
    // One that goes in this moment takes nothing.
    Ok(context.containers().all()?.into_iter().filter_map(used).collect())
}

/// How many volumes there are and how many containers have; the bytes of all, and of those that none has.
fn volumes(context: &Context) -> Result<(usize, usize, u64, u64), Error> {
    let users = usage(&context.containers())?;
    let (volumes, _) = Volumes::new(&context.places().root).all()?;
    let (mut linked, mut size, mut idle) = (0, 0, 0);
    for volume in &volumes {
        let bytes = disk_usage(&volume.data());
        size += bytes;
        match users.contains_key(volume.name()) {
            true => linked += 1,
            false => idle += bytes,
        }
    }
    Ok((volumes.len(), linked, size, idle))
}

fn line(kind: &str, total: usize, active: usize, size: String, reclaimable: String) -> Row {
    row([
        ("Type", kind.to_owned()),
        ("TotalCount", total.to_string()),
        ("Active", active.to_string()),
        ("Size", size),
        ("Reclaimable", reclaimable),
    ])
}
