//! What docker says: its comparison of two trees, written down once more from what both trees show.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::listing::{Listing, Node};

/// Letters by absolute path.
pub fn changes(below: &Listing, seen: &Listing) -> BTreeMap<PathBuf, char> {
    let mut found = BTreeMap::new();
    compare(below, seen, Path::new(""), &mut found);
    found
}

fn children<'a>(tree: &'a Listing, folder: &Path) -> Vec<&'a PathBuf> {
    let is_in = |path: &&PathBuf| !path.as_os_str().is_empty() && path.parent() == Some(folder);
    tree.keys().filter(is_in).collect()
}

/// Compares what is in a folder that both have; whether anything is another.
fn compare(below: &Listing, seen: &Listing, folder: &Path, found: &mut BTreeMap<PathBuf, char>) -> bool {
    let before = found.len();
    for path in children(seen, folder) {
        let absolute = Path::new("/").join(path);
        let new = &seen[path];
        match below.get(path).filter(|_| below[folder].kind == 'd') {
            None => add_all(seen, path, found),
            Some(old) => {
                let mut is_other = differs(old, new);
                if new.kind == 'd' && old.kind == 'd' {
                    is_other |= compare(below, seen, path, found);
                } else if new.kind == 'd' {
                    children(seen, path).into_iter().for_each(|path| add_all(seen, path, found));
                }
                if is_other {
                    found.insert(absolute, 'C');
                }
            }
        }
    }
    for path in children(below, folder) {
        if !seen.contains_key(path) {
            found.insert(Path::new("/").join(path), 'D');
        }
    }
    found.len() > before
}

fn add_all(seen: &Listing, path: &Path, found: &mut BTreeMap<PathBuf, char>) {
    found.insert(Path::new("/").join(path), 'A');
    children(seen, path).into_iter().for_each(|path| add_all(seen, path, found));
}

fn differs(old: &Node, new: &Node) -> bool {
    let capability = |node: &Node| node.xattrs.get(std::ffi::OsStr::new("security.capability")).cloned();
    let (then, now) = (old.modified, new.modified);
    let is_same_time = then.0 == now.0 && (then.1 == now.1 || then.1 == 0 || now.1 == 0);
    (old.kind, old.mode, old.owner, old.device) != (new.kind, new.mode, new.owner, new.device)
        || new.kind != 'd' && (!is_same_time || size(old) != size(new))
        || capability(old) != capability(new)
}

fn size(node: &Node) -> usize {
    node.content.len()
}
