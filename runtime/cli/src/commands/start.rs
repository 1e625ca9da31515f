//! `start`.

use cove_launcher::Container;
use lexopt::Parser;

use crate::Failed;
use crate::arguments::Global;
use crate::commands::only_id;

pub(super) fn start(global: &Global, parser: Parser) -> Result<u8, Failed> {
    Container::find(&global.root, &only_id(parser)?)?.start()?;
    Ok(0)
}
