//! `cove system df`

use time::OffsetDateTime;

use super::images::listed;
use crate::arguments::DiskUsage;
use crate::context::Context;
use crate::error::Error;
use crate::format::{Column, List, Row, row};
use crate::listing::{self, Look};
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
        let rows =
            listing::rows(images.iter().map(listed).collect(), look, &context.defaults()?, OffsetDateTime::now_utc());
        let mut list = listing::list(look);
        list.usual.push(("SharedSize", false));
        list.usual.push(("UniqueSize", false));
        list.usual.push(("Containers", false));
        context.printer.line("Images space usage:\n")?;
        list.print(&context.printer, None, None, false, &rows)?;
        return Ok(context.printer.line("")?);
    }
    let reclaimable = match usage.images_size {
        0 => human_size(0),
        size => format!("{} ({}%)", human_size(usage.reclaimable), usage.reclaimable * 100 / size),
    };
    let rows: Vec<Row> = vec![
        line("Images", usage.images, human_size(usage.images_size), reclaimable),
        line("Containers", 0, human_size(0), human_size(0)),
        line("Local Volumes", 0, human_size(0), human_size(0)),
        line("Build Cache", 0, human_size(0), human_size(0)),
    ];
    let usual = ["Type", "TotalCount", "Active", "Size", "Reclaimable"].map(|name| (name, false)).to_vec();
    Ok(List { columns: COLUMNS, usual }.print(&context.printer, arguments.format.as_deref(), None, false, &rows)?)
}

fn line(kind: &str, total: usize, size: String, reclaimable: String) -> Row {
    row([
        ("Type", kind.to_owned()),
        ("TotalCount", total.to_string()),
        ("Active", "0".to_owned()),
        ("Size", size),
        ("Reclaimable", reclaimable),
    ])
}
