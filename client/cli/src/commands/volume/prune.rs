//! `cove volume prune`

use cove_container::events::Event;
use cove_container::volumes::{self, usage};

use super::list::{has_label, natural};
use crate::arguments::PruneVolumes;
use crate::commands::prune::confirmed;
use crate::context::Context;
use crate::error::Error;
use crate::filter::Filter;
use crate::listing::label;
use crate::units::human_size;

/// Removes volumes that no container has: those without a name, or with `--all` those with one too.
pub fn run(context: &Context, arguments: &PruneVolumes) -> Result<(), Error> {
    Filter::check(&arguments.filter, &["all", "label", "label!"])?;
    let by_filter = arguments.filter.iter().find(|filter| filter.name == "all");
    if arguments.all && by_filter.is_some() {
        return Err(Error::Options("conflicting options: cannot specify both --all and --filter all=1"));
    }
    let all = arguments.all || by_filter.map(Filter::boolean).transpose()?.unwrap_or(false);
    let what = match all {
        true => "WARNING! This will remove all local volumes not used by at least one container.",
        false => "WARNING! This will remove anonymous local volumes not used by at least one container.",
    };
    if !arguments.force && !confirmed(context, what)? {
        return Ok(());
    }
    let (kept, containers) = (context.volumes(), context.containers());
    let (mut found, broken) = kept.all()?;
    for error in broken {
        context.printer.note(format!("WARNING: a volume cannot be removed: {error}"));
    }
    let labels = |name: &str| -> Vec<_> {
        arguments.filter.iter().filter(|filter| filter.name == name).map(|filter| label(&filter.value)).collect()
    };
    let (with, without) = (labels("label"), labels("label!"));
    let usage = usage(&containers)?;
    found.retain(|volume| {
        (all || volume.record().anonymous)
            && !usage.contains_key(volume.name())
            && with.iter().all(|wanted| has_label(volume, wanted))
            && !without.iter().any(|unwanted| has_label(volume, unwanted))
    });
    found.sort_by(|one, other| natural(one.name(), other.name()));
    let (mut bytes, mut failures, mut is_first) = (0, Vec::new(), true);
    for volume in &found {
        match kept.remove(volume, &containers) {
            Ok(freed) => {
                context.tell(&Event::of_volume("destroy", volume.name(), &volume.record().driver));
                if std::mem::take(&mut is_first) {
                    context.printer.line("Deleted Volumes:")?;
                }
                context.printer.line(volume.name())?;
                bytes += freed;
            }
            // A container has got it, or somebody else was quicker.
            Err(volumes::Error::InUse { .. } | volumes::Error::NoSuchVolume(_)) => {}
            Err(error) => failures.push(Error::from(error)),
        }
    }
    if !is_first {
        context.printer.line("")?;
    }
    context.tell(&Event::of_prune("volume", bytes));
    context.printer.line(format!("Total reclaimed space: {}", human_size(bytes)))?;
    super::told(context, &failures)
}
