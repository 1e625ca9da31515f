//! `cove image prune` and `cove system prune`

use std::io::{self, BufRead};

use cove_container::events::Event;
use cove_engine::{LabelFilter, PruneFilter, Pruned};
use time::OffsetDateTime;

use super::{container, remove};
use crate::arguments::{Prune, SystemPrune};
use crate::context::Context;
use crate::error::Error;
use crate::filter::Filter;
use crate::listing::PruneConditions;
use crate::units::human_size;

/// `cove image prune`
pub fn run(context: &Context, arguments: &Prune) -> Result<(), Error> {
    let filter = filter(&arguments.filter, arguments.all)?;
    let what = match filter.all {
        true => "WARNING! This will remove all images without at least one container associated to them.",
        false => "WARNING! This will remove all dangling images.",
    };
    if !arguments.force && !confirmed(context, what)? {
        return Ok(());
    }
    let pruned = context.store()?.prune(&filter)?;
    context.tell(&Event::of_prune("image", pruned.bytes));
    tell(context, &pruned)
}

/// `cove system prune`: also what broken pulls have left.
pub fn run_system(context: &Context, arguments: &SystemPrune) -> Result<(), Error> {
    let filter = filter(&arguments.filter, arguments.all)?;
    let images = match filter.all {
        true => "all images without at least one container associated to them",
        false => "all dangling images",
    };
    let containers = "all stopped containers";
    let what =
        format!("WARNING! This will remove:\n  - {containers}\n  - {images}\n  - what unfinished pulls have left\n");
    if !arguments.force && !confirmed(context, &what)? {
        return Ok(());
    }
    // First, so that their images are unused.
    let containers =
        container::prune::prune(context, &PruneConditions::read(&arguments.filter, OffsetDateTime::now_utc())?)?;
    containers.tell(context)?;
    let store = context.store()?;
    let mut pruned = store.prune(&filter)?;
    context.tell(&Event::of_prune("image", pruned.bytes));
    pruned.bytes += containers.bytes;
    pruned.bytes += store.prune_partial()?;
    tell(context, &pruned)
}

/// Docker writes these words in lower case here, and only here.
fn lower(line: &str) -> String {
    let mut letters = line.chars();
    letters.next().map(|first| first.to_lowercase().collect::<String>() + letters.as_str()).unwrap_or_default()
}

/// What is gone, and how much room that made.
fn tell(context: &Context, pruned: &Pruned) -> Result<(), Error> {
    let defaults = context.defaults()?;
    if !pruned.removed.is_empty() {
        context.printer.line("Deleted Images:")?;
        for removed in &pruned.removed {
            context.printer.line(lower(&remove::line(removed, &defaults)))?;
        }
        context.printer.line("")?;
    }
    Ok(context.printer.line(format!("Total reclaimed space: {}", human_size(pruned.bytes)))?)
}

fn filter(filters: &[Filter], all: bool) -> Result<PruneFilter, Error> {
    let conditions = PruneConditions::read(filters, OffsetDateTime::now_utc())?;
    Ok(PruneFilter {
        all: all || conditions.all,
        until: conditions.until,
        labels: labels(conditions.labels),
        without_labels: labels(conditions.without),
    })
}

fn labels(conditions: Vec<(String, Option<String>)>) -> Vec<LabelFilter> {
    conditions.into_iter().map(|(name, value)| LabelFilter { name, value }).collect()
}

/// Asks whether to go on. Where nobody answers, the answer is no: then, as with docker, nothing is done and nothing
/// has failed.
pub(super) fn confirmed(context: &Context, what: &str) -> Result<bool, Error> {
    context.printer.text(&format!("{what}\nAre you sure you want to continue? [y/N] "))?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}
