//! How much a layer may demand of this machine: the table `[unpack]` of cove.toml, and the variables `COVE_UNPACK_…`,
//! which win over it. The other tables of the file are about registries, and cove-remote's.

use std::io::ErrorKind;
use std::path::Path;

use cove_engine::unpack::UnpackLimits;
use cove_remote::ConfigPaths;
use serde::Deserialize;

use crate::error::Error;

/// A limit as it is written: its key, the least and the most that make sense, and where it goes.
struct Setting {
    key: &'static str,
    least: u64,
    most: u64,
    set: fn(&mut UnpackLimits, u64),
}

/// TOML has no larger numbers.
const LARGEST: u64 = i64::MAX as u64;

const SETTINGS: [Setting; 8] = [
    Setting { key: "entries", least: 1, most: LARGEST, set: |limits, value| limits.entries = value },
    Setting { key: "depth", least: 1, most: 1 << 20, set: |limits, value| limits.depth = narrow(value) },
    Setting { key: "bytes", least: 1024, most: LARGEST, set: |limits, value| limits.bytes = value },
    Setting { key: "ratio", least: 1, most: LARGEST, set: |limits, value| limits.ratio = value },
    Setting { key: "ratio-from", least: 0, most: LARGEST, set: |limits, value| limits.ratio_from = value },
    Setting { key: "pax-bytes", least: 1024, most: 1 << 30, set: |limits, value| limits.pax_bytes = value },
    Setting { key: "tree-bytes", least: 1 << 16, most: LARGEST, set: |limits, value| limits.tree_bytes = value },
    // What zstd itself knows: RFC 8878, section 3.1.1.1.2, and its largest window on 64 bits.
    Setting {
        key: "zstd-window-log",
        least: 10,
        most: 31,
        set: |limits, value| limits.zstd_window_log = narrow(value),
    },
];

/// The value was seen to be small enough.
fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    unpack: toml::Table,
}

/// The limits of whoever runs this.
pub fn unpack_limits(paths: &ConfigPaths) -> Result<UnpackLimits, Error> {
    let mut limits = UnpackLimits::default();
    for path in &paths.cove {
        match fs_err::read_to_string(path) {
            Ok(text) => add_file(&mut limits, &text, path)?,
            // Root's own files, too, are nothing to complain of.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::PermissionDenied
                ) => {}
            Err(error) => return Err(error.into()),
        }
    }
    for setting in &SETTINGS {
        let variable = format!("COVE_UNPACK_{}", setting.key.to_uppercase().replace('-', "_"));
        match std::env::var(&variable) {
            Ok(text) if !text.trim().is_empty() => {
                setting.add(&mut limits, text.trim().parse().ok(), "environment", &variable, text.trim())?;
            }
            _ => {}
        }
    }
    Ok(limits)
}

fn add_file(limits: &mut UnpackLimits, text: &str, path: &Path) -> Result<(), Error> {
    let origin = path.display().to_string();
    let document: Document = toml::from_str(text).map_err(|error| Error::Setting {
        origin: origin.clone(),
        key: "unpack".to_owned(),
        value: error.message().to_owned(),
        expected: "TOML, and limits as `KEY = NUMBER` below `[unpack]`".to_owned(),
    })?;
    for (key, value) in &document.unpack {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) else {
            let known = SETTINGS.map(|setting| setting.key).join(", ");
            let (key, value) = ("unpack".to_owned(), key.clone());
            return Err(Error::Setting { origin, key, value, expected: format!("one of {known}") });
        };
        let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
        setting.add(limits, number, &origin, &format!("unpack.{key}"), &value.to_string())?;
    }
    Ok(())
}

impl Setting {
    fn add(
        &self,
        limits: &mut UnpackLimits,
        value: Option<u64>,
        origin: &str,
        key: &str,
        written: &str,
    ) -> Result<(), Error> {
        let Some(value) = value.filter(|value| (self.least..=self.most).contains(value)) else {
            let expected = format!("a whole number from {} to {}", self.least, self.most);
            let (origin, key, value) = (origin.to_owned(), key.to_owned(), written.to_owned());
            return Err(Error::Setting { origin, key, value, expected });
        };
        (self.set)(limits, value);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<UnpackLimits, String> {
        let mut limits = UnpackLimits::default();
        add_file(&mut limits, text, Path::new("/c.toml")).map_err(|error| error.to_string())?;
        Ok(limits)
    }

    #[test]
    fn every_limit_is_a_setting() {
        let text = "default-registry = 'x'\n[unpack]\nentries = 1\ndepth = 2\nbytes = 3000\nratio = 4\nratio-from = 5\n\
                    pax-bytes = 6000\ntree-bytes = 70000\nzstd-window-log = 11\n[registry.x]\ninsecure = true\n";
        let expected = UnpackLimits {
            entries: 1,
            depth: 2,
            bytes: 3000,
            ratio: 4,
            ratio_from: 5,
            pax_bytes: 6000,
            tree_bytes: 70000,
            zstd_window_log: 11,
        };
        assert_eq!(read(text), Ok(expected));
        assert_eq!(read(""), Ok(UnpackLimits::default()));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, says) in [
            ("[unpack]\nentries = 0", "`/c.toml`: `unpack.entries` is `0`: write a whole number from 1 to"),
            ("[unpack]\nentries = -1", "`unpack.entries` is `-1`"),
            ("[unpack]\ndepth = '1k'", "`unpack.depth` is `\"1k\"`"),
            ("[unpack]\nzstd-window-log = 32", "from 10 to 31"),
            ("[unpack]\nentrys = 5", "`unpack` is `entrys`: write one of entries, depth,"),
            ("[unpack", "`/c.toml`: `unpack` is `"),
        ] {
            let refused = read(text).unwrap_err();
            assert!(refused.contains(says), "{text}: {refused}");
        }
    }
}
