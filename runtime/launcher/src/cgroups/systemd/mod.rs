//! Cgroups that systemd makes (`--systemd-cgroup`): a transient unit for each container, over its D-Bus.
//!
//! A scope cannot be empty when it begins, and our child walks into its cgroup by itself. So a process that does nothing
//! is what the scope begins with; it ends once the child is in. The limits are told to systemd too: it writes them again
//! whenever it thinks it should.

mod bus;
mod message;
mod placeholder;
mod properties;

use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

pub use bus::BusError;
pub(super) use placeholder::Placeholder;

use super::CgroupError;
use super::place::{Unit, clean};
use bus::Bus;
pub(super) use message::Value;

#[cfg(test)]
pub(super) use message::{Message, Reader};

/// The cgroup that units are below of: the root for the system's, that of its own systemd for a user's.
pub(super) fn base(unit: &Unit, socket: Option<&Path>) -> Result<PathBuf, CgroupError> {
    if !unit.user {
        return Ok(PathBuf::new());
    }
    Ok(clean(Path::new(&Bus::connect(unit.user, socket)?.control_group()?)))
}

/// Starts the unit with a process that keeps it alive, which there is none of in a slice.
pub(super) fn start(
    unit: &Unit,
    resources: &LinuxResources,
    is_unified: bool,
    socket: Option<&Path>,
) -> Result<Option<Placeholder>, CgroupError> {
    let mut bus = Bus::connect(unit.user, socket)?;
    let placeholder = match unit.is_slice() {
        true => None,
        false => Some(Placeholder::start().map_err(CgroupError::Placeholder)?),
    };
    let mut properties = properties::of_unit(unit, placeholder.as_ref().map(Placeholder::id));
    properties.extend(properties::of_devices(resources)?);
    properties.extend(properties::of_limits(resources, is_unified)?);
    bus.start_transient_unit(&unit.name, &properties)?;
    Ok(placeholder)
}

/// Tells systemd the new limits.
pub(super) fn update(
    unit: &Unit,
    resources: &LinuxResources,
    is_unified: bool,
    socket: Option<&Path>,
) -> Result<(), CgroupError> {
    let mut properties = match resources.devices() {
        Some(_) => properties::of_devices(resources)?,
        None => Vec::new(),
    };
    properties.extend(properties::of_limits(resources, is_unified)?);
    if properties.is_empty() {
        return Ok(());
    }
    Ok(Bus::connect(unit.user, socket)?.set_unit_properties(&unit.name, &properties)?)
}

/// Stops the unit, if it is still there.
pub(super) fn stop(unit: &Unit, socket: Option<&Path>) -> Result<(), CgroupError> {
    Ok(Bus::connect(unit.user, socket)?.stop_unit(&unit.name)?)
}
