//! Platforms: what a machine runs, and which image of an index fits it.
//!
//! Source: OCI image specification, image-index.md "platform"; normalisation as containerd's and docker's
//! `platforms` packages do it, so that `linux/arm64` and `linux/arm64/v8` are the same.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Descriptor;
use crate::digest::shortened;

/// An operating system and a processor, such as `linux/arm64/v8`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// Operating system, in Go's words: `linux`.
    #[serde(default)]
    pub os: String,
    /// Processor, in Go's words: `amd64`, `arm64`.
    #[serde(default)]
    pub architecture: String,
    /// Variant of the processor: `v7`. Empty where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Version of the operating system, which only Windows images have.
    #[serde(default, rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
}

/// A text that is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a platform: write it as OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/arm64")]
pub struct PlatformError(String);

impl Platform {
    /// The platform of this machine.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            other => other,
        };
        let os = std::env::consts::OS.to_owned();
        Platform { os, architecture: architecture.to_owned(), variant: String::new(), os_version: String::new() }
            .normalised()
    }

    /// The same platform in its usual words: `x86_64` is `amd64`, `arm64` without a variant means `v8`, and
    /// `arm` means `v7`.
    #[must_use]
    pub fn normalised(&self) -> Self {
        let (architecture, variant) = match (self.architecture.to_ascii_lowercase().as_str(), self.variant.as_str()) {
            ("x86_64" | "x86-64" | "amd64", "v1" | "") => ("amd64".to_owned(), String::new()),
            ("x86_64" | "x86-64" | "amd64", variant) => ("amd64".to_owned(), variant.to_owned()),
            ("i386" | "x86", _) => ("386".to_owned(), String::new()),
            ("aarch64" | "arm64", "8" | "v8" | "") => ("arm64".to_owned(), String::new()),
            ("aarch64" | "arm64", variant) => ("arm64".to_owned(), variant.to_owned()),
            ("armhf", _) | ("arm", "" | "7") => ("arm".to_owned(), "v7".to_owned()),
            ("armel", _) | ("arm", "6") => ("arm".to_owned(), "v6".to_owned()),
            ("arm", "5") => ("arm".to_owned(), "v5".to_owned()),
            (architecture, variant) => (architecture.to_owned(), variant.to_owned()),
        };
        let os = match self.os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            os => os.to_owned(),
        };
        Platform { os, architecture, variant, os_version: self.os_version.clone() }
    }

    /// How well an image for `offered` runs where `self` is wanted: `None` if not at all, smaller is better.
    fn distance(&self, offered: &Platform) -> Option<u8> {
        let (wanted, offered) = (self.normalised(), offered.normalised());
        if wanted.os != offered.os {
            return None;
        }
        if wanted.architecture == offered.architecture {
            let level = |variant: &str| variant.trim_start_matches('v').parse::<u8>().ok();
            return match (wanted.architecture.as_str(), level(&wanted.variant), level(&offered.variant)) {
                _ if wanted.variant == offered.variant => Some(0),
                // Older variants of ARM run on newer ones; amd64 without a variant runs on all of them.
                ("arm", Some(wanted), Some(offered)) if offered < wanted => Some(wanted - offered),
                ("amd64", Some(wanted), offered) if offered.unwrap_or(1) < wanted => {
                    Some(wanted - offered.unwrap_or(1))
                }
                ("arm64", Some(wanted), offered) if offered.unwrap_or(8) <= wanted => {
                    Some(wanted - offered.unwrap_or(8))
                }
                _ => None,
            };
        }
        match (wanted.architecture.as_str(), offered.architecture.as_str()) {
            ("amd64", "386") => Some(100),
            ("arm64", "arm") => {
                Some(100 + 8u8.saturating_sub(offered.variant.trim_start_matches('v').parse().unwrap_or(7)))
            }
            _ => None,
        }
    }

    /// The entry of an index that fits this platform best; the first of several that fit equally well.
    /// Entries that are not images (attestations have the platform `unknown/unknown`) never fit.
    pub fn choose<'a>(&self, entries: impl IntoIterator<Item = &'a Descriptor>) -> Option<&'a Descriptor> {
        let fitting = entries.into_iter().filter(|entry| !entry.is_attestation()).filter_map(|entry| {
            // An entry without a platform is for whoever asks: it comes last.
            let distance = entry.platform.as_ref().map_or(Some(u8::MAX), |offered| self.distance(offered));
            distance.map(|distance| (distance, entry))
        });
        fitting.min_by_key(|(distance, _)| *distance).map(|(_, entry)| entry)
    }

    /// Whether an image for `offered` is for this very platform.
    pub fn is(&self, offered: &Platform) -> bool {
        self.distance(offered) == Some(0)
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let word =
            |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if !parts.iter().all(word) {
            return Err(PlatformError(shortened(text)));
        }
        let platform = |os: &str, architecture: &str, variant: &str| Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
            os_version: String::new(),
        };
        match parts.as_slice() {
            // One word is an operating system if it is known as one, else a processor: as docker reads it.
            [os @ ("linux" | "windows" | "darwin" | "freebsd")] => Ok(platform(os, &Platform::host().architecture, "")),
            [architecture] => Ok(platform("linux", architecture, "")),
            [os, architecture] => Ok(platform(os, architecture, "")),
            [os, architecture, variant] => Ok(platform(os, architecture, variant)),
            _ => Err(PlatformError(shortened(text))),
        }
        .map(|platform| platform.normalised())
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn entry(platform: &str) -> Descriptor {
        let digest = crate::Digest::of(crate::Algorithm::Sha256, platform.as_bytes());
        let mut entry = Descriptor::new(crate::media_type::OCI_MANIFEST, digest, 1);
        entry.platform = match platform {
            "" => None,
            "unknown/unknown" => Some(Platform {
                os: "unknown".into(),
                architecture: "unknown".into(),
                variant: String::new(),
                os_version: String::new(),
            }),
            text => Some(text.parse().unwrap()),
        };
        entry
    }

    fn chosen(wanted: &str, offered: &[&str]) -> Option<usize> {
        let entries: Vec<Descriptor> = offered.iter().map(|text| entry(text)).collect();
        let found = wanted.parse::<Platform>().unwrap().choose(&entries).cloned();
        found.map(|found| entries.iter().position(|entry| *entry == found).unwrap())
    }

    #[test]
    fn the_best_entry_is_chosen() {
        assert_eq!(chosen("linux/arm64", &["linux/amd64", "linux/arm64/v8"]), Some(1));
        assert_eq!(chosen("linux/arm/v7", &["linux/arm/v5", "linux/arm/v6", "linux/arm64"]), Some(1));
        assert_eq!(chosen("linux/arm/v6", &["linux/arm/v7"]), None);
        assert_eq!(chosen("linux/amd64", &["linux/386", "linux/amd64"]), Some(1));
        assert_eq!(chosen("linux/amd64", &["unknown/unknown", "linux/s390x"]), None);
        assert_eq!(chosen("linux/amd64", &[""]), Some(0));
        assert_eq!(chosen("linux/amd64/v3", &["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"]), Some(1));
    }

    #[test]
    fn platforms_are_read_as_docker_reads_them() {
        assert_eq!("arm64".parse::<Platform>().unwrap().to_string(), "linux/arm64");
        assert_eq!("linux/x86_64".parse::<Platform>().unwrap().to_string(), "linux/amd64");
        assert_eq!("linux/arm".parse::<Platform>().unwrap().to_string(), "linux/arm/v7");
        for bad in ["", "linux/", "a/b/c/d", "linux/a b"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad:?} must not parse");
        }
    }
}
