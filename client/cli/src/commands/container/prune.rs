//! `cove container prune`

use cove_container::events::Event;
use cove_container::{Container, Record, Status};
use time::OffsetDateTime;

use crate::arguments::PruneContainers;
use crate::commands::prune::confirmed;
use crate::containers::disk_usage;
use crate::context::Context;
use crate::error::Error;
use crate::filter::{Filter, FilterError};
use crate::listing::PruneConditions;
use crate::units::human_size;

/// Removes all containers that do not run.
pub fn run(context: &Context, arguments: &PruneContainers) -> Result<(), Error> {
    let conditions = conditions(&arguments.filter)?;
    if !arguments.force && !confirmed(context, "WARNING! This will remove all stopped containers.")? {
        return Ok(());
    }
    let pruned = prune(context, &conditions)?;
    pruned.tell(context)?;
    Ok(context.printer.line(format!("Total reclaimed space: {}", human_size(pruned.bytes)))?)
}

/// The conditions of `--filter`.
pub fn conditions(filters: &[Filter]) -> Result<PruneConditions, FilterError> {
    Filter::check(filters, &["label", "label!", "until"])?;
    PruneConditions::read(filters, OffsetDateTime::now_utc())
}

/// What a prune has removed.
#[derive(Debug, Default)]
pub struct Pruned {
    ids: Vec<String>,
    /// Bytes that the containers had written.
    pub bytes: u64,
}

impl Pruned {
    /// Names the containers, if any are gone.
    pub fn tell(&self, context: &Context) -> Result<(), Error> {
        if self.ids.is_empty() {
            return Ok(());
        }
        context.printer.line("Deleted Containers:")?;
        self.ids.iter().try_for_each(|id| context.printer.line(id))?;
        Ok(context.printer.line("")?)
    }
}

/// Removes what does not run and fits the conditions. What cannot be removed is told of and left.
pub fn prune(context: &Context, conditions: &PruneConditions) -> Result<Pruned, Error> {
    let mut pruned = Pruned::default();
    for container in context.containers().all()? {
        match prune_one(context, &container, conditions) {
            Ok(Some(bytes)) => {
                pruned.ids.push(container.id().to_string());
                pruned.bytes += bytes;
            }
            // Somebody else was quicker, or it runs by now.
            Ok(None) | Err(Error::InUse { .. } | Error::Container(cove_container::Error::NoSuchContainer(_))) => {}
            Err(error) => {
                if let Some(text) = error.text() {
                    context.printer.note(text);
                }
            }
        }
    }
    context.tell(&Event::of_prune("container", pruned.bytes));
    Ok(pruned)
}

fn prune_one(context: &Context, container: &Container, conditions: &PruneConditions) -> Result<Option<u64>, Error> {
    let record = container.record()?;
    let state = crate::containers::put_right(context, container)?;
    let is_over = matches!(state.status, Status::Created | Status::Exited | Status::Dead);
    if !is_over || !fits(conditions, &record) {
        return Ok(None);
    }
    let bytes = disk_usage(&container.changes());
    super::remove::remove(context, container, super::remove::Options::default())?;
    Ok(Some(bytes))
}

fn fits(conditions: &PruneConditions, record: &Record) -> bool {
    let labels = &record.config.labels;
    let has = |(name, value): &(String, Option<String>)| {
        labels.get(name).is_some_and(|found| value.as_ref().is_none_or(|wanted| wanted == found))
    };
    conditions.until.is_none_or(|until| record.created < until)
        && conditions.labels.iter().all(has)
        && !conditions.without.iter().any(has)
}
