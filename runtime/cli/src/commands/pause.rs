//! `pause` and `resume`.

use cove_launcher::Container;
use lexopt::Parser;

use crate::Failed;
use crate::arguments::Global;
use crate::commands::only_id;

pub(super) fn pause(global: &Global, parser: Parser) -> Result<u8, Failed> {
    Container::find(&global.root, &only_id(parser)?)?.pause()?;
    Ok(0)
}

pub(super) fn resume(global: &Global, parser: Parser) -> Result<u8, Failed> {
    Container::find(&global.root, &only_id(parser)?)?.resume()?;
    Ok(0)
}
