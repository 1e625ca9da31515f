//! Profiles to compile: docker's, random ones, broken ones.

use std::collections::BTreeSet;

use oci_spec::runtime::{Arch, Capability, LinuxSeccomp, LinuxSeccompArg, LinuxSeccompOperator};
use serde_json::{Value, json};

use super::interpreter::Call;
use super::oracle::{Oracle, action};
use super::{COMMON, Random, same};
use crate::seccomp::architecture::Architecture;
use crate::seccomp::default::profile_for;
use crate::seccomp::{SeccompError, compile, compile_for, numbers};

/// What Debian's dockerd 20.10 writes into `config.json` of a container, and of one with all capabilities.
pub(super) const DOCKER: &str = include_str!("docker-20.10.json");
pub(super) const DOCKER_ALL: &str = include_str!("docker-20.10-all-capabilities.json");

fn read(profile: Value) -> LinuxSeccomp {
    serde_json::from_value(profile).unwrap()
}

/// `keyctl` is allowed if its third argument compares so, nothing else is.
pub(super) fn one_compare(operator: LinuxSeccompOperator, value: u64, two: Option<u64>) -> LinuxSeccomp {
    let argument = json!({"index": 2, "op": operator, "value": value, "valueTwo": two});
    let rule = json!({"names": ["keyctl"], "action": "SCMP_ACT_ALLOW", "args": [argument]});
    read(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}))
}

/// Some architectures of one byte order, some dozen rules. `simple` leaves out what libseccomp decides in its own way:
/// each call has one rule, and that looks at no argument twice. (Of several it tries no other once the first condition
/// of one holds, or the high word of a compare does.)
pub(super) fn random(oracle: &Oracle, native: Arch, simple: bool, random: &mut Random) -> LinuxSeccomp {
    let big_endian = Architecture::of(native).unwrap().is_big_endian();
    let mut architectures = vec![native];
    for other in COMMON {
        let fits = Architecture::of(other).unwrap().is_big_endian() == big_endian;
        let alone = other == Arch::ScmpArchX32 && native != Arch::ScmpArchX86_64;
        if fits && !alone && other != native && random.below(4) == 0 {
            architectures.push(other);
        }
    }
    let all = numbers::NUMBERS.iter().map(|(name, _)| *name);
    let names: Vec<&str> = all.filter(|name| oracle.is_translated(name)).collect();
    let actions = [
        ("SCMP_ACT_ALLOW", None),
        ("SCMP_ACT_ERRNO", Some(5)),
        ("SCMP_ACT_ERRNO", None),
        ("SCMP_ACT_KILL_PROCESS", None),
        ("SCMP_ACT_TRAP", None),
        ("SCMP_ACT_TRACE", Some(9)),
        ("SCMP_ACT_LOG", None),
    ];
    let (default, default_errno) = random.pick(&actions);
    let mut seen = BTreeSet::new();
    let mut rules = Vec::new();
    for _ in 0..random.below(60) + 2 {
        let name = random.pick(&names);
        if !seen.insert(name) {
            continue;
        }
        let (mut action, mut errno) = random.pick(&actions);
        for _ in 0..if simple { 1 } else { random.below(3) + 1 } {
            let mut arguments: Vec<Value> = (0..random.below(4)).map(|_| argument(random)).collect();
            if simple {
                let mut indices = BTreeSet::new();
                arguments.retain(|one| indices.insert(one["index"].as_u64()));
                // Rules of other calls go through these.
                if ["socketcall", "ipc"].contains(&name) {
                    arguments.clear();
                }
            } else {
                (action, errno) = random.pick(&actions);
            }
            rules.push(json!({"names": [name], "action": action, "errnoRet": errno, "args": arguments}));
        }
    }
    for _ in 0..random.below(3) {
        let several: Vec<&str> = (0..random.below(80) + 1).map(|_| random.pick(&names)).collect();
        let new: Vec<&str> = several.into_iter().filter(|name| seen.insert(name)).collect();
        let (action, errno) = random.pick(&actions);
        rules.push(json!({"names": new, "action": action, "errnoRet": errno}));
    }
    read(json!({"defaultAction": default, "defaultErrnoRet": default_errno, "architectures": architectures,
        "syscalls": rules}))
}

const VALUES: [u64; 9] = [0, 1, 2, 7, 0xff00, 0xffff_ffff, 1 << 32, (1 << 32) + 7, u64::MAX];

fn argument(random: &mut Random) -> Value {
    let operators = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
    let (operator, value, two) = (random.pick(&operators), random.pick(&VALUES), random.pick(&VALUES));
    json!({"index": random.below(6), "op": format!("SCMP_CMP_{operator}"), "value": value, "valueTwo": two})
}

/// The verdict, by going through the profile from its beginning.
pub(super) fn plainly(profile: &LinuxSeccomp, architecture: &Architecture, call: &Call) -> u32 {
    let width = if architecture.wide { u64::MAX } else { 0xffff_ffff };
    let holds = |one: &LinuxSeccompArg| {
        let (a, b) = (call.arguments[one.index()] & width, one.value() & width);
        match one.op() {
            LinuxSeccompOperator::ScmpCmpNe => a != b,
            LinuxSeccompOperator::ScmpCmpLt => a < b,
            LinuxSeccompOperator::ScmpCmpLe => a <= b,
            LinuxSeccompOperator::ScmpCmpEq => a == b,
            LinuxSeccompOperator::ScmpCmpGe => a >= b,
            LinuxSeccompOperator::ScmpCmpGt => a > b,
            LinuxSeccompOperator::ScmpCmpMaskedEq => a & b == one.value_two().unwrap_or(0) & b,
        }
    };
    let default = action(profile.default_action(), profile.default_errno_ret());
    let calls = profile.syscalls().iter().flatten();
    let mut rules: Vec<_> = calls
        .filter(|rule| rule.names().iter().any(|name| architecture.number(name) == Some(call.number)))
        .map(|rule| (rule.args().clone().unwrap_or_default(), action(rule.action(), rule.errno_ret())))
        .filter(|(_, verdict)| *verdict != default)
        .collect();
    // One without arguments stands for the whole call.
    if let Some(whole) = rules.iter().position(|(arguments, _)| arguments.is_empty()) {
        rules = vec![rules.remove(whole)];
    }
    for (arguments, verdict) in rules {
        let twice =
            arguments.iter().any(|one| arguments.iter().filter(|other| other.index() == one.index()).count() > 1);
        if if twice { arguments.iter().any(holds) } else { arguments.iter().all(holds) } {
            return verdict;
        }
    }
    default
}

/// Every name's rule, as text.
fn said(profile: &LinuxSeccomp) -> BTreeSet<String> {
    let mut said = BTreeSet::new();
    for call in profile.syscalls().iter().flatten() {
        let how = format!("{} {:?}", call.action(), call.args().iter().flatten().collect::<Vec<_>>());
        said.extend(call.names().iter().map(|name| format!("{name} {how}")));
    }
    said
}

/// Ours is the newer one: what was added since 20.10, and the two things that were taken away.
#[test]
fn the_default_profile_is_docker_s_of_today() {
    let old: LinuxSeccomp = serde_json::from_str(DOCKER).unwrap();
    let given = [Capability::SysChroot, Capability::Mknod, Capability::NetRaw];
    let new = profile_for(Arch::ScmpArchX86_64, true, |one| given.contains(&one));
    assert_eq!(new.architectures(), old.architectures());
    assert_eq!(new.default_action(), old.default_action());
    let (old, new) = (said(&old), said(&new));
    let gone: Vec<&str> = old.difference(&new).map(|rule| rule.split(' ').next().unwrap()).collect();
    assert_eq!(gone, ["io_uring_enter", "io_uring_register", "io_uring_setup", "socket"]);
    let added: BTreeSet<&str> = new.difference(&old).map(|rule| rule.split(' ').next().unwrap()).collect();
    let expected = "cachestat fchmodat2 futex_requeue futex_wait futex_wake getxattrat listmount listxattrat \
        map_shadow_stack mseal name_to_handle_at pkey_alloc pkey_free pkey_mprotect process_vm_readv \
        process_vm_writev removexattrat riscv_hwprobe setxattrat socket statmount uretprobe";
    assert_eq!(
        added.into_iter().collect::<Vec<_>>().join(" "),
        expected.split_whitespace().collect::<Vec<_>>().join(" ")
    );
}

#[test]
fn with_all_capabilities_the_default_profile_is_docker_s_too() {
    let old: LinuxSeccomp = serde_json::from_str(DOCKER_ALL).unwrap();
    let new = profile_for(Arch::ScmpArchX86_64, true, |_| true);
    let (old, new) = (said(&old), said(&new));
    let gone: Vec<&str> = old.difference(&new).map(|rule| rule.split(' ').next().unwrap()).collect();
    assert_eq!(gone, ["io_uring_enter", "io_uring_register", "io_uring_setup", "socket"]);
    assert!(new.iter().any(|rule| rule.starts_with("clone3 SCMP_ACT_ALLOW")));
}

/// On every machine, and where libseccomp knows the calls it agrees.
#[test]
fn the_default_profile_compiles_everywhere() {
    let (oracle, mut random) = (Oracle::open(), Random(3));
    let known = |name: &str| oracle.number(Arch::ScmpArchX86_64, name) != -1;
    for native in COMMON.into_iter().filter(|native| *native != Arch::ScmpArchX32) {
        for all in [false, true] {
            let mut profile = profile_for(native, true, |_| all);
            compile_for(&profile, native).unwrap();
            let mut calls = profile.syscalls().clone().unwrap();
            for call in &mut calls {
                let names = call.names().iter().filter(|name| known(name)).cloned().collect();
                call.set_names(names);
            }
            profile.set_syscalls(Some(calls));
            same(&oracle, &profile, native, &mut random);
        }
    }
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let refused = |profile: Value| compile(&read(profile)).unwrap_err();
    let rule = |name: &str, action: &str| json!({"names": [name], "action": action});
    let error = refused(json!({"defaultAction": "SCMP_ACT_NOTIFY"}));
    assert!(matches!(error, SeccompError::DefaultNotify));
    for name in ["write", "sendmsg"] {
        let error = refused(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule(name, "SCMP_ACT_NOTIFY")]}));
        assert!(matches!(error, SeccompError::Notify(_)), "{name}");
    }
    let error = refused(json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}));
    assert!(matches!(error, SeccompError::Errno(_)));
    let error = refused(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule("", "SCMP_ACT_ERRNO")]}));
    assert!(matches!(error, SeccompError::EmptyName));
    let error = refused(json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_M68K"]}));
    assert!(matches!(error, SeccompError::Architecture(Arch::ScmpArchM68k)));
    let error = refused(json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_S390X"]}));
    assert!(matches!(error, SeccompError::ByteOrder(Arch::ScmpArchS390x)));
    let seventh = json!([{"index": 6, "op": "SCMP_CMP_EQ", "value": 0}]);
    let seventh = json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": seventh});
    let error = refused(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [seventh]}));
    assert!(matches!(error, SeccompError::Argument { index: 6, .. }));
}

/// Nothing less than 4096 instructions is refused, nothing more is passed on.
#[test]
fn long_programs_are_right_up_to_the_limit_of_the_kernel() {
    let (oracle, mut random) = (Oracle::open(), Random(8));
    let profile = |rules: u64| {
        let rules: Vec<Value> = (0..rules)
            .map(|value| {
                let name = ["read", "write", "openat", "mmap"][value as usize % 4];
                let argument = json!({"index": 1, "op": "SCMP_CMP_EQ", "value": value << 30 | value});
                json!({"names": [name], "action": "SCMP_ACT_ERRNO", "args": [argument]})
            })
            .collect();
        read(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
    };
    let (ours, _) = same(&oracle, &profile(600), Arch::ScmpArchX86_64, &mut random);
    assert!(ours > 2400, "{ours}: jumps of more than 255 instructions");
    let Err(SeccompError::TooLong(instructions)) = compile(&profile(1100)) else { panic!("not refused") };
    assert!(instructions > 4096);
    assert!(compile(&profile(1000)).unwrap().instructions() <= 4096);
}

/// An unconditional rule stands for the call, the first of two wins; rules with one argument twice are alternatives.
#[test]
fn several_rules_of_one_call() {
    let (oracle, mut random) = (Oracle::open(), Random(9));
    let equal = |index: usize, value: u64| json!({"index": index, "op": "SCMP_CMP_EQ", "value": value});
    let allow = |args: Value| json!({"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": args});
    let log = |args: Value| json!({"names": ["read"], "action": "SCMP_ACT_LOG", "args": args});
    let cases = [
        json!([allow(json!([equal(0, 1)])), log(json!([]))]),
        json!([log(json!([])), allow(json!([equal(0, 1)]))]),
        json!([log(json!([])), allow(json!([]))]),
        json!([allow(json!([equal(0, 1), equal(0, 2)]))]),
        json!([allow(json!([equal(0, 1), equal(1, 2), equal(0, 3)]))]),
        json!([allow(json!([equal(0, 1), equal(1, 2)])), allow(json!([equal(0, 1), equal(2, 7)]))]),
        json!([allow(json!([equal(0, 1)])), log(json!([equal(0, 2)]))]),
    ];
    for rules in cases {
        let profile = read(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}));
        same(&oracle, &profile, Arch::ScmpArchX86_64, &mut random);
    }
}

/// Random JSON with the profile's words in it: an error or a filter, never a panic.
#[test]
fn no_text_makes_it_panic() {
    let mut random = Random(0xf00d);
    let (mut filters, mut errors) = (0, 0);
    let text = DOCKER.as_bytes();
    for round in 0..400 {
        let mut bytes = text[..].to_vec();
        for _ in 0..random.below(4) + round % 2 {
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes[at] = random.next() as u8,
                1 => drop(bytes.drain(at..(at + 40).min(bytes.len() - 1).max(at))),
                2 => bytes.truncate(at.max(100)),
                _ => bytes.splice(at..at, *b"99999999999").for_each(drop),
            }
        }
        let Ok(text) = String::from_utf8(bytes) else { continue };
        match serde_json::from_str::<LinuxSeccomp>(&text).map(|profile| compile(&profile)) {
            Ok(Ok(filter)) => {
                assert!(filter.instructions() > 1);
                filters += 1;
            }
            _ => errors += 1,
        }
    }
    let action = |random: &mut Random| random.pick(&["ALLOW", "ERRNO", "NOTIFY", "TRAP", "x"]).to_owned();
    for _ in 0..400 {
        let names: Vec<&str> =
            (0..random.below(4)).map(|_| random.pick(&["read", "write", "", "clone", "é"])).collect();
        let arguments: Vec<Value> = (0..random.below(9)).map(|_| argument(&mut random)).collect();
        let rule = json!({"names": names, "action": format!("SCMP_ACT_{}", action(&mut random)), "args": arguments,
            "errnoRet": random.pick(&[None, Some(0), Some(u32::MAX)])});
        let architecture = random.pick(&["X86", "X32", "M68K", "LOONGARCH64", "S390X", "NATIVE"]);
        let profile = json!({"defaultAction": format!("SCMP_ACT_{}", action(&mut random)), "syscalls": [rule],
            "architectures": [format!("SCMP_ARCH_{architecture}")]});
        match serde_json::from_value::<LinuxSeccomp>(profile).map(|profile| compile(&profile)) {
            Ok(Ok(_)) => filters += 1,
            _ => errors += 1,
        }
    }
    assert!(filters > 50 && errors > 50, "{filters} {errors}");
}
