//! `cove completion`: prints the script by which a shell asks for completions.

use clap_complete::env::Shells;

use crate::arguments::{Completion, Shell};
use crate::completion::{BASH, VARIABLE};
use crate::context::Context;
use crate::error::Error;

/// Prints the script.
pub fn run(context: &Context, arguments: &Completion) -> Result<(), Error> {
    let name = match arguments.shell {
        // clap's own script leaves words as bash cuts them, at every `:` of an image's name.
        Some(Shell::Bash) => return Ok(context.printer.text(BASH)?),
        Some(Shell::Fish) => "fish",
        Some(Shell::Powershell) => "powershell",
        Some(Shell::Zsh) => "zsh",
        None => return Ok(()),
    };
    let shells = Shells::builtins();
    if let Some(shell) = shells.completer(name) {
        let mut script = Vec::new();
        shell.write_registration(VARIABLE, "cove", "cove", "cove", &mut script)?;
        context.printer.bytes(&script)?;
    }
    Ok(())
}
