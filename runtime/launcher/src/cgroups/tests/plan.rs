//! Where cgroups are, for every kind of host and of path.

use std::path::Path;

use serde_json::json;

use super::super::folder::Check;
use super::super::place::{Unit, clean};
use super::super::tree::Tree;
use super::super::{CgroupError, Cgroups, Request};
use super::{Imitation, request, resources};

const BASE: &str = "/sys/fs/cgroup";

const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / /sys/fs/cgroup/devices rw,relatime shared:9 - cgroup cgroup rw,devices
90 23 0:30 / /var/lib/rootfs/sys/fs/cgroup/devices rw,relatime shared:9 - cgroup cgroup rw,devices
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
42 31 0:39 / /mnt/my\\040memory rw,relatime - cgroup cgroup rw,memory
";
const HYBRID_OWN: &str = "5:name=systemd:/a.slice\n4:memory:/m\n2:devices:/\n1:cpu,cpuacct:/c/d\n0::/u\n";

fn paths(mountinfo: &str, own: &str, path: Option<&str>) -> Result<Vec<String>, CgroupError> {
    let tree = Tree::parse(mountinfo, own, Path::new(BASE), Check::Kernel)?;
    let cgroups = Cgroups::plan_in(&request(path.map(Path::new), None), &tree, None)?;
    Ok(cgroups.paths().iter().map(|(name, path)| format!("{name} {}", path.display())).collect())
}

/// Controllers that share a mount have one cgroup; named and unified hierarchies are joined too; mounts elsewhere count
/// only where there is none at the usual place.
#[test]
fn an_absolute_path_counts_from_each_mount() {
    let expected = [
        " /sys/fs/cgroup/unified/x/y",
        "cpu /sys/fs/cgroup/cpu,cpuacct/x/y",
        "cpuacct /sys/fs/cgroup/cpu,cpuacct/x/y",
        "devices /sys/fs/cgroup/devices/x/y",
        "memory /mnt/my memory/x/y",
        "name=systemd /sys/fs/cgroup/systemd/x/y",
    ];
    assert_eq!(paths(HYBRID, HYBRID_OWN, Some("/x/y")).unwrap(), expected);
    assert_eq!(paths(HYBRID, HYBRID_OWN, Some("/../x/../../x/./y")).unwrap(), expected);
}

#[test]
fn a_relative_path_or_none_counts_from_our_own_cgroup() {
    let below = |name: &str| {
        [
            format!(" /sys/fs/cgroup/unified/u/{name}"),
            format!("cpu /sys/fs/cgroup/cpu,cpuacct/c/d/{name}"),
            format!("cpuacct /sys/fs/cgroup/cpu,cpuacct/c/d/{name}"),
            format!("devices /sys/fs/cgroup/devices/{name}"),
            format!("memory /mnt/my memory/m/{name}"),
            format!("name=systemd /sys/fs/cgroup/systemd/a.slice/{name}"),
        ]
    };
    assert_eq!(paths(HYBRID, HYBRID_OWN, Some("../../x")).unwrap(), below("x"));
    assert_eq!(paths(HYBRID, HYBRID_OWN, None).unwrap(), below("box"));
    assert_eq!(paths(HYBRID, HYBRID_OWN, Some("")).unwrap(), below("box"));
}

/// In a container without a cgroup namespace, the mount shows a part of the hierarchy, and our path is that of the host.
#[test]
fn only_the_mounted_part_of_a_hierarchy_counts() {
    let mountinfo = "33 31 0:30 /docker/abc /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n";
    assert_eq!(
        paths(mountinfo, "2:devices:/docker/abc/in\n", None).unwrap(),
        ["devices /sys/fs/cgroup/devices/in/box"]
    );
}

#[test]
fn on_version_2_a_relative_path_is_beside_our_own_cgroup() {
    let mountinfo = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
    let path = |own, path| paths(mountinfo, own, path).unwrap();
    assert_eq!(path("0::/user/shell\n", None), [" /sys/fs/cgroup/user/box"]);
    assert_eq!(path("0::/\n", None), [" /sys/fs/cgroup/box"]);
    assert_eq!(path("0::/user/shell\n", Some("/x")), [" /sys/fs/cgroup/x"]);
    // The tmpfs and hierarchies of version 1 below the mount cannot be reached any more.
    let covered = format!("{HYBRID}{mountinfo}");
    assert_eq!(paths(&covered, HYBRID_OWN, Some("/x")).unwrap(), [" /sys/fs/cgroup/x"]);
}

#[test]
fn hosts_and_paths_without_a_cgroup_are_refused() {
    assert!(matches!(paths(HYBRID, HYBRID_OWN, Some("/..")), Err(CgroupError::Root { .. })));
    assert!(matches!(paths("", HYBRID_OWN, None), Err(CgroupError::NoCgroups)));
    let without = HYBRID.replace(",devices", ",freezer").replace("/devices", "/freezer");
    let error = paths(&without, &HYBRID_OWN.replace("devices", "freezer"), None).unwrap_err();
    assert!(error.to_string().starts_with("mountpoint for devices not found\n"), "{error}");
}

#[test]
fn paths_for_systemd_name_slice_prefix_and_unit() {
    let folder = |path: &str, user| {
        let unit = Unit::parse(Some(Path::new(path)), "box", user).unwrap();
        unit.folder().unwrap().display().to_string()
    };
    assert_eq!(folder("machine.slice:libpod:abc", false), "machine.slice/libpod-abc.scope");
    assert_eq!(folder("a-b-c.slice:cri:abc", false), "a.slice/a-b.slice/a-b-c.slice/cri-abc.scope");
    assert_eq!(folder(":docker:abc", false), "system.slice/docker-abc.scope");
    assert_eq!(folder("-.slice:docker:abc", false), "docker-abc.scope");
    assert_eq!(folder("a.slice::a-pod.slice", false), "a.slice/a-pod.slice");
    assert_eq!(folder("", false), "system.slice/cove-box.scope");
    assert_eq!(folder("", true), "user.slice/cove-box.scope");
    let error = Unit::parse(Some(Path::new("/docker/abc")), "box", false).unwrap_err().to_string();
    let words =
        "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got \"/docker/abc\" instead";
    assert_eq!(error, words);
    for bad in ["a:b", "a.slice:b:c/d", "a.slice:../b:c", "a.slice:b:"] {
        assert!(Unit::parse(Some(Path::new(bad)), "box", false).is_err(), "{bad}");
    }
    for bad in ["machine", "a--b.slice", "../a.slice", "a/b.slice", ".slice"] {
        let unit = Unit::parse(Some(Path::new(&format!("{bad}:p:n"))), "box", false).unwrap();
        assert!(matches!(unit.folder(), Err(CgroupError::Slice { .. })), "{bad}");
    }
}

#[test]
fn a_clean_path_cannot_lead_out() {
    for (path, expected) in [("/a/b", "a/b"), ("../../a", "a"), ("a/../../b", "b"), ("./a//b/.", "a/b"), ("/..", "")] {
        assert_eq!(clean(Path::new(path)), Path::new(expected), "{path}");
    }
}

/// As an ordinary user, which one thread of the test becomes, on this host's own cgroups.
#[test]
#[allow(unsafe_code)]
fn an_ordinary_user_on_version_1_gets_no_cgroup_and_no_limit() {
    if !super::host::is_root_on_v1() {
        return;
    }
    let user = std::thread::spawn(|| {
        // SAFETY: it takes numbers. Without the wrapper of libc it is for this thread alone.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) }, 0);
        let plan = |resources: &_, path: Option<&Path>| {
            let request = Request { id: "box", path, systemd: false, rootless: true, resources: Some(resources) };
            Cgroups::plan(&request)
        };
        for path in [None, Some(Path::new("/x/y"))] {
            let devices = resources(json!({"devices": [{"allow": false, "access": "rwm"}], "memory": {"limit": 0}}));
            let cgroups = plan(&devices, path).unwrap();
            assert!(cgroups.paths().is_empty());
            assert_eq!(cgroups.create(Some(&devices)).unwrap(), Vec::<String>::new());
            cgroups.entrance().unwrap().enter(false).unwrap();
            assert!(cgroups.processes().unwrap().is_empty());
            assert!(matches!(cgroups.freeze(), Err(CgroupError::NoFreezer)));
            assert_eq!(cgroups.kill(libc::SIGKILL).unwrap(), 0);
            cgroups.delete().unwrap();
            let limited = resources(json!({"memory": {"limit": 1 << 20}}));
            for error in [plan(&limited, path).unwrap_err(), cgroups.create(Some(&limited)).unwrap_err()] {
                let words =
                    "cannot set memory limit: container could not join or create cgroup\nan ordinary user has no";
                assert!(error.to_string().starts_with(words), "{error}");
            }
        }
    });
    user.join().unwrap();
}

/// As an ordinary user on version 2: only limits and a path of its own need a cgroup.
#[test]
#[allow(unsafe_code)]
fn an_ordinary_user_on_version_2_needs_a_cgroup_only_for_limits_or_a_path() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let imitation = Imitation::v2("cpu\n", &[]);
    let user = std::thread::spawn(move || {
        // SAFETY: as above.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) }, 0);
        let plan = |limits: serde_json::Value, path: Option<&str>| {
            let (limits, path) = (resources(limits), path.map(Path::new));
            let request = Request { id: "new", path, systemd: false, rootless: true, resources: Some(&limits) };
            Cgroups::plan_in(&request, &imitation.tree, None)
        };
        assert!(plan(json!({}), None).unwrap().paths().is_empty());
        for (limits, path) in [
            (json!({"pids": {"limit": 5}}), None),
            (json!({"unified": {"memory.high": "5"}}), None),
            (json!({}), Some("/new")),
        ] {
            let error = plan(limits, path).unwrap_err().to_string();
            let words = "rootless needs no limits + no cgrouppath when no permission is granted for cgroups: mkdir /";
            assert!(error.starts_with(words), "{error}");
        }
    });
    user.join().unwrap();
}

/// The state of a container is read by later versions of ourselves, and earlier ones have written it.
#[test]
fn what_is_kept_with_the_state_stays_readable() {
    let imitation = Imitation::v1(&[]);
    let cgroups = imitation.plan("/box", &resources(json!({}))).unwrap();
    let kept = serde_json::to_string(&cgroups).unwrap();
    let read: Cgroups = serde_json::from_str(&kept).unwrap();
    assert_eq!(read.paths(), cgroups.paths());
    let oldest = r#"{"hierarchies": [
        {"version": "V1", "controllers": ["cpu", "cpuacct"], "mount": "/sys/fs/cgroup/cpu,cpuacct", "path": "a/b"},
        {"version": "V2", "controllers": [], "mount": "/sys/fs/cgroup/unified", "path": "a/b"}]}"#;
    let read: Cgroups = serde_json::from_str(oldest).unwrap();
    assert_eq!(read.paths()["cpuacct"], Path::new("/sys/fs/cgroup/cpu,cpuacct/a/b"));
    assert_eq!(read.paths()[""], Path::new("/sys/fs/cgroup/unified/a/b"));
}
