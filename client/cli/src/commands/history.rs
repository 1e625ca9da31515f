//! `cove history`

use cove_engine::Image;
use time::OffsetDateTime;

use crate::arguments::History;
use crate::context::Context;
use crate::error::Error;
use crate::format::{Column, List, Row, row};
use crate::progress::short;
use crate::table::cut;
use crate::units::{ago, human_size, parse_rfc3339, rfc3339_seconds};

const COLUMNS: &[Column] = &[
    Column { name: "Comment", title: "COMMENT" },
    Column { name: "CreatedAt", title: "CREATED AT" },
    Column { name: "CreatedBy", title: "CREATED BY" },
    Column { name: "CreatedSince", title: "CREATED" },
    Column { name: "ID", title: "IMAGE" },
    Column { name: "Size", title: "SIZE" },
];
/// Widest text of what made a layer, unless all of it is wanted.
const CREATED_BY_WIDTH: usize = 45;

/// Shows how an image came to be, the newest step first.
pub fn run(context: &Context, arguments: &History) -> Result<(), Error> {
    let store = context.store()?;
    let found = store.find(&arguments.image, &context.defaults()?)?;
    let image = match &arguments.platform {
        Some(platform) => store.for_platform(&found, &arguments.image, platform)?,
        None => found.image,
    };
    let rows = rows(&image, arguments);
    let created = if arguments.human { "CreatedSince" } else { "CreatedAt" };
    let usual = vec![("ID", false), (created, false), ("CreatedBy", true), ("Size", false), ("Comment", true)];
    let only = arguments.quiet.then_some("ID");
    let list = List { columns: COLUMNS, usual };
    Ok(list.print(&context.printer, arguments.format.as_deref(), only, arguments.no_trunc, &rows)?)
}

fn rows(image: &Image, arguments: &History) -> Vec<Row> {
    let now = OffsetDateTime::now_utc();
    let mut sizes = image.layers().iter().map(|layer| layer.size);
    let history = &image.config().document().history;
    let mut rows: Vec<Row> = history
        .iter()
        .map(|step| {
            // Steps that changed no file have no layer.
            let size = if step.empty_layer { 0 } else { sizes.next().unwrap_or(0) };
            let created = step.created.as_deref().and_then(parse_rfc3339);
            let by = step.created_by.replace('\t', " ");
            row([
                ("ID", "<missing>".to_owned()),
                // Go writes a time that is not there as the first second of the first year.
                ("CreatedAt", created.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), rfc3339_seconds)),
                ("CreatedSince", ago(created, now)),
                ("CreatedBy", if arguments.no_trunc { by } else { cut(&by, CREATED_BY_WIDTH) }),
                ("Size", if arguments.human { human_size(size) } else { size.to_string() }),
                ("Comment", step.comment.clone()),
            ])
        })
        .collect();
    rows.reverse();
    if let Some(newest) = rows.first_mut() {
        let id = if arguments.no_trunc { image.id().to_string() } else { short(image.id()) };
        newest.insert("ID".to_owned(), id.into());
    }
    rows
}
