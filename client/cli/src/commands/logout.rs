//! `cove logout`

use cove_oci::RegistryName;

use crate::arguments::Logout;
use crate::context::Context;
use crate::error::Error;

/// Docker Hub's key in `config.json`, by which docker calls it.
pub const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// Forgets a registry's credential.
pub fn run(context: &Context, arguments: &Logout) -> Result<(), Error> {
    let registry = registry(context, arguments.server.as_deref())?;
    let mut credentials = context.credentials()?;
    context.printer.line(format!("Removing login credentials for {}", shown(&registry)))?;
    if !credentials.erase(&registry)? {
        context.printer.note(format!("Not logged in to {}", shown(&registry)));
    }
    Ok(())
}

/// The registry that a server's address means; without one, the default registry.
pub fn registry(context: &Context, server: Option<&str>) -> Result<RegistryName, Error> {
    let Some(server) = server.filter(|server| !server.is_empty()) else { return Ok(context.defaults()?.registry) };
    // People copy addresses from browsers: docker takes the scheme and the path away too.
    let host = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    Ok(host.split('/').next().unwrap_or(host).parse()?)
}

/// How docker calls the registry.
pub fn shown(registry: &RegistryName) -> &str {
    if registry.is_docker_hub() { DOCKER_HUB_KEY } else { registry.as_str() }
}
