//! Which files of version 1 get which values, in which order.

use serde_json::json;

use super::super::CgroupError;
use super::{Imitation, resources};

const FILES: [&str; 26] = [
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    "memory.soft_limit_in_bytes",
    "memory.oom_control",
    "memory.swappiness",
    "cpu.idle",
    "cpu.shares",
    "cpu.cfs_period_us",
    "cpu.cfs_burst_us",
    "cpu.cfs_quota_us",
    "cpu.rt_period_us",
    "cpu.rt_runtime_us",
    "pids.max",
    "blkio.bfq.weight",
    "blkio.bfq.weight_device",
    "blkio.leaf_weight",
    "blkio.leaf_weight_device",
    "blkio.throttle.read_bps_device",
    "blkio.throttle.write_bps_device",
    "blkio.throttle.read_iops_device",
    "blkio.throttle.write_iops_device",
    "hugetlb.2MB.limit_in_bytes",
    "hugetlb.2MB.rsvd.limit_in_bytes",
    "net_cls.classid",
    "net_prio.ifpriomap",
    "rdma.max",
];

/// What every container gets: processors and memory nodes of the cgroup above, and no device but the usual ones (the list
/// that runc 1.1.5 leaves in `devices.list`, without 10:200, which the specification does not have).
const INHERITED: [&str; 2] = ["cpuset/box/cpuset.cpus=0-3", "cpuset/box/cpuset.mems=0"];
const DEVICES: [&str; 11] = [
    "devices/box/devices.deny=a",
    "devices/box/devices.allow=c *:* m",
    "devices/box/devices.allow=b *:* m",
    "devices/box/devices.allow=c 1:3 rwm",
    "devices/box/devices.allow=c 1:8 rwm",
    "devices/box/devices.allow=c 1:7 rwm",
    "devices/box/devices.allow=c 5:0 rwm",
    "devices/box/devices.allow=c 1:5 rwm",
    "devices/box/devices.allow=c 1:9 rwm",
    "devices/box/devices.allow=c 136:* rwm",
    "devices/box/devices.allow=c 5:2 rwm",
];

/// Creates with resources and gives what is written for them alone.
fn create(value: serde_json::Value) -> Result<Vec<String>, CgroupError> {
    let written = Imitation::v1(&FILES).create("/box", &resources(value))?;
    Ok(written.into_iter().filter(|line| !line.starts_with("cpuset") && !line.starts_with("devices")).collect())
}

#[test]
fn without_resources_only_processors_and_devices_are_set() {
    let written = Imitation::v1(&FILES).create("/box", &resources(json!({}))).unwrap();
    assert_eq!(written, [INHERITED.as_slice(), DEVICES.as_slice()].concat());
}

#[test]
fn every_limit_has_its_file() {
    let written = create(json!({
        "memory": {"limit": 64, "swap": 128, "reservation": 32, "swappiness": 10, "kernel": 7, "disableOOMKiller": true},
        "cpu": {"shares": 512, "quota": 50000, "period": 200000, "burst": 1000, "idle": 1,
                "realtimeRuntime": 900, "realtimePeriod": 1000},
        "pids": {"limit": 100},
        "blockIO": {
            "weight": 500, "leafWeight": 300,
            "weightDevice": [{"major": 8, "minor": 0, "weight": 600, "leafWeight": 400}],
            "throttleReadBpsDevice": [{"major": 8, "minor": 1, "rate": 11}],
            "throttleWriteBpsDevice": [{"major": 8, "minor": 2, "rate": 12}],
            "throttleReadIOPSDevice": [{"major": 8, "minor": 3, "rate": 13}],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 4, "rate": 14}],
        },
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
        "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 5}]},
        "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 4}, "mlx4_0": {"hcaObjects": 9}},
    }));
    let expected = [
        "memory/box/memory.limit_in_bytes=64",
        "memory/box/memory.memsw.limit_in_bytes=128",
        "memory/box/memory.soft_limit_in_bytes=32",
        "memory/box/memory.oom_control=1",
        "memory/box/memory.swappiness=10",
        "cpu/box/cpu.shares=512",
        "cpu/box/cpu.idle=1",
        "cpu/box/cpu.cfs_period_us=200000",
        "cpu/box/cpu.cfs_burst_us=1000",
        "cpu/box/cpu.cfs_quota_us=50000",
        "cpu/box/cpu.rt_period_us=1000",
        "cpu/box/cpu.rt_runtime_us=900",
        "pids/box/pids.max=100",
        "blkio/box/blkio.bfq.weight=500",
        "blkio/box/blkio.leaf_weight=300",
        "blkio/box/blkio.bfq.weight_device=8:0 600",
        "blkio/box/blkio.leaf_weight_device=8:0 400",
        "blkio/box/blkio.throttle.read_bps_device=8:1 11",
        "blkio/box/blkio.throttle.write_bps_device=8:2 12",
        "blkio/box/blkio.throttle.read_iops_device=8:3 13",
        "blkio/box/blkio.throttle.write_iops_device=8:4 14",
        "hugetlb/box/hugetlb.2MB.limit_in_bytes=4194304",
        "hugetlb/box/hugetlb.2MB.rsvd.limit_in_bytes=4194304",
        "net_cls/box/net_cls.classid=1048577",
        "net_prio/box/net_prio.ifpriomap=eth0 5",
        "rdma/box/rdma.max=mlx4_0 hca_object=9",
        "rdma/box/rdma.max=mlx5_1 hca_handle=3 hca_object=4",
    ];
    assert_eq!(written.unwrap(), expected);
}

#[test]
fn zeros_set_nothing() {
    let written = create(json!({
        "memory": {"limit": 0, "swap": 0, "reservation": 0, "kernel": 0, "disableOOMKiller": false},
        "cpu": {"shares": 0, "quota": 0, "period": 0, "realtimeRuntime": 0, "realtimePeriod": 0, "cpus": "", "mems": ""},
        "pids": {"limit": 0},
        "blockIO": {"weight": 0, "leafWeight": 0},
        "network": {"classID": 0},
        "unified": {},
    }));
    assert_eq!(written.unwrap(), Vec::<String>::new());
}

#[test]
fn minus_one_is_no_limit() {
    let written = create(json!({"memory": {"limit": -1}, "pids": {"limit": -1}, "cpu": {"quota": -1}}));
    let expected = [
        // Swap first: it may not be lower than the limit of memory.
        "memory/box/memory.memsw.limit_in_bytes=-1",
        "memory/box/memory.limit_in_bytes=-1",
        "cpu/box/cpu.cfs_quota_us=-1",
        "pids/box/pids.max=max",
    ];
    assert_eq!(written.unwrap(), expected);
}

#[test]
fn without_swap_accounting_no_limit_of_memory_is_no_error() {
    let files: Vec<&str> = FILES.into_iter().filter(|file| !file.contains("memsw")).collect();
    let imitation = Imitation::v1(&files);
    let written = imitation.update("/box", &resources(json!({"memory": {"limit": -1}}))).unwrap();
    assert_eq!(written, ["memory/box/memory.limit_in_bytes=-1"]);
    let error =
        imitation.update("/box", &resources(json!({"memory": {"limit": 1, "swap": 2}}))).unwrap_err().to_string();
    let lines: Vec<&str> = error.lines().collect();
    assert!(lines[0].starts_with("failed to write \"2\": write /"), "{error}");
    assert!(lines[0].ends_with("memory.memsw.limit_in_bytes: no such file or directory"), "{error}");
    assert!(lines[1].contains("swapaccount=1"), "{error}");
}

/// The kernel keeps memory at or below memory and swap: what grows goes first.
#[test]
fn an_update_raises_swap_before_memory_and_lowers_it_after() {
    let imitation = Imitation::v1(&FILES);
    let update = |current: &str| {
        imitation.put("memory/box/memory.limit_in_bytes", current);
        imitation.update("/box", &resources(json!({"memory": {"limit": 500, "swap": 600}}))).unwrap()
    };
    let (memory, swap) = ("memory/box/memory.limit_in_bytes=500", "memory/box/memory.memsw.limit_in_bytes=600");
    assert_eq!(update("100\n"), [swap, memory]);
    assert_eq!(update("1000\n"), [memory, swap]);
}

#[test]
fn older_and_newer_kernels_name_weights_and_pages_differently() {
    let mut files: Vec<&str> =
        FILES.into_iter().filter(|file| !file.contains("bfq") && !file.contains("rsvd")).collect();
    files.extend(["blkio.weight", "blkio.weight_device"]);
    let limits = resources(json!({
        "blockIO": {"weight": 500, "weightDevice": [{"major": 8, "minor": 0, "weight": 600}]},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 2097152}],
    }));
    let expected = [
        "blkio/box/blkio.weight=500",
        "blkio/box/blkio.weight_device=8:0 600",
        "hugetlb/box/hugetlb.2MB.limit_in_bytes=2097152",
    ];
    assert_eq!(Imitation::v1(&files).update("/box", &limits).unwrap(), expected);
}

#[test]
fn an_update_leaves_alone_what_it_does_not_speak_of() {
    let written = Imitation::v1(&FILES).update("/box", &resources(json!({"pids": {"limit": 5}}))).unwrap();
    assert_eq!(written, ["pids/box/pids.max=5"]);
}

#[test]
fn an_update_of_devices_denies_nothing_that_stays_allowed() {
    let imitation = Imitation::v1(&FILES);
    imitation.put("devices/box/devices.list", "c *:* m\nb *:* m\nc 1:3 rwm\nc 1:8 rwm\nc 1:7 rwm\nc 5:0 rwm\nc 1:5 rwm\nc 1:9 rwm\nc 136:* rwm\nc 5:2 rwm\nb 8:0 rwm\n");
    let rules = |access: &str| {
        resources(json!({"devices": [{"allow": true, "type": "b", "major": 8, "minor": 0, "access": access}]}))
    };
    assert_eq!(imitation.update("/box", &rules("rwm")).unwrap(), Vec::<String>::new());
    assert_eq!(
        imitation.update("/box", &rules("r")).unwrap(),
        ["devices/box/devices.allow=b 8:0 r", "devices/box/devices.deny=b 8:0 wm"]
    );
}

/// The words are runc's: callers look for them.
#[test]
fn wrong_values_are_refused_before_anything_is_made() {
    for (value, words) in [
        (json!({"cpu": {"shares": 1}}), "the minimum allowed cpu-shares is 2"),
        (json!({"cpu": {"shares": 262145}}), "the maximum allowed cpu-shares is 262144"),
        (json!({"memory": {"swappiness": 101}}), "invalid memory swappiness value: 101 (valid range is 0-100)"),
        (json!({"unified": {"memory.max": "1"}}), "invalid configuration: cannot use unified on cgroup v1"),
    ] {
        let imitation = Imitation::v1(&FILES);
        let error = imitation.create("/new", &resources(value)).unwrap_err().to_string();
        assert_eq!(error.lines().next().unwrap(), words);
        assert!(!imitation.base.path().join("cpu/new").exists());
    }
}

#[test]
fn a_limit_of_a_controller_that_is_not_there_names_it() {
    let mut imitation = Imitation::v1(&FILES);
    imitation.tree.hierarchies.retain(|mounted| mounted.controllers != ["pids"]);
    let error = imitation.create("/box", &resources(json!({"pids": {"limit": 5}}))).unwrap_err().to_string();
    let words = "cannot set pids limit: container could not join or create cgroup\n";
    assert!(error.starts_with(words), "{error}");
    assert!(imitation.create("/box", &resources(json!({"pids": {"limit": 0}}))).is_ok());
}

/// Processors are copied down from the last cgroup that has any.
#[test]
fn a_new_cgroup_has_the_processors_of_those_above() {
    let imitation = Imitation::v1(&FILES);
    for level in ["a", "a/b", "a/b/box"] {
        std::fs::create_dir_all(imitation.base.path().join("cpuset").join(level)).unwrap();
        imitation.put(&format!("cpuset/{level}/cpuset.cpus"), if level == "a" { "1-2\n" } else { "\n" });
        imitation.put(&format!("cpuset/{level}/cpuset.mems"), "\n");
    }
    for (controller, file) in [("freezer", "freezer.state"), ("devices", "devices.deny"), ("devices", "devices.allow")]
    {
        std::fs::create_dir_all(imitation.base.path().join(controller).join("a/b/box")).unwrap();
        imitation.put(&format!("{controller}/a/b/box/{file}"), "THAWED\n");
    }
    let written = imitation.create("/a/b/box", &resources(json!({"cpu": {"mems": "0"}}))).unwrap();
    let cpuset: Vec<_> = written.into_iter().filter(|line| line.starts_with("cpuset")).collect();
    let expected = [
        "cpuset/a/b/cpuset.cpus=1-2",
        "cpuset/a/b/box/cpuset.cpus=1-2",
        "cpuset/a/cpuset.mems=0",
        "cpuset/a/b/cpuset.mems=0",
        "cpuset/a/b/box/cpuset.mems=0",
    ];
    assert_eq!(cpuset, expected);
}
