//! `cove cp`
//!
//! What is copied becomes an archive on one side and is unpacked on the other one, as it is between docker's client and
//! its daemon: so names, folders and links come out the same. Both sides are read and written below an open root.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use cove_container::Record;
use cove_container::events::Event;
use cove_container::spec::identity;
use cove_engine::SnapshotError;
use cove_engine::copy::{CopyError, IntoOptions, PathStat, archive_in, archive_out, archive_out_as, glob, stat};
use rustix::fs::{FileType, Mode, OFlags};

use crate::arguments::Copy;
use crate::containers::{Access, Files};
use crate::context::Context;
use crate::error::Error;
use crate::units::human_size;

/// As many links as docker follows to find out where to copy.
const LINKS: u32 = 10;

/// Copies files and folders between a container and the host.
pub fn run(context: &Context, arguments: &Copy) -> Result<(), Error> {
    if arguments.source.is_empty() {
        return Err(Error::Options("source can not be empty"));
    }
    if arguments.destination.is_empty() {
        return Err(Error::Options("destination can not be empty"));
    }
    match (split(&arguments.source), split(&arguments.destination)) {
        (Some(_), Some(_)) => Err(Error::Options("copying between containers is not supported")),
        (None, None) => Err(Error::Options("must specify at least one container source")),
        (Some((name, path)), None) => out(context, arguments, name, Path::new(path)),
        (None, Some((name, path))) => into(context, arguments, name, Path::new(path)),
    }
}

/// Container and path; `None` for a path of the host: absolute, without a colon, or beginning with a dot.
fn split(text: &str) -> Option<(&str, &str)> {
    let (name, path) = text.split_once(':').filter(|_| !text.starts_with('/'))?;
    (!name.starts_with('.')).then_some((name, path))
}

fn out(context: &Context, arguments: &Copy, name: &str, path: &Path) -> Result<(), Error> {
    let container = super::find(context, name)?;
    let record = container.record()?;
    let files = Files::open(context, &container, &record, Access::Copy)?;
    context.tell(&Event::of_container(&record, "archive-path", &[]));
    let inside = |error| in_container(error, name);
    let (root, follow) = (files.root(), arguments.follow_link);
    let found = match stat(root, path) {
        // A name that is there is meant, whatever signs are in it.
        Err(CopyError::NotFound(_)) => glob(root, path).map_err(inside)?,
        _ => vec![path.to_owned()],
    };
    let [first, more @ ..] = found.as_slice() else {
        return Err(inside(CopyError::NotFound(path.to_owned())));
    };
    if arguments.destination == "-" {
        if !more.is_empty() {
            let text = format!("{} stands for several files: write a folder as the destination", path.display());
            return Err(Error::Local(text));
        }
        let mut stdout = io::stdout().lock();
        archive_out(root, first, follow, &mut stdout).map_err(inside)?;
        return Ok(stdout.flush()?);
    }
    let destination = absolute(&arguments.destination)?;
    check_output(&destination)?;
    let host = host_root()?;
    // Docker gives everything to the user; who wants the owners kept says so, and has to be root.
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let keeps = arguments.archive && own.0 == 0;
    let options = into_options(if keeps { None } else { Some(own) });
    let mut size = 0;
    for source in &found {
        let mut looked = stat(root, source).map_err(inside)?;
        if follow && looked.is_link() {
            looked = stat(root, &looked.link_target).map_err(inside)?;
        }
        let (there, is_folder) = local_target(&destination)?;
        if !more.is_empty() && is_folder != Some(true) {
            let text = format!("{} stands for several files: write a folder as the destination", path.display());
            return Err(Error::Local(text));
        }
        let target = Target::choose(&there, is_folder, looked.is_folder())?;
        let (read, write) = io::pipe()?;
        size += transfer(
            write,
            |out| produce(root, source, follow, &target, out).map_err(inside),
            read,
            |tar| archive_in(host.as_fd(), &target.folder, tar, &options).map_err(on_host),
        )?;
    }
    tell(context, arguments, size, &destination.display().to_string());
    Ok(())
}

fn into(context: &Context, arguments: &Copy, name: &str, path: &Path) -> Result<(), Error> {
    let inside = |error| in_container(error, name);
    let container = super::find(context, name)?;
    let record = container.record()?;
    let source = (arguments.source != "-").then(|| absolute(&arguments.source)).transpose()?;
    let host = host_root()?;
    let looked =
        source.as_deref().map(|source| local_source(host.as_fd(), source, arguments.follow_link)).transpose()?;
    let files = Files::open(context, &container, &record, Access::Copy)?;
    let root = files.root();
    let mut there = path.to_owned();
    let mut found = stat(root, &there).ok();
    if let Some(link) = found.as_ref().filter(|found| found.is_link()) {
        there = link.link_target.clone();
        found = stat(root, &there).ok();
    }
    if found.as_ref().is_some_and(is_device) {
        let text = "must be a directory or a regular file: got a device";
        return Err(Error::Local(format!("destination \"{name}:{}\" {text}", path.display())));
    }
    refuse_read_only(&record, &there)?;
    let options = into_options(owner(arguments, &record, root)?);
    let is_folder = found.as_ref().map(PathStat::is_folder);
    let size = match (&source, &looked) {
        (Some(source), Some(looked)) => {
            let target = Target::choose(&there, is_folder, looked.is_folder())?;
            let (read, write) = io::pipe()?;
            transfer(
                write,
                |out| produce(host.as_fd(), source, arguments.follow_link, &target, out).map_err(on_host),
                read,
                |tar| archive_in(root, &target.folder, tar, &options).map_err(inside),
            )?
        }
        _ => {
            if is_folder != Some(true) {
                let text = format!("destination \"{name}:{}\" must be a directory", path.display());
                return Err(Error::Local(text));
            }
            let mut tar = Counted { inner: io::stdin().lock(), bytes: 0 };
            archive_in(root, &there, &mut tar, &options).map_err(inside)?;
            tar.bytes
        }
    };
    context.tell(&Event::of_container(&record, "extract-to-dir", &[]));
    tell(context, arguments, size, &format!("{name}:{}", there.display()));
    Ok(())
}

fn into_options(owner: Option<(u32, u32)>) -> IntoOptions {
    IntoOptions { no_overwrite_dir_non_dir: true, owner, ..IntoOptions::default() }
}

/// With `-a` docker gives everything to the user that the container runs as, if it names one.
fn owner(arguments: &Copy, record: &Record, root: BorrowedFd<'_>) -> Result<Option<(u32, u32)>, Error> {
    if !arguments.archive || record.config.user.is_empty() {
        return Ok(None);
    }
    let identity = identity(root, &record.config.user, &[])?;
    Ok(Some((identity.uid, identity.gid)))
}

/// Where a copy goes.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    /// The folder that it is unpacked in.
    folder: PathBuf,
    /// The name that it gets there, if not its own.
    name: Option<OsString>,
}

impl Target {
    /// Docker's rules: into a folder that is there, else in its place. `is_folder`: of what is there, if anything.
    fn choose(path: &Path, is_folder: Option<bool>, source_is_folder: bool) -> Result<Self, Error> {
        let bytes = path.as_os_str().as_bytes();
        let is_dot = bytes == b"." || bytes.ends_with(b"/.");
        match is_folder {
            Some(true) => return Ok(Self { folder: path.to_owned(), name: None }),
            Some(false) if source_is_folder => return Err(Error::Options("cannot copy directory")),
            None if !source_is_folder && (is_dot || bytes.ends_with(b"/")) => {
                return Err(Error::Options("no such directory"));
            }
            Some(false) | None => {}
        }
        let clean = clean(bytes);
        let (folder, name) = match (is_dot, clean.iter().rposition(|byte| *byte == b'/')) {
            (true, _) => (clean.clone(), b".".to_vec()),
            (false, Some(slash)) => (clean[..slash.max(1)].to_vec(), clean[slash + 1..].to_vec()),
            (false, None) => (b"/".to_vec(), clean.clone()),
        };
        Ok(Self { folder: OsString::from_vec(folder).into(), name: Some(OsString::from_vec(name)) })
    }
}

/// A path as Go cleans it: absolute, `..` taken by the letter.
fn clean(path: &[u8]) -> Vec<u8> {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    [b"/", names.join(&b'/').as_slice()].concat()
}

fn produce(
    root: BorrowedFd<'_>,
    source: &Path,
    follow: bool,
    target: &Target,
    out: impl Write,
) -> Result<(), CopyError> {
    match &target.name {
        Some(name) => archive_out_as(root, source, follow, name, out).map(drop),
        None => archive_out(root, source, follow, out).map(drop),
    }
}

/// Lets one side write what the other one reads; how many bytes that were.
fn transfer(
    write: io::PipeWriter,
    produce: impl FnOnce(io::BufWriter<io::PipeWriter>) -> Result<(), Error> + Send,
    read: io::PipeReader,
    consume: impl FnOnce(&mut Counted<io::BufReader<io::PipeReader>>) -> Result<(), Error>,
) -> Result<u64, Error> {
    const PIECE: usize = 256 * 1024;
    std::thread::scope(|scope| {
        let producer = scope.spawn(move || produce(io::BufWriter::with_capacity(PIECE, write)));
        let mut tar = Counted { inner: io::BufReader::with_capacity(PIECE, read), bytes: 0 };
        let consumed = consume(&mut tar).and_then(|()| Ok(io::copy(&mut tar, &mut io::sink())?));
        let bytes = tar.bytes;
        // Whoever writes must not wait for one who reads no more.
        drop(tar);
        let produced = producer.join().unwrap_or_else(|_| Err(Error::Options("the copy has broken off")));
        match (produced, consumed) {
            (Ok(()), Ok(_)) => Ok(bytes),
            (Err(error), Ok(_)) => Err(error),
            (Ok(()), Err(error)) => Err(error),
            // One of them has failed because the other one did.
            (Err(first), Err(second)) => Err(if is_broken_pipe(&first) { second } else { first }),
        }
    })
}

fn is_broken_pipe(error: &Error) -> bool {
    let Error::Store(cove_engine::Error::Copy(CopyError::Tree(SnapshotError::Write(error)))) = error else {
        return false;
    };
    error.kind() == io::ErrorKind::BrokenPipe
}

struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }
}

/// Docker tells of a copy where somebody is there to see it.
fn tell(context: &Context, arguments: &Copy, bytes: u64, to: &str) {
    if !arguments.quiet && context.printer.terminals().out {
        context.printer.note(format!("Successfully copied {} to {to}", human_size(bytes)));
    }
}

/// An error of the container's side, in docker's words.
fn in_container(error: CopyError, name: &str) -> Error {
    match error {
        CopyError::NotFound(path) => {
            Error::Refused(format!("Could not find the file {} in container {name}", path.display()))
        }
        error => cove_engine::Error::from(error).into(),
    }
}

/// An error of the host's side.
fn on_host(error: CopyError) -> Error {
    match error {
        CopyError::NotFound(path) => Error::Local(format!("lstat {}: no such file or directory", path.display())),
        CopyError::NotAFolder
        | CopyError::OverFolder { .. }
        | CopyError::OverFile { .. }
        | CopyError::Outside(_)
        | CopyError::Tar(_) => Error::Local(error.to_string()),
        CopyError::Io { action, path, source } | CopyError::Tree(SnapshotError::Io { action, path, source }) => {
            Error::Local(format!("cannot {action} `{}`: {source}", path.display()))
        }
        error @ CopyError::Tree(_) => cove_engine::Error::from(error).into(),
    }
}

fn host_root() -> Result<OwnedFd, Error> {
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    root.map_err(|error| Error::Io(error.into()))
}

/// A path of the host, absolute; a slash or `/.` at the end means something and stays.
fn absolute(text: &str) -> Result<PathBuf, Error> {
    // `Path::join` would do, but for an end in `.`.
    if text.starts_with('/') {
        return Ok(text.into());
    }
    let mut path = std::env::current_dir()?.into_os_string();
    path.push("/");
    path.push(text);
    Ok(path.into())
}

/// What is to be copied from the host.
fn local_source(root: BorrowedFd<'_>, path: &Path, follow: bool) -> Result<PathStat, Error> {
    let found = stat(root, path).map_err(on_host)?;
    if follow && found.is_link() { stat(root, &found.link_target).map_err(on_host) } else { Ok(found) }
}

fn is_device(found: &PathStat) -> bool {
    matches!(FileType::from_raw_mode(found.mode), FileType::BlockDevice | FileType::CharacterDevice)
}

/// Docker's check, by the letter of the path; the kernel has its own while the container runs.
fn refuse_read_only(record: &Record, path: &Path) -> Result<(), Error> {
    let path = PathBuf::from(OsString::from_vec(clean(path.as_os_str().as_bytes())));
    let around = record.mounts.iter().filter(|mount| path.starts_with(&mount.destination));
    match around.max_by_key(|mount| Path::new(&mount.destination).components().count()) {
        Some(mount) if !mount.writable => Err(Error::Refused("mounted volume is marked read-only".to_owned())),
        None if record.host_config.readonly_rootfs => {
            Err(Error::Refused("container rootfs is marked read-only".to_owned()))
        }
        Some(_) | None => Ok(()),
    }
}

/// Docker's check of where to copy on the host.
fn check_output(path: &Path) -> Result<(), Error> {
    let clean = PathBuf::from(OsString::from_vec(clean(path.as_os_str().as_bytes())));
    if let Some(folder) = clean.parent()
        && !folder.exists()
    {
        return Err(Error::Local(format!("invalid output path: directory {folder:?} does not exist")));
    }
    match std::fs::metadata(path) {
        Ok(found) if found.file_type().is_char_device() || found.file_type().is_block_device() => {
            let text = "must be a directory or a regular file: got a device";
            Err(Error::Local(format!("invalid output path: {path:?} {text}")))
        }
        _ => Ok(()),
    }
}

/// Where a copy on the host goes when links are followed, and whether that is a folder, if it is there.
fn local_target(path: &Path) -> Result<(PathBuf, Option<bool>), Error> {
    let mut path = path.to_owned();
    for _ in 0..=LINKS {
        match std::fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => {
                let to = std::fs::read_link(&path)?;
                path = path.parent().unwrap_or(Path::new("/")).join(to);
            }
            Ok(found) => return Ok((path, Some(found.is_dir()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((path, None)),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(Error::Options("not a directory"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::Local(format!("too many symlinks in {}", path.display())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_parts_a_container_from_its_path() {
        assert_eq!(split("web:/etc/hosts"), Some(("web", "/etc/hosts")));
        assert_eq!(split("web:a:b"), Some(("web", "a:b")));
        for path in ["/a:b", "./a:b", "../a:b", "file", "-"] {
            assert_eq!(split(path), None, "{path}");
        }
    }

    #[test]
    fn where_a_copy_goes_is_dockers_choice() {
        let target = |folder: &str, name: Option<&str>| Target { folder: folder.into(), name: name.map(Into::into) };
        for (path, is_folder, source_is_folder, expected) in [
            ("/there", Some(true), false, target("/there", None)),
            ("/there/", Some(true), true, target("/there/", None)),
            ("/a/file", Some(false), false, target("/a", Some("file"))),
            ("/a/new", None, false, target("/a", Some("new"))),
            ("/a/new", None, true, target("/a", Some("new"))),
            ("/a/new/", None, true, target("/a", Some("new"))),
            ("/a/new/.", None, true, target("/a/new", Some("."))),
            ("new", None, false, target("/", Some("new"))),
        ] {
            assert_eq!(Target::choose(Path::new(path), is_folder, source_is_folder).unwrap(), expected, "{path}");
        }
        for (path, is_folder, source_is_folder, words) in [
            ("/file", Some(false), true, "cannot copy directory"),
            ("/new/", None, false, "no such directory"),
            ("/new/.", None, false, "no such directory"),
        ] {
            let error = Target::choose(Path::new(path), is_folder, source_is_folder).unwrap_err();
            assert_eq!(error.to_string(), words, "{path}");
        }
    }
}
