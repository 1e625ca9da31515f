//! What is in a folder, down to what `ls` does not show; and what GNU tar makes of layers, one after another.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags, utimensat};

use crate::{Cmd, Scratch, sha256_of_file};

/// Everything below a folder, the folder itself included (its name is empty).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree(BTreeMap<Vec<u8>, Entry>);

/// A file, folder or link, and what belongs to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    what: What,
    mode: u32,
    owner: (u32, u32),
    /// Seconds and nanoseconds; none where nothing says what they should be: at a folder that a layer needs and
    /// does not carry, and that was not there before.
    modified: Option<(i64, i64)>,
    attributes: BTreeMap<String, Vec<u8>>,
    /// Other names of the same file.
    links: Vec<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Folder,
    File { size: u64, digest: String },
    Link(Vec<u8>),
    Characters(u64),
    Blocks(u64),
    Pipe,
    Socket,
}

impl Tree {
    /// Reads a folder.
    pub fn read(root: &Path) -> Self {
        let mut reader = Reader { root, entries: BTreeMap::new(), names: HashMap::new(), digests: HashMap::new() };
        reader.add(root).unwrap_or_else(|error| panic!("read {}: {error}", root.display()));
        let mut entries = reader.entries;
        for names in reader.names.values().filter(|names| names.len() > 1) {
            for name in names {
                let mut others: Vec<_> = names.iter().filter(|other| *other != name).cloned().collect();
                others.sort();
                entries.get_mut(name).expect("it was read").links = others;
            }
        }
        Self(entries)
    }

    /// What GNU tar makes of these uncompressed layers, the lowest first. Whiteouts are carried out before a layer's
    /// members are unpacked, and a folder that a layer does not carry keeps its time.
    pub fn of_layers(layers: &[PathBuf]) -> Self {
        let scratch = Scratch::new("reference");
        let reference = Reference::new(scratch.folder("tree"));
        let mut silent = BTreeSet::from([PathBuf::new()]);
        for layer in layers {
            let known = folder_times(&reference.root);
            let carried = reference.apply(layer);
            for folder in folder_times(&reference.root).into_keys() {
                if carried.contains(&folder) {
                    silent.remove(&folder);
                } else if let Some(time) = known.get(&folder) {
                    set_time(&reference.root.join(&folder), *time);
                } else {
                    silent.insert(folder);
                }
            }
        }
        reference.put_tools_away();
        let mut tree = Self::read(&reference.root);
        for folder in silent {
            if let Some(entry) = tree.0.get_mut(folder.as_os_str().as_bytes()) {
                entry.modified = None;
            }
        }
        tree
    }

    /// How many files, folders and links there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing, not even the folder itself.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether something has this path.
    pub fn has(&self, path: impl AsRef<[u8]>) -> bool {
        self.0.contains_key(path.as_ref())
    }

    /// How many entries have an extended attribute whose name begins like this.
    pub fn with_attribute(&self, prefix: &str) -> usize {
        self.0.values().filter(|entry| entry.attributes.keys().any(|name| name.starts_with(prefix))).count()
    }

    /// How many names are those of files with more than one.
    pub fn hard_links(&self) -> usize {
        self.0.values().filter(|entry| !entry.links.is_empty()).count()
    }

    /// How many device nodes there are.
    pub fn devices(&self) -> usize {
        self.0.values().filter(|entry| matches!(entry.what, What::Characters(_) | What::Blocks(_))).count()
    }

    /// Panics with every difference between what should be and this.
    pub fn assert_is(&self, expected: &Self, what: &str) {
        let differences = self.differences(expected);
        let shown = differences.iter().take(40).map(|line| format!("\n  {line}")).collect::<String>();
        assert!(differences.is_empty(), "{what}: {} differences from what GNU tar makes:{shown}", differences.len());
    }

    /// Every difference between what should be and this, a line each.
    pub fn differences(&self, expected: &Self) -> Vec<String> {
        let paths: BTreeSet<_> = self.0.keys().chain(expected.0.keys()).collect();
        let differences = paths.into_iter().filter_map(|path| {
            let name = path.escape_ascii();
            match (self.0.get(path), expected.0.get(path)) {
                (Some(found), Some(wanted)) if found.is(wanted) => None,
                (Some(found), Some(wanted)) => Some(format!("/{name} is {found:?} and should be {wanted:?}")),
                (Some(found), None) => Some(format!("/{name} should not be there, and is {found:?}")),
                (None, Some(wanted)) => Some(format!("/{name} is not there, and should be {wanted:?}")),
                (None, None) => None,
            }
        });
        differences.collect()
    }
}

impl Entry {
    fn is(&self, expected: &Self) -> bool {
        let modified = expected.modified.and(self.modified);
        Self { modified, ..self.clone() } == *expected
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, group) = self.owner;
        write!(f, "{:?} {:o} {user}:{group} {:?}", self.what, self.mode, self.modified)?;
        for (name, value) in &self.attributes {
            write!(f, " {name}={}", value.escape_ascii())?;
        }
        self.links.iter().try_for_each(|link| write!(f, " ={}", link.escape_ascii()))
    }
}

struct Reader<'a> {
    root: &'a Path,
    entries: BTreeMap<Vec<u8>, Entry>,
    /// The names of each file, by device and inode.
    names: HashMap<(u64, u64), Vec<Vec<u8>>>,
    digests: HashMap<(u64, u64), String>,
}

impl Reader<'_> {
    fn add(&mut self, path: &Path) -> io::Result<()> {
        let metadata = fs::symlink_metadata(path)?;
        let name = path.strip_prefix(self.root).expect("it lies below").as_os_str().as_bytes().to_vec();
        let what = self.what(path, &metadata)?;
        if what != What::Folder {
            self.names.entry((metadata.dev(), metadata.ino())).or_default().push(name.clone());
        }
        let entry = Entry {
            mode: metadata.mode() & 0o7777,
            owner: (metadata.uid(), metadata.gid()),
            modified: Some((metadata.mtime(), metadata.mtime_nsec())),
            attributes: attributes(path)?,
            links: Vec::new(),
            what,
        };
        let folder = entry.what == What::Folder;
        self.entries.insert(name, entry);
        if folder {
            for child in fs::read_dir(path)? {
                self.add(&child?.path())?;
            }
        }
        Ok(())
    }

    fn what(&mut self, path: &Path, metadata: &Metadata) -> io::Result<What> {
        let kind = metadata.file_type();
        Ok(if kind.is_dir() {
            What::Folder
        } else if kind.is_symlink() {
            What::Link(fs::read_link(path)?.into_os_string().into_encoded_bytes())
        } else if kind.is_char_device() {
            What::Characters(metadata.rdev())
        } else if kind.is_block_device() {
            What::Blocks(metadata.rdev())
        } else if kind.is_fifo() {
            What::Pipe
        } else if kind.is_socket() {
            What::Socket
        } else {
            let identity = (metadata.dev(), metadata.ino());
            let digest = self.digests.entry(identity).or_insert_with(|| sha256_of_file(path)).clone();
            What::File { size: metadata.len(), digest }
        })
    }
}

/// Extended attributes, without those in which overlayfs keeps its own books and those of the host's policies.
fn attributes(path: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut names = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, &mut names[..])?;
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut found = BTreeMap::new();
    for name in names.map(|name| String::from_utf8_lossy(name).into_owned()) {
        if name.starts_with("trusted.overlay.") || name.starts_with("user.overlay.") || name == "security.selinux" {
            continue;
        }
        let mut value = vec![0; 65536];
        let length = rustix::fs::lgetxattr(path, &*name, &mut value[..])?;
        value.truncate(length);
        found.insert(name, value);
    }
    Ok(found)
}

/// A tree in the making, unpacked by a GNU tar that sees it as its root, so that absolute links lead where they
/// lead in an image.
struct Reference {
    root: PathBuf,
}

/// Holds tar and its libraries while layers are unpacked. No layer has such a name.
const TOOLS: &str = ".tools-of-the-tests";

/// A member of a layer.
struct Member {
    /// The folder that it lies in, as named.
    folder: PathBuf,
    name: Vec<u8>,
    is_folder: bool,
}

impl Reference {
    fn new(root: PathBuf) -> Self {
        let tools = root.join(TOOLS);
        fs::create_dir(&tools).expect("make a folder");
        let tar = Cmd::new("sh").args(["-c", "command -v tar"]).ok();
        let libraries = Cmd::new("ldd").arg(&tar).ok();
        let paths = libraries.split_whitespace().filter(|word| word.starts_with('/')).chain([&*tar]);
        for path in paths {
            let name = Path::new(path).file_name().expect("a file");
            fs::copy(path, tools.join(name)).unwrap_or_else(|error| panic!("copy {path}: {error}"));
        }
        Self { root }
    }

    fn put_tools_away(&self) {
        let time = time_of(&self.root);
        fs::remove_dir_all(self.root.join(TOOLS)).expect("remove a folder");
        set_time(&self.root, time);
    }

    /// Unpacks a layer and returns the folders that it carries.
    fn apply(&self, layer: &Path) -> BTreeSet<PathBuf> {
        let members = members(layer).unwrap_or_else(|error| panic!("read {}: {error}", layer.display()));
        for member in &members {
            let folder = self.resolve(&member.folder);
            match member.name.strip_prefix(b".wh.") {
                Some(b".wh..opq") => empty(&self.root.join(folder)),
                Some(name) => remove(&self.root.join(folder).join(OsStr::from_bytes(name))),
                None => {}
            }
        }
        let files = members.iter().filter(|member| !member.name.starts_with(b".wh."));
        for member in files.clone() {
            let path = self.path_of(member);
            let Ok(found) = fs::symlink_metadata(self.root.join(&path)) else { continue };
            if found.is_dir() != member.is_folder {
                remove(&self.root.join(&path));
            } else if member.is_folder {
                clear_attributes(&self.root.join(&path));
            }
        }
        let loader = fs::read_dir(self.root.join(TOOLS)).expect("a folder").flatten().map(|entry| entry.file_name());
        let loader = loader.map(|name| name.to_string_lossy().into_owned()).find(|name| name.starts_with("ld-linux"));
        let loader = format!("/{TOOLS}/{}", loader.expect("tar is a dynamic program"));
        let script = "layer=$1; root=$2; shift 2; exec chroot \"$root\" \"$@\" <\"$layer\"";
        Cmd::new("sh")
            .args(["-c", script, "sh"])
            .args([layer, &self.root])
            .args([&*loader, "--library-path", &format!("/{TOOLS}"), &format!("/{TOOLS}/tar")])
            .args(["-x", "-p", "-P", "--numeric-owner", "--same-owner", "--xattrs", "--xattrs-include=*"])
            .args(["--wildcards", "--no-anchored", "--exclude=.wh.*", "-f", "-"])
            .limit(Duration::from_secs(600))
            .ok();
        files.filter(|member| member.is_folder).map(|member| self.path_of(member)).collect()
    }

    fn path_of(&self, member: &Member) -> PathBuf {
        let folder = self.resolve(&member.folder);
        if member.name.is_empty() { folder } else { folder.join(OsStr::from_bytes(&member.name)) }
    }

    /// Where a folder's path leads in the tree, relative to its root.
    fn resolve(&self, path: &Path) -> PathBuf {
        let mut found = PathBuf::new();
        let mut left: Vec<PathBuf> = steps(path);
        for _ in 0..1000 {
            let Some(step) = left.pop() else { break };
            if step.as_os_str() == ".." {
                found.pop();
                continue;
            }
            match fs::read_link(self.root.join(&found).join(&step)) {
                Ok(target) => {
                    if target.is_absolute() {
                        found.clear();
                    }
                    left.extend(steps(&target));
                }
                Err(_) => found.push(step),
            }
        }
        found
    }
}

/// The parts of a path that lead somewhere, the last one first.
fn steps(path: &Path) -> Vec<PathBuf> {
    let parts = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    let mut steps: Vec<_> = parts.map(|part| PathBuf::from(part.as_os_str())).collect();
    steps.reverse();
    steps
}

fn members(layer: &Path) -> io::Result<Vec<Member>> {
    let mut archive = tar::Archive::new(File::open(layer)?);
    let mut members = Vec::new();
    for entry in archive.entries()? {
        let entry = entry?;
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            continue;
        }
        let bytes = entry.path_bytes();
        let mut steps = steps(Path::new(OsStr::from_bytes(&bytes)));
        let name = if steps.is_empty() { Vec::new() } else { steps.remove(0).into_os_string().into_encoded_bytes() };
        let folder = steps.into_iter().rev().collect();
        members.push(Member { folder, name, is_folder: kind.is_dir() });
    }
    Ok(members)
}

fn folder_times(root: &Path) -> BTreeMap<PathBuf, (i64, i64)> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(folder) = left.pop() {
        found.insert(folder.strip_prefix(root).expect("it lies below").to_owned(), time_of(&folder));
        let children = fs::read_dir(&folder).unwrap_or_else(|error| panic!("read {}: {error}", folder.display()));
        left.extend(
            children
                .flatten()
                .filter(|child| child.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|child| child.path()),
        );
    }
    found
}

fn time_of(path: &Path) -> (i64, i64) {
    let metadata = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("look at {}: {error}", path.display()));
    (metadata.mtime(), metadata.mtime_nsec())
}

fn set_time(path: &Path, (seconds, nanoseconds): (i64, i64)) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("set a folder's time");
}

fn clear_attributes(path: &Path) {
    for name in attributes(path).expect("read attributes").keys() {
        rustix::fs::lremovexattr(path, &**name).expect("remove an attribute");
    }
}

fn empty(folder: &Path) {
    for child in fs::read_dir(folder).into_iter().flatten().flatten() {
        if child.file_name() != TOOLS {
            remove(&child.path());
        }
    }
}

fn remove(path: &Path) {
    let Ok(found) = fs::symlink_metadata(path) else { return };
    let removed = if found.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.unwrap_or_else(|error| panic!("remove {}: {error}", path.display()));
}

/// Sets an extended attribute of a file, for those that make trees to be read.
pub fn set_attribute(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())
        .unwrap_or_else(|error| panic!("set {name} of {}: {error}", path.display()));
}
