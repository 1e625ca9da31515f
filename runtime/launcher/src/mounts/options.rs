//! The words in a mount's `options` (runtime-spec, config.md, "Linux mount options").

/// MOUNT_ATTR_… of linux/mount.h.
pub(crate) mod attribute {
    pub(crate) const RDONLY: u64 = 0x1;
    pub(crate) const NOSUID: u64 = 0x2;
    pub(crate) const NODEV: u64 = 0x4;
    pub(crate) const NOEXEC: u64 = 0x8;
    pub(crate) const NOATIME: u64 = 0x10;
    pub(crate) const STRICTATIME: u64 = 0x20;
    /// All that says when access times are written: one value, not bits.
    pub(crate) const ATIME: u64 = 0x70;
    pub(crate) const NODIRATIME: u64 = 0x80;
    pub(crate) const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// MS_… of linux/mount.h.
pub(crate) mod propagation {
    pub(crate) const UNBINDABLE: u64 = 1 << 17;
    pub(crate) const PRIVATE: u64 = 1 << 18;
    pub(crate) const SLAVE: u64 = 1 << 19;
    pub(crate) const SHARED: u64 = 1 << 20;
}

/// Attributes that are set and cleared.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) set: u64,
    pub(crate) clear: u64,
}

/// What a mount's options say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Something that is mounted already appears here too.
    pub(crate) bind: bool,
    /// … with what is mounted below it.
    pub(crate) recursive: bool,
    /// Of the mount.
    pub(crate) attributes: Attributes,
    /// Of the mount and all below it.
    pub(crate) recursive_attributes: Attributes,
    /// In turn: the kind, and whether of all below too.
    pub(crate) propagation: Vec<(u64, bool)>,
    /// For the file system itself: words, or `name=value`.
    pub(crate) file_system: Vec<String>,
    /// A new tmpfs gets what is in the folder that it covers.
    pub(crate) copy_up: bool,
    /// Owners are mapped; true: also of what is mounted below.
    pub(crate) map_ids: Option<bool>,
}

impl Options {
    pub(crate) fn parse(words: &[String]) -> Self {
        let mut options = Self::default();
        for word in words {
            if !options.take(word) {
                options.file_system.push(word.clone());
            }
        }
        options
    }

    /// Takes in a word that is not for the file system; whether it is one.
    fn take(&mut self, word: &str) -> bool {
        match word {
            "defaults" => {}
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            "tmpcopyup" => self.copy_up = true,
            "idmap" => self.map_ids = Some(false),
            "ridmap" => self.map_ids = Some(true),
            _ => {
                if let Some(kind) = propagation_of(word) {
                    self.propagation.push(kind);
                } else if let Some(change) = attribute_of(word) {
                    add(&mut self.attributes, change);
                } else if let Some(change) = word.strip_prefix('r').and_then(attribute_of) {
                    add(&mut self.recursive_attributes, change);
                } else {
                    return false;
                }
            }
        }
        true
    }
}

fn add(all: &mut Attributes, change: Attributes) {
    // The last word about a thing counts.
    all.set = all.set & !change.clear & !(change.set & attribute::ATIME) | change.set;
    all.clear = all.clear & !change.set | change.clear;
}

/// A word such as `rslave`, as runtime-spec has it in `options` and in `linux.rootfsPropagation`.
pub(crate) fn propagation_of(word: &str) -> Option<(u64, bool)> {
    Some(match word {
        "shared" => (propagation::SHARED, false),
        "rshared" => (propagation::SHARED, true),
        "slave" => (propagation::SLAVE, false),
        "rslave" => (propagation::SLAVE, true),
        "private" => (propagation::PRIVATE, false),
        "rprivate" => (propagation::PRIVATE, true),
        "unbindable" => (propagation::UNBINDABLE, false),
        "runbindable" => (propagation::UNBINDABLE, true),
        _ => return None,
    })
}

fn attribute_of(word: &str) -> Option<Attributes> {
    let set = |set| Attributes { set, clear: 0 };
    let clear = |clear| Attributes { set: 0, clear };
    // Times are one value of several bits: clear all of them first.
    let times = |set| Attributes { set, clear: attribute::ATIME };
    Some(match word {
        "ro" => set(attribute::RDONLY),
        "rw" => clear(attribute::RDONLY),
        "nosuid" => set(attribute::NOSUID),
        "suid" => clear(attribute::NOSUID),
        "nodev" => set(attribute::NODEV),
        "dev" => clear(attribute::NODEV),
        "noexec" => set(attribute::NOEXEC),
        "exec" => clear(attribute::NOEXEC),
        "nodiratime" => set(attribute::NODIRATIME),
        "diratime" => clear(attribute::NODIRATIME),
        "nosymfollow" => set(attribute::NOSYMFOLLOW),
        "symfollow" => clear(attribute::NOSYMFOLLOW),
        "relatime" | "atime" | "nostrictatime" => times(0),
        "noatime" => times(attribute::NOATIME),
        "strictatime" => times(attribute::STRICTATIME),
        "norelatime" => times(attribute::STRICTATIME),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Options {
        Options::parse(&words.split(',').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn words_become_attributes_or_go_to_the_file_system() {
        let options = parse("nosuid,noexec,mode=755,ro,size=65536k,sync");
        assert_eq!(options.attributes.set, attribute::NOSUID | attribute::NOEXEC | attribute::RDONLY);
        assert_eq!(options.file_system, ["mode=755", "size=65536k", "sync"]);
    }

    #[test]
    fn the_last_word_counts() {
        assert_eq!(parse("ro,rw").attributes, Attributes { set: 0, clear: attribute::RDONLY });
        assert_eq!(parse("rw,ro").attributes, Attributes { set: attribute::RDONLY, clear: 0 });
        let times = parse("noatime,strictatime").attributes;
        assert_eq!((times.set, times.clear), (attribute::STRICTATIME, attribute::ATIME));
    }

    #[test]
    fn a_leading_r_means_everything_below() {
        let options = parse("rbind,rro,rnosuid,rslave,rw");
        assert!(options.bind && options.recursive);
        assert_eq!(options.recursive_attributes.set, attribute::RDONLY | attribute::NOSUID);
        assert_eq!(options.attributes, Attributes { set: 0, clear: attribute::RDONLY });
        assert_eq!(options.propagation, [(propagation::SLAVE, true)]);
        // Not "r" + "elatime".
        assert_eq!(parse("relatime").attributes.clear, attribute::ATIME);
    }
}
