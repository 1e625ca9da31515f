//! Completion in shells: a small script that asks this program, which knows its commands and the images of the store.

use std::ffi::OsStr;

use clap_complete::CompletionCandidate;

use crate::context::Context;
use crate::listing::familiar;

/// The variable by which the shell's script asks.
pub const VARIABLE: &str = "COVE_COMPLETE";

/// The script for bash. It asks by [`VARIABLE`], as those of the other shells do.
pub const BASH: &str = include_str!("completion.bash");

/// Names of images in the store that begin like this. Where there is no store, or it cannot be read, there are none:
/// a shell that asks shows no messages.
pub fn image_names(begun: &OsStr) -> Vec<CompletionCandidate> {
    let begun = begun.to_string_lossy();
    let names = names().unwrap_or_default();
    names.into_iter().filter(|name| name.starts_with(&*begun)).map(CompletionCandidate::new).collect()
}

/// Names of volumes that begin like this.
pub fn volume_names(begun: &OsStr) -> Vec<CompletionCandidate> {
    let begun = begun.to_string_lossy();
    let volumes = bare().volumes().all().map(|(volumes, _)| volumes).unwrap_or_default();
    let names = volumes.iter().map(|volume| volume.name().to_owned());
    names.filter(|name| name.starts_with(&*begun)).map(CompletionCandidate::new).collect()
}

fn bare() -> Context {
    let environment = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(Into::into);
    Context::bare(environment("COVE_ROOT"), environment("COVE_RUN"))
}

fn names() -> Option<Vec<String>> {
    let context = bare();
    let defaults = context.defaults().unwrap_or_default();
    let images = context.store_if_there().ok()??.images().ok()?;
    let mut names: Vec<String> =
        images.iter().flat_map(|image| image.tags()).map(|name| familiar(name, &defaults)).collect();
    names.sort();
    names.dedup();
    Some(names)
}
