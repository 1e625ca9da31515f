//! Options of memory that is mounted: of `--tmpfs`, and of `--mount type=tmpfs`.

use super::Error;
use crate::config::TmpfsOptions;

/// What docker gives to every such mount.
const DEFAULT: [&str; 4] = ["noexec", "nosuid", "nodev", "rprivate"];

/// Words that exclude each other, a line for each choice; those without an opposite stand alone.
const CHOICES: &[&[&str]] = &[
    &["ro", "rw"],
    &["suid", "nosuid"],
    &["dev", "nodev"],
    &["exec", "noexec"],
    &["sync", "async"],
    &["dirsync"],
    &["mand", "nomand"],
    &["atime", "noatime"],
    &["diratime", "nodiratime"],
    &["relatime", "norelatime"],
    &["strictatime", "nostrictatime"],
    &["remount"],
    &["bind"],
    &["rbind"],
    &["unbindable", "runbindable", "private", "rprivate", "shared", "rshared", "slave", "rslave"],
    &["defaults"],
];

/// Options that have a value.
const VALUES: [&str; 7] = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"];

/// The options of `--tmpfs` behind docker's own: of those that exclude each other the last one stays.
pub(super) fn merged(given: &str) -> Result<Vec<String>, Error> {
    let given: Vec<&str> = given.split(',').filter(|word| !word.is_empty()).collect();
    let (mut kept, mut taken) = (Vec::new(), Vec::new());
    for word in DEFAULT.iter().copied().chain(given).rev() {
        let key = match word.split_once('=') {
            Some((key, _)) => VALUES.iter().find(|known| **known == key).copied(),
            None => CHOICES.iter().find(|choice| choice.contains(&word)).map(|choice| choice[0]),
        };
        let key = key.ok_or_else(|| Error::InvalidTmpfsOption(word.to_owned()))?;
        if !taken.contains(&key) {
            taken.push(key);
            kept.push(word.to_owned());
        }
    }
    kept.reverse();
    Ok(kept)
}

/// The options of `--mount type=tmpfs` behind docker's own.
pub(super) fn of_mount(options: Option<&TmpfsOptions>, read_only: bool) -> Vec<String> {
    let mut words: Vec<String> = DEFAULT.map(str::to_owned).to_vec();
    if read_only {
        words.push("ro".to_owned());
    }
    if let Some(options) = options {
        if options.mode != 0 {
            words.push(format!("mode={:o}", options.mode));
        }
        if options.size_bytes != 0 {
            words.push(format!("size={}", size(options.size_bytes)));
        }
    }
    words
}

/// A size in the largest unit that it is a multiple of.
fn size(bytes: i64) -> String {
    let units = [("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10)];
    let unit = units.into_iter().find(|(_, unit)| bytes % unit == 0);
    unit.map_or_else(|| bytes.to_string(), |(letter, unit)| format!("{}{letter}", bytes / unit))
}
