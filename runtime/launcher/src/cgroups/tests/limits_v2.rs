//! Which files of version 2 get which values, in which order.

use serde_json::json;

use super::super::limits::v2::weight;
use super::super::{CgroupError, Cgroups};
use super::{Imitation, resources};

const CONTROLLERS: &str = "cpuset cpu io memory hugetlb pids rdma\n";
const FILES: [&str; 18] = [
    "pids.max",
    "memory.max",
    "memory.swap.max",
    "memory.low",
    "memory.high",
    "io.bfq.weight",
    "io.max",
    "cpu.idle",
    "cpu.weight",
    "cpu.max",
    "cpu.max.burst",
    "cpuset.cpus",
    "cpuset.mems",
    "hugetlb.2MB.max",
    "hugetlb.2MB.rsvd.max",
    "rdma.max",
    "cgroup.max.depth",
    "misc.max",
];

/// Creates with resources and gives what is written in the container's cgroup.
fn create(value: serde_json::Value) -> Result<Vec<String>, CgroupError> {
    let written = Imitation::v2(CONTROLLERS, &FILES).create("/a/box", &resources(value))?;
    Ok(written.into_iter().filter_map(|line| line.strip_prefix("a/box/").map(str::to_owned)).collect())
}

#[test]
fn every_limit_has_its_file() {
    let written = create(json!({
        "memory": {"limit": 64, "swap": 128, "reservation": 32},
        "cpu": {"shares": 1024, "quota": 50000, "period": 200000, "burst": 1000, "idle": 1, "cpus": "0-1", "mems": "0"},
        "pids": {"limit": 100},
        "blockIO": {
            "weight": 500,
            "weightDevice": [{"major": 8, "minor": 0, "weight": 600}],
            "throttleReadBpsDevice": [{"major": 8, "minor": 1, "rate": 11}],
            "throttleWriteBpsDevice": [{"major": 8, "minor": 2, "rate": 12}],
            "throttleReadIOPSDevice": [{"major": 8, "minor": 3, "rate": 13}],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 4, "rate": 14}],
        },
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
        "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 4}},
        "unified": {"memory.high": "60", "io.max": "8:5 rbps=1\n8:6 rbps=2", "cgroup.max.depth": "3"},
    }));
    let expected = [
        "pids.max=100",
        "memory.swap.max=64",
        "memory.max=64",
        "memory.low=32",
        "io.bfq.weight=500",
        "io.bfq.weight=8:0 600",
        "io.max=8:1 rbps=11",
        "io.max=8:2 wbps=12",
        "io.max=8:3 riops=13",
        "io.max=8:4 wiops=14",
        "cpu.weight=100",
        "cpu.idle=1",
        "cpu.max.burst=1000",
        "cpu.max=50000 200000",
        "cpuset.cpus=0-1",
        "cpuset.mems=0",
        "hugetlb.2MB.max=4194304",
        "hugetlb.2MB.rsvd.max=4194304",
        "rdma.max=mlx5_1 hca_handle=3 hca_object=4",
        "cgroup.max.depth=3",
        "io.max=8:5 rbps=1",
        "io.max=8:6 rbps=2",
        "memory.high=60",
    ];
    assert_eq!(written.unwrap(), expected);
}

#[test]
fn controllers_are_enabled_on_the_way_down_but_not_in_the_container() {
    let imitation = Imitation::v2(CONTROLLERS, &FILES);
    imitation.put("a/cgroup.subtree_control", "cpu memory\n");
    let written = imitation.create("/a/box", &resources(json!({}))).unwrap();
    assert_eq!(
        written,
        [
            "cgroup.subtree_control=+cpuset +cpu +io +memory +hugetlb +pids +rdma",
            "a/cgroup.subtree_control=+cpuset +io +hugetlb +pids +rdma",
        ]
    );
}

#[test]
fn zeros_set_nothing_and_minus_one_is_no_limit() {
    let nothing = create(json!({
        "memory": {"limit": 0, "swap": 0, "reservation": 0},
        "cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": ""},
        "pids": {"limit": 0}, "blockIO": {"weight": 0}, "unified": {},
    }));
    assert_eq!(nothing.unwrap(), Vec::<String>::new());
    let unlimited = create(json!({"memory": {"limit": -1}, "pids": {"limit": -1}, "cpu": {"quota": -1}}));
    assert_eq!(unlimited.unwrap(), ["pids.max=max", "memory.swap.max=max", "memory.max=max", "cpu.max=max 100000"]);
}

/// The specification's swap is memory and swap together; the file's is swap alone.
#[test]
fn swap_is_what_exceeds_memory() {
    let swap = |limit: i64, swap: i64| create(json!({"memory": {"limit": limit, "swap": swap}}));
    assert_eq!(swap(100, 100).unwrap(), ["memory.swap.max=0", "memory.max=100"]);
    assert_eq!(swap(100, 250).unwrap(), ["memory.swap.max=150", "memory.max=100"]);
    assert_eq!(swap(100, -1).unwrap(), ["memory.swap.max=max", "memory.max=100"]);
    assert_eq!(swap(100, 0).unwrap(), ["memory.max=100"]);
    let words = |result: Result<_, CgroupError>| result.unwrap_err().to_string().lines().next().unwrap().to_owned();
    assert_eq!(words(swap(100, 99)), "memory+swap limit should be >= memory limit");
    assert_eq!(words(swap(0, 100)), "unable to set swap limit without memory limit");
    assert_eq!(words(swap(-1, 100)), "unable to set swap limit without memory limit");
    assert_eq!(words(swap(-7, 100)), "invalid memory value: -7");
}

#[test]
fn without_swap_only_a_real_limit_of_it_is_an_error() {
    let files: Vec<&str> = FILES.into_iter().filter(|file| *file != "memory.swap.max").collect();
    let imitation = Imitation::v2(CONTROLLERS, &files);
    let update = |swap: i64| imitation.update("/a/box", &resources(json!({"memory": {"limit": 100, "swap": swap}})));
    assert_eq!(update(100).unwrap(), ["a/box/memory.max=100"]);
    assert_eq!(update(-1).unwrap(), ["a/box/memory.max=100"]);
    assert!(update(150).unwrap_err().to_string().contains("memory.swap.max: no such file or directory"));
}

#[test]
fn without_bfq_the_weights_have_another_scale() {
    let mut files: Vec<&str> = FILES.into_iter().filter(|file| *file != "io.bfq.weight").collect();
    files.push("io.weight");
    let imitation = Imitation::v2(CONTROLLERS, &files);
    let update = |weight: u16| {
        let limits =
            json!({"blockIO": {"weight": weight, "weightDevice": [{"major": 8, "minor": 0, "weight": weight}]}});
        imitation.update("/a/box", &resources(limits)).unwrap()
    };
    assert_eq!(update(10), ["a/box/io.weight=1", "a/box/io.weight=8:0 1"]);
    assert_eq!(update(1000), ["a/box/io.weight=10000", "a/box/io.weight=8:0 10000"]);
}

/// The ends, the usual values, and never less for more.
#[test]
fn shares_become_weights() {
    for (shares, expected) in [(0, 0), (1, 1), (2, 1), (1024, 100), (262_144, 10_000), (u64::MAX, 10_000)] {
        assert_eq!(weight(shares), expected, "{shares}");
    }
    let weights: Vec<u64> = (2..=262_144).map(weight).collect();
    assert!(weights.is_sorted());
    assert!(weights.iter().all(|weight| (1..=10_000).contains(weight)));
}

#[test]
fn unified_takes_names_of_files_of_controllers_that_are_there() {
    let error = |key: &str| create(json!({"unified": {key: "1"}})).unwrap_err().to_string();
    assert_eq!(error("../memory.max"), "unified resource \"../memory.max\" must be a file name (no slashes)");
    assert_eq!(error("memory"), "unified resource \"memory\" must be in the form CONTROLLER.PARAMETER");
    assert_eq!(error("fear.max"), "unified resource \"fear.max\" can't be set: controller \"fear\" not available");
    assert!(error("memory.fear").starts_with("failed to write \"1\": write /"));
}

#[test]
fn a_limit_of_a_controller_that_is_not_there_names_it() {
    let imitation = Imitation::v2("cpu\n", &FILES);
    let error = imitation.create("/a/box", &resources(json!({"memory": {"limit": 5}}))).unwrap_err().to_string();
    let words = "cannot set memory limit: container could not join or create cgroup\n";
    assert!(error.starts_with(words), "{error}");
}

#[test]
fn threaded_cgroups_and_used_ones_are_refused() {
    for (kind, mode) in [("threaded\n", "threaded"), ("domain invalid\n", "an invalid")] {
        let imitation = Imitation::v2(CONTROLLERS, &FILES);
        imitation.put("a/box/cgroup.type", kind);
        let error = imitation.create("/a/box", &resources(json!({}))).unwrap_err().to_string();
        assert!(error.starts_with("cannot enter cgroupv2 /"), "{error}");
        assert!(error.contains(&format!("with domain controllers -- it is in {mode} mode")), "{error}");
    }
    let imitation = Imitation::v2(CONTROLLERS, &FILES);
    imitation.put("a/box/cgroup.procs", "0\n17\n18\n");
    let error = imitation.create("/a/box", &resources(json!({}))).unwrap_err().to_string();
    assert!(error.starts_with("container's cgroup is not empty: 2 process(es) found\n"), "{error}");
    let imitation = Imitation::v2(CONTROLLERS, &FILES);
    imitation.put("a/box/cgroup.events", "populated 0\nfrozen 1\n");
    let error = imitation.create("/a/box", &resources(json!({}))).unwrap_err().to_string();
    assert!(error.starts_with("container's cgroup unexpectedly frozen\n"), "{error}");
}

#[test]
fn what_has_no_effect_is_warned_of() {
    let imitation = Imitation::v2(CONTROLLERS, &FILES);
    let limits = resources(json!({
        "memory": {"limit": 5, "swappiness": 1, "kernel": 5, "disableOOMKiller": true},
        "cpu": {"realtimeRuntime": 5}, "network": {"classID": 5},
    }));
    let cgroups: Cgroups = imitation.plan("/a/box", &limits).unwrap();
    let warnings = cgroups.create(Some(&limits)).unwrap();
    let first: Vec<&str> = warnings.iter().filter_map(|warning| warning.split(' ').next()).collect();
    assert_eq!(
        first,
        ["Kernel", "memory.swappiness", "memory.disableOOMKiller", "cpu.realtimePeriod", "network.classID"]
    );
    assert_eq!(cgroups.create(Some(&resources(json!({"memory": {"limit": 5}})))).unwrap(), Vec::<String>::new());
}
