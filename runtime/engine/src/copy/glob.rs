//! Paths of a container that fit a pattern: `cp container:/etc/*.conf .`.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use super::path::open;
use super::{CopyError, failed, path_buf};
use crate::snapshot::{Node, names};

/// Whether a path has anything in it that makes it a pattern.
fn is_pattern(path: &[u8]) -> bool {
    path.iter().any(|byte| matches!(byte, b'*' | b'?' | b'['))
}

/// The paths that fit a pattern, sorted: `*`, `?` and `[…]` as in a shell, `\` before what is meant as it is. They do not
/// stand for a slash, nor for a dot at the beginning of a name. Links on the way are followed inside of the root. Without
/// any of them the path is given back, whether or not anything is there; a pattern that nothing fits gives nothing.
pub fn glob(root: BorrowedFd<'_>, pattern: &Path) -> Result<Vec<PathBuf>, CopyError> {
    let pattern = pattern.as_os_str().as_bytes();
    if !is_pattern(pattern) {
        return Ok(vec![path_buf(&[b"/", plain(pattern).strip_prefix(b"/").unwrap_or(&plain(pattern))].concat())]);
    }
    let parts: Vec<&[u8]> = pattern.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
    let end: &[u8] = if pattern.ends_with(b"/") { b"/" } else { b"" };
    let mut found = vec![Vec::new()];
    for (number, part) in parts.iter().enumerate() {
        let is_last = number + 1 == parts.len();
        let mut next = Vec::new();
        for folder in &found {
            if is_pattern(part) {
                for name in fitting(root, folder, part)? {
                    next.push([folder.as_slice(), b"/", &name].concat());
                }
            } else {
                next.push([folder.as_slice(), b"/", &plain(part)].concat());
            }
        }
        // What does not exist fits nothing, unless a name behind it says so.
        if is_last && !is_pattern(part) {
            next.retain(|path| exists(root, path));
        }
        found = next;
    }
    found.sort();
    let paths = found.into_iter().map(|path| path_buf(&[path.as_slice(), end].concat()));
    Ok(paths.collect())
}

fn exists(root: BorrowedFd<'_>, path: &[u8]) -> bool {
    let slash = memchr::memrchr(b'/', path).unwrap_or_default();
    let folder = open(root, &path[..slash], OFlags::PATH | OFlags::DIRECTORY);
    folder.is_ok_and(|folder| matches!(Node::find(folder.as_fd(), &path[slash + 1..]), Ok(Some(_))))
}

/// The names in a folder that fit; none if there is no such folder.
fn fitting(root: BorrowedFd<'_>, folder: &[u8], pattern: &[u8]) -> Result<Vec<Vec<u8>>, CopyError> {
    let failure = |error| failed("list the folder", folder, error);
    let opened = open(root, folder, OFlags::PATH | OFlags::DIRECTORY);
    let opened = match opened {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Vec::new()),
        opened => opened.map_err(failure)?,
    };
    let listed = openat(&opened, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let mut found = names(listed.map_err(failure)?.as_fd()).map_err(failure)?;
    found.retain(|name| (!name.starts_with(b".") || pattern.starts_with(b".")) && fits(pattern, name));
    Ok(found)
}

/// A path without the marks before what is meant as it is.
fn plain(pattern: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(pattern.len());
    let mut bytes = pattern.iter();
    while let Some(byte) = bytes.next() {
        plain.push(if *byte == b'\\' { *bytes.next().unwrap_or(byte) } else { *byte });
    }
    plain
}

/// Whether a name fits a pattern. Goes back to the last `*` only, so that no pattern takes long.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at + 1, read));
            at += 1;
            continue;
        }
        let next = match name.get(read) {
            Some(byte) => one(&pattern[at.min(pattern.len())..], *byte),
            None if at == pattern.len() => return true,
            None => return false,
        };
        match (next, star) {
            (Some(length), _) => (at, read) = (at + length, read + 1),
            (None, Some((after, from))) => {
                star = Some((after, from + 1));
                (at, read) = (after, from + 1);
            }
            (None, None) => return false,
        }
    }
}

/// Whether a byte fits the beginning of a pattern, and how long that is.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [b'[', rest @ ..] => match class(rest, byte) {
            Some((fits, length)) => fits.then_some(1 + length),
            // Without an end it is what it is.
            None => (byte == b'[').then_some(1),
        },
        [plain, ..] => (*plain == byte).then_some(1),
    }
}

/// `a-z]`, `!0-9]`: whether a byte is among them, and how long the class is.
fn class(text: &[u8], byte: u8) -> Option<(bool, usize)> {
    let is_negated = matches!(text.first(), Some(b'!' | b'^'));
    let start = usize::from(is_negated);
    let (mut at, mut fits) = (start, false);
    loop {
        let next = |at: &mut usize| {
            *at += usize::from(text.get(*at) == Some(&b'\\'));
            let byte = *text.get(*at)?;
            *at += 1;
            Some(byte)
        };
        if text.get(at) == Some(&b']') && at > start {
            return Some((fits != is_negated, at + 1));
        }
        let first = next(&mut at)?;
        let last = match text.get(at..at + 2) {
            Some([b'-', last]) if *last != b']' => {
                at += 1;
                next(&mut at)?
            }
            _ => first,
        };
        fits |= (first..=last).contains(&byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*", "a", true),
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.d", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("?", "", false),
            ("??", "ab", true),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("[]]", "]", true),
            ("[a-]", "-", true),
            ("[", "[", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("[\\]]", "]", true),
            ("*a*a*a*a*a*a*a*a*b", &"a".repeat(200), false),
        ] {
            assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
        assert!(fits(b"?\xff*", b"\xfe\xff"));
    }
}
