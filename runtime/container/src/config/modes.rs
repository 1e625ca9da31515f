//! Whose namespaces a container uses: its own, the host's or another container's.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// A mode that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("invalid {kind} mode: {text}")]
pub struct UnknownMode {
    /// Which namespace: `IPC`.
    pub kind: &'static str,
    /// What was written.
    pub text: String,
}

/// The network that a container is in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NetworkMode {
    /// `default`: the bridge that every container is in.
    #[default]
    Default,
    /// `none`: a namespace with a loopback device only.
    None,
    /// `host`: the host's.
    Host,
    /// `container:ID`: another container's.
    Container(String),
    /// A network by name or id; `bridge` is one.
    Named(String),
}

/// The System V IPC objects and message queues that a container sees.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum IpcMode {
    /// Empty: what the engine thinks best, which is `private`.
    #[default]
    Default,
    /// `none`: its own, and no `/dev/shm`.
    None,
    /// `private`: its own.
    Private,
    /// `shareable`: its own, which another container may join.
    Shareable,
    /// `host`: the host's.
    Host,
    /// `container:ID`: another container's.
    Container(String),
}

/// The processes that a container sees.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PidMode {
    /// Empty: its own.
    #[default]
    Private,
    /// `host`: the host's.
    Host,
    /// `container:ID`: another container's.
    Container(String),
}

/// The host name that a container sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UtsMode {
    /// Empty: its own.
    #[default]
    Private,
    /// `host`: the host's.
    Host,
}

/// The ids that a container sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UsernsMode {
    /// Empty: those of the engine.
    #[default]
    Default,
    /// `host`: the host's.
    Host,
}

/// The cgroups that a container sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CgroupnsMode {
    /// Empty: its own where cgroups are version 2, else the host's.
    #[default]
    Default,
    /// `host`: the host's.
    Host,
    /// `private`: its own.
    Private,
}

impl NetworkMode {
    /// The network's name, unless the container has none of its own: docker's bridge is called `bridge`.
    pub fn network(&self) -> Option<&str> {
        match self {
            Self::Default => Some("bridge"),
            Self::Named(name) => Some(name),
            Self::None | Self::Host | Self::Container(_) => None,
        }
    }
}

impl FromStr for NetworkMode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        Ok(match text {
            "" | "default" => Self::Default,
            "none" => Self::None,
            "host" => Self::Host,
            _ => match text.strip_prefix("container:") {
                Some(id) => Self::Container(id.to_owned()),
                None => Self::Named(text.to_owned()),
            },
        })
    }
}

impl fmt::Display for NetworkMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::None => formatter.write_str("none"),
            Self::Host => formatter.write_str("host"),
            Self::Container(id) => write!(formatter, "container:{id}"),
            Self::Named(name) => formatter.write_str(name),
        }
    }
}

impl FromStr for IpcMode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        Ok(match text {
            "" => Self::Default,
            "none" => Self::None,
            "private" => Self::Private,
            "shareable" => Self::Shareable,
            "host" => Self::Host,
            _ => Self::Container(other_container("IPC", text)?),
        })
    }
}

impl fmt::Display for IpcMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => Ok(()),
            Self::None => formatter.write_str("none"),
            Self::Private => formatter.write_str("private"),
            Self::Shareable => formatter.write_str("shareable"),
            Self::Host => formatter.write_str("host"),
            Self::Container(id) => write!(formatter, "container:{id}"),
        }
    }
}

impl FromStr for PidMode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        Ok(match text {
            "" => Self::Private,
            "host" => Self::Host,
            _ => Self::Container(other_container("PID", text)?),
        })
    }
}

impl fmt::Display for PidMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private => Ok(()),
            Self::Host => formatter.write_str("host"),
            Self::Container(id) => write!(formatter, "container:{id}"),
        }
    }
}

impl FromStr for UtsMode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        match text {
            "" => Ok(Self::Private),
            "host" => Ok(Self::Host),
            _ => Err(unknown("UTS", text)),
        }
    }
}

impl fmt::Display for UtsMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Private => "",
            Self::Host => "host",
        })
    }
}

impl FromStr for UsernsMode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        match text {
            "" => Ok(Self::Default),
            "host" => Ok(Self::Host),
            _ => Err(unknown("USER", text)),
        }
    }
}

impl fmt::Display for UsernsMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Default => "",
            Self::Host => "host",
        })
    }
}

impl FromStr for CgroupnsMode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        match text {
            "" => Ok(Self::Default),
            "host" => Ok(Self::Host),
            "private" => Ok(Self::Private),
            _ => Err(unknown("CGROUP", text)),
        }
    }
}

impl fmt::Display for CgroupnsMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Default => "",
            Self::Host => "host",
            Self::Private => "private",
        })
    }
}

fn unknown(kind: &'static str, text: &str) -> UnknownMode {
    UnknownMode { kind, text: text.to_owned() }
}

fn other_container(kind: &'static str, text: &str) -> Result<String, UnknownMode> {
    match text.strip_prefix("container:") {
        Some(id) if !id.is_empty() => Ok(id.to_owned()),
        _ => Err(unknown(kind, text)),
    }
}

/// A mode is written as its word.
macro_rules! as_text {
    ($($mode:ty),+) => {$(
        impl Serialize for $mode {
            fn serialize<S: Serializer>(&self, target: S) -> Result<S::Ok, S::Error> {
                target.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $mode {
            fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
                String::deserialize(source)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}

as_text!(NetworkMode, IpcMode, PidMode, UtsMode, UsernsMode, CgroupnsMode);
