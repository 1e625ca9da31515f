//! `cove port`

use std::net::SocketAddr;

use cove_network::{Binding, Networks};

use crate::arguments::Port;
use crate::context::Context;
use crate::error::Error;

/// Prints where a container's ports can be reached.
pub fn run(context: &Context, arguments: &Port) -> Result<(), Error> {
    let container = super::find(context, &arguments.container)?;
    let record = container.record()?;
    let places = context.places();
    let endpoint = match record.host_config.network_mode.network() {
        Some(name) if container.state()?.0.status.is_running() => {
            Networks::of(&places.root, &places.run).endpoint(name, container.id().as_str())?
        }
        _ => None,
    };
    let mut bindings = endpoint.map(|endpoint| endpoint.ports).unwrap_or_default();
    bindings.sort_by_key(|binding| (binding.container_port, binding.protocol.as_str(), binding.host));
    let place = |binding: &Binding| SocketAddr::new(binding.host, binding.host_port);
    let Some(wanted) = &arguments.port else {
        for binding in &bindings {
            let line = format!("{}/{} -> {}", binding.container_port, binding.protocol, place(binding));
            context.printer.line(line)?;
        }
        return Ok(());
    };
    let (number, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    let port: u16 = number.parse().map_err(|_| Error::PortNumber(number.to_owned()))?;
    bindings.retain(|binding| binding.container_port == port && binding.protocol.as_str() == protocol);
    if bindings.is_empty() {
        return Err(Error::NoPublicPort { port: wanted.clone(), container: arguments.container.clone() });
    }
    for binding in &bindings {
        context.printer.line(place(binding).to_string())?;
    }
    Ok(())
}
