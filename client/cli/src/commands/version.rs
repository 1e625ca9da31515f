//! `cove version`: two blocks as docker prints them, though client and engine are one program.

use rustix::system::uname;
use serde_json::json;

use crate::arguments::Version;
use crate::context::Context;
use crate::error::Error;
use crate::format::print_document;

/// Version of docker's API whose words and shapes are kept.
pub const API_VERSION: &str = "1.44";
/// This program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that the program was built from, where the build was told (`COVE_COMMIT`).
pub fn commit() -> &'static str {
    option_env!("COVE_COMMIT").unwrap_or("unknown")
}

fn built() -> &'static str {
    option_env!("COVE_BUILT").unwrap_or("unknown")
}

fn rust_version() -> &'static str {
    env!("CARGO_PKG_RUST_VERSION")
}

/// The processor in Go's words.
pub fn architecture() -> String {
    cove_oci::Platform::host().architecture
}

/// `cove --version`
pub fn short(context: &Context) -> Result<(), Error> {
    Ok(context.printer.line(format!("Cove version {VERSION}, build {}", commit()))?)
}

/// Prints the versions.
pub fn run(context: &Context, arguments: &Version) -> Result<(), Error> {
    if let Some(format) = &arguments.format {
        return Ok(print_document(&context.printer, format, &document())?);
    }
    let platform = format!("{}/{}", std::env::consts::OS, architecture());
    let fields = [
        ("API version:", API_VERSION),
        ("Rust version:", rust_version()),
        ("Git commit:", commit()),
        ("Built:", built()),
        ("OS/Arch:", &platform),
    ];
    let block = |indent: &str, width: usize| -> String {
        fields.iter().map(|(name, value)| format!("{indent}{name:<width$}{value}\n")).collect()
    };
    context.printer.text(&format!(
        "Client:\n Version:           {VERSION}\n{} Context:           default\n\n\
         Server:\n Engine:\n  Version:          {VERSION}\n{}",
        block(" ", 19),
        block("  ", 18)
    ))?;
    Ok(())
}

fn document() -> serde_json::Value {
    let (os, architecture) = (std::env::consts::OS, architecture());
    let common = json!({
        "Version": VERSION, "ApiVersion": API_VERSION, "GitCommit": commit(), "RustVersion": rust_version(),
        "Os": os, "Arch": architecture, "BuildTime": built(),
    });
    let (mut client, mut server) = (common.clone(), common.clone());
    client["DefaultAPIVersion"] = json!(API_VERSION);
    // The names that docker's templates use, beside those of its JSON.
    client["APIVersion"] = json!(API_VERSION);
    client["Context"] = json!("default");
    client["Platform"] = json!({ "Name": "Cove" });
    // Nothing here is written in Go.
    client["GoVersion"] = json!("");
    server["GoVersion"] = json!("");
    server["KernelVersion"] = json!(uname().release().to_string_lossy());
    server["APIVersion"] = json!(API_VERSION);
    server["MinAPIVersion"] = json!("1.24");
    server["Platform"] = json!({ "Name": "Cove" });
    server["Components"] = json!([{ "Name": "Engine", "Version": VERSION, "Details": common }]);
    json!({ "Client": client, "Server": server })
}
