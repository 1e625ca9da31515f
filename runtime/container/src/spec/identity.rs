//! Who a container runs as: `--user` and `--group-add` by the container's own `/etc/passwd` and `/etc/group`.
//!
//! The files are opened below the container's root and nothing in it leads out: a link to `/etc/passwd` means the
//! container's, and one that goes through `/proc` is refused.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::SpecError;

/// Most that is read of a file, in bytes.
const LARGEST: u64 = 16 << 20;
/// Largest id of a user or group.
const LARGEST_ID: u32 = i32::MAX as u32;

/// Who a container runs as.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Groups besides, the first one among them, as docker does.
    pub additional_gids: Vec<u32>,
    /// The user's home folder, if he has an entry.
    pub home: Option<String>,
}

/// Finds a user (`name|uid[:group|gid]`, empty for root) and more groups in the files of a container.
pub fn identity(root: BorrowedFd<'_>, user: &str, group_add: &[String]) -> Result<Identity, SpecError> {
    let passwd = read(root, "etc/passwd")?;
    let group = read(root, "etc/group")?;
    find(&passwd, &group, user, group_add)
}

fn read(root: BorrowedFd<'_>, file: &'static str) -> Result<String, SpecError> {
    let wrong = |source: io::Error| SpecError::Accounts { file, source };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let opened = match openat2(root, file, flags, Mode::empty(), resolve) {
        Ok(opened) => File::from(opened),
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        Err(error) => return Err(wrong(error.into())),
    };
    // A pipe or device in its place would never end.
    if !opened.metadata().map_err(wrong)?.is_file() {
        return Err(wrong(io::Error::from(io::ErrorKind::InvalidInput)));
    }
    let mut bytes = Vec::new();
    opened.take(LARGEST).read_to_end(&mut bytes).map_err(wrong)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: Vec<&'a str>,
}

fn users(text: &str) -> impl Iterator<Item = User<'_>> {
    text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.trim().split(':').collect();
        let number = |at: usize| fields.get(at).and_then(|field: &&str| field.parse().ok());
        Some(User { name: fields.first()?, uid: number(2)?, gid: number(3)?, home: fields.get(5).unwrap_or(&"") })
    })
}

fn groups(text: &str) -> impl Iterator<Item = Group<'_>> {
    text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.trim().split(':').collect();
        let gid = fields.get(2).and_then(|field| field.parse().ok())?;
        let members = fields.get(3).map(|members| members.split(',').collect()).unwrap_or_default();
        Some(Group { name: fields.first()?, gid, members })
    })
}

fn number(text: &str) -> Option<Result<u32, SpecError>> {
    let number: i64 = text.parse().ok()?;
    Some(u32::try_from(number).ok().filter(|id| *id <= LARGEST_ID).ok_or(SpecError::Range))
}

fn find(passwd: &str, group: &str, asked: &str, group_add: &[String]) -> Result<Identity, SpecError> {
    let (user, own_group) = asked.split_once(':').unwrap_or((asked, ""));
    let user = if user.is_empty() { "0" } else { user };
    let as_number = number(user).transpose()?;
    // A name that is a number is still a name.
    let entry = users(passwd).find(|entry| entry.name == user || Some(entry.uid) == as_number);
    let (mut found, name) = match (entry, as_number) {
        (Some(entry), _) => {
            let home = (!entry.home.is_empty()).then(|| entry.home.to_owned());
            (Identity { uid: entry.uid, gid: entry.gid, home, ..Identity::default() }, Some(entry.name))
        }
        (None, Some(uid)) => (Identity { uid, ..Identity::default() }, None),
        (None, None) => return Err(SpecError::User(user.to_owned())),
    };
    let by_name = |text: &str| {
        let as_number = number(text).transpose()?;
        let entry = groups(group).find(|entry| entry.name == text || Some(entry.gid) == as_number);
        Ok::<_, SpecError>(entry.map(|entry| entry.gid).or(as_number))
    };
    if own_group.is_empty() {
        let member = |entry: &Group<'_>| name.is_some_and(|name| entry.members.contains(&name));
        found.additional_gids.extend(groups(group).filter(member).map(|entry| entry.gid));
    } else {
        found.gid = by_name(own_group)?.ok_or_else(|| SpecError::Group(own_group.to_owned()))?;
    }
    for text in group_add {
        let gid = by_name(text)?.ok_or_else(|| SpecError::AdditionalGroup(text.clone()))?;
        found.additional_gids.push(gid);
    }
    found.additional_gids.insert(0, found.gid);
    let mut seen = HashSet::new();
    found.additional_gids.retain(|gid| seen.insert(*gid));
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\n# no entry\nalice:x:1000:1000::/home/alice:/bin/sh\n7:x:8:9::/seven:\n";
    const GROUP: &str = "root:x:0:root\nalice:x:1000:\ndisk:x:6:alice\nweb:x:33:alice,bob\n";

    fn asked(user: &str, groups: &[&str]) -> Result<Identity, String> {
        let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        find(PASSWD, GROUP, user, &groups).map_err(|error| error.to_string())
    }

    #[test]
    fn users_are_found_as_docker_finds_them() {
        let ids = |user: &str| asked(user, &[]).map(|found| (found.uid, found.gid, found.additional_gids));
        assert_eq!(ids(""), Ok((0, 0, vec![0])));
        assert_eq!(ids("alice"), Ok((1000, 1000, vec![1000, 6, 33])));
        assert_eq!(ids("1000"), Ok((1000, 1000, vec![1000, 6, 33])));
        assert_eq!(ids("alice:web"), Ok((1000, 33, vec![33])), "a group that was named is the only one");
        assert_eq!(ids("5"), Ok((5, 0, vec![0])));
        assert_eq!(ids("5:6"), Ok((5, 6, vec![6])));
        assert_eq!(ids("7"), Ok((8, 9, vec![9])), "a name that is a number");
        assert_eq!(asked("alice", &[]).unwrap().home.as_deref(), Some("/home/alice"));
        assert_eq!(asked("alice", &["disk", "77"]).unwrap().additional_gids, [1000, 6, 33, 77]);
        assert_eq!(ids("nobody"), Err("unable to find user nobody: no matching entries in passwd file".to_owned()));
        assert_eq!(ids("0:no"), Err("unable to find group no: no matching entries in group file".to_owned()));
        assert_eq!(ids("4294967295"), Err("uids and gids must be in range 0-2147483647".to_owned()));
        assert_eq!(ids("-1"), Err("uids and gids must be in range 0-2147483647".to_owned()));
        assert_eq!(asked("", &["no"]), Err("Unable to find group no".to_owned()));
    }

    #[test]
    fn a_link_means_a_file_of_the_container() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(folder.path().join("passwd"), "mallory:x:0:0::/:\n").unwrap();
        std::os::unix::fs::symlink("../../passwd", root.join("etc/passwd")).unwrap();
        let open = || File::open(&root).unwrap();
        assert!(matches!(identity(open().as_fd(), "mallory", &[]), Err(SpecError::User(_))));
        std::fs::write(root.join("passwd"), "mallory:x:5:5::/:\n").unwrap();
        assert_eq!(identity(open().as_fd(), "mallory", &[]).unwrap().uid, 5, "`..` ends at the container's root");
        std::fs::remove_file(root.join("etc/passwd")).unwrap();
        std::os::unix::fs::symlink("/proc/self/root/etc/passwd", root.join("etc/passwd")).unwrap();
        assert_eq!(identity(open().as_fd(), "3", &[]).unwrap().uid, 3);
        std::fs::remove_file(root.join("etc/passwd")).unwrap();
        std::fs::create_dir(root.join("etc/passwd")).unwrap();
        assert!(matches!(identity(open().as_fd(), "3", &[]), Err(SpecError::Accounts { .. })), "not a file");
    }
}
