//! `state`.

use cove_launcher::Container;
use lexopt::Parser;

use crate::arguments::Global;
use crate::commands::only_id;
use crate::{Failed, output};

pub(super) fn state(global: &Global, parser: Parser) -> Result<u8, Failed> {
    let container = Container::find(&global.root, &only_id(parser)?)?;
    output::print(&serde_json::to_string_pretty(&container.state()?)?);
    Ok(0)
}
