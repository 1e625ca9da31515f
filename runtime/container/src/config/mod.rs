//! What a container was asked to be, in the shapes and words of docker's API (1.41 and later): what `docker inspect`
//! prints as `Config`, `HostConfig`, `Mounts` and `NetworkSettings`.
//!
//! A field that is missing, or `null`, has its default. Where docker writes `null` for an empty list, so do we.

mod container;
mod host;
mod modes;
mod mounts;
mod network;
mod null;

pub use container::{Config, Empty, HealthConfig};
pub use host::{
    DeviceMapping, DeviceRequest, HostConfig, LogConfig, RestartCondition, RestartPolicy, ThrottleDevice, Ulimit,
    WeightDevice,
};
pub use modes::{CgroupnsMode, IpcMode, NetworkMode, PidMode, UnknownMode, UsernsMode, UtsMode};
pub(crate) use mounts::kept;
pub use mounts::{
    BindOptions, Driver, Mount, MountDetails, MountKind, MountPoint, Propagation, TmpfsOptions, UnknownMountWord,
    VolumeOptions,
};
pub use network::{Address, EndpointIpamConfig, EndpointSettings, NetworkSettings, PortBinding, PortMap};

#[cfg(test)]
mod tests;
