//! What stats say of recorded files, as `runc events --stats` would (version 1 was compared with runc 1.1.5).

use serde_json::json;

use super::{Imitation, resources};

#[test]
fn version_1_in_the_form_of_runc() {
    let imitation = Imitation::v1(&[]);
    for (file, text) in [
        ("cpu/box/cpu.stat", "nr_periods 4\nnr_throttled 2\nthrottled_time 900\nnr_bursts 0\n"),
        ("cpuacct/box/cpuacct.usage", "34186902\n"),
        ("cpuacct/box/cpuacct.usage_percpu", "34186902 0 \n"),
        ("cpuacct/box/cpuacct.usage_all", "cpu user system\n0 4000000 23989230\n1 0 0\n"),
        ("cpuacct/box/cpuacct.stat", "user 1\nsystem 2\n"),
        ("cpuset/box/cpuset.cpus", "0,2-3\n"),
        ("cpuset/box/cpuset.mems", "0\n"),
        ("cpuset/box/cpuset.sched_load_balance", "1\n"),
        ("cpuset/box/cpuset.sched_relax_domain_level", "-1\n"),
        ("memory/box/memory.limit_in_bytes", "67108864\n"),
        ("memory/box/memory.usage_in_bytes", "1830912\n"),
        ("memory/box/memory.max_usage_in_bytes", "1990656\n"),
        ("memory/box/memory.failcnt", "3\n"),
        ("memory/box/memory.memsw.limit_in_bytes", "9223372036854771712\n"),
        ("memory/box/memory.stat", "cache 8192\nrss 1392640\n"),
        ("pids/box/pids.current", "4\n"),
        ("pids/box/pids.max", "max\n"),
        ("blkio/box/blkio.throttle.io_serviced_recursive", "254:0 Read 5\n254:1 Total 6\nTotal 6\n"),
        ("hugetlb/box/hugetlb.2MB.usage_in_bytes", "2097152\n"),
        ("hugetlb/box/hugetlb.2MB.max_usage_in_bytes", "4194304\n"),
        ("hugetlb/box/hugetlb.2MB.failcnt", "1\n"),
        ("hugetlb/box/hugetlb.2MB.rsvd.usage_in_bytes", "0\n"),
    ] {
        imitation.put(file, text);
    }
    let stats = imitation.plan("/box", &resources(json!({}))).unwrap().stats().unwrap();
    let expected = json!({
        "cpu": {
            "usage": {"total": 34186902, "percpu": [34186902, 0], "percpu_kernel": [23989230, 0],
                      "percpu_user": [4000000, 0], "kernel": 20000000, "user": 10000000},
            "throttling": {"periods": 4, "throttledPeriods": 2, "throttledTime": 900},
        },
        "cpuset": {"cpus": [0, 2, 3], "cpu_exclusive": 0, "mems": [0], "mem_hardwall": 0, "mem_exclusive": 0,
                   "memory_migrate": 0, "memory_spread_page": 0, "memory_spread_slab": 0, "memory_pressure": 0,
                   "sched_load_balance": 1, "sched_relax_domain_level": -1},
        "memory": {
            "cache": 8192,
            "usage": {"limit": 67108864, "usage": 1830912, "max": 1990656, "failcnt": 3},
            "swap": {"limit": 9223372036854771712_u64, "failcnt": 0},
            "kernel": {"limit": 0, "failcnt": 0},
            "kernelTCP": {"limit": 0, "failcnt": 0},
            "raw": {"cache": 8192, "rss": 1392640},
        },
        "pids": {"current": 4},
        "blkio": {"ioServicedRecursive": [
            {"major": 254, "op": "Read", "value": 5}, {"major": 254, "minor": 1, "op": "Total", "value": 6}]},
        "hugetlb": {"2MB": {"usage": 2097152, "max": 4194304, "failcnt": 1}},
        "intel_rdt": {},
        "network_interfaces": null,
    });
    assert_eq!(serde_json::to_value(stats).unwrap(), expected);
}

#[test]
fn version_2_in_the_units_of_version_1() {
    let imitation = Imitation::v2("cpu io memory pids\n", &[]);
    for (file, text) in [
        ("cpu.stat", "usage_usec 30\nuser_usec 10\nsystem_usec 20\nnr_periods 4\nnr_throttled 2\nthrottled_usec 9\n"),
        ("memory.stat", "anon 5\nfile 7\n"),
        ("memory.current", "100\n"),
        ("memory.max", "500\n"),
        ("memory.peak", "200\n"),
        ("memory.events", "low 0\nhigh 0\nmax 3\noom 1\n"),
        ("memory.swap.current", "50\n"),
        ("memory.swap.max", "max\n"),
        ("pids.current", "4\n"),
        ("pids.max", "9\n"),
        ("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n7:0 \n"),
        ("hugetlb.2MB.current", "2097152\n"),
        ("hugetlb.2MB.events", "max 2\n"),
        ("hugetlb.2MB.rsvd.current", "0\n"),
    ] {
        imitation.put(&format!("a/box/{file}"), text);
    }
    let stats = imitation.plan("/a/box", &resources(json!({}))).unwrap().stats().unwrap();
    let stats = serde_json::to_value(stats).unwrap();
    assert_eq!(stats["cpu"]["usage"], json!({"total": 30000, "kernel": 20000, "user": 10000}));
    assert_eq!(stats["cpu"]["throttling"], json!({"periods": 4, "throttledPeriods": 2, "throttledTime": 9000}));
    assert_eq!(stats["memory"]["usage"], json!({"limit": 500, "usage": 100, "max": 200, "failcnt": 3}));
    // Memory and swap together.
    assert_eq!(stats["memory"]["swap"], json!({"limit": u64::MAX, "usage": 150, "failcnt": 0}));
    assert_eq!(stats["memory"]["cache"], 7);
    assert_eq!(stats["pids"], json!({"current": 4, "limit": 9}));
    let bytes = &stats["blkio"]["ioServiceBytesRecursive"];
    assert_eq!(bytes[2], json!({"major": 8, "op": "Discard", "value": 5}));
    assert_eq!(stats["blkio"]["ioServicedRecursive"][1], json!({"major": 8, "op": "Write", "value": 4}));
    assert_eq!(stats["hugetlb"], json!({"2MB": {"usage": 2097152, "failcnt": 2}}));
}
