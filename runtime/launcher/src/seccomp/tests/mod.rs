//! Our programs against libseccomp's, and against the kernel.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod cached;
mod interpreter;
mod kernel;
mod oracle;
mod profiles;

use std::collections::BTreeSet;

use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompOperator};

use super::architecture::Architecture;
use super::{compile_for, numbers, rules};
use interpreter::{Call, run};
use oracle::Oracle;

/// Numbers that come out the same in every run (xorshift64*).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 33) as usize % limit
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// All that libseccomp knows as well.
pub(super) const COMMON: [Arch; 19] = [
    Arch::ScmpArchX86,
    Arch::ScmpArchX86_64,
    Arch::ScmpArchX32,
    Arch::ScmpArchArm,
    Arch::ScmpArchAarch64,
    Arch::ScmpArchMips,
    Arch::ScmpArchMips64,
    Arch::ScmpArchMips64n32,
    Arch::ScmpArchMipsel,
    Arch::ScmpArchMipsel64,
    Arch::ScmpArchMipsel64n32,
    Arch::ScmpArchPpc,
    Arch::ScmpArchPpc64,
    Arch::ScmpArchPpc64le,
    Arch::ScmpArchS390,
    Arch::ScmpArchS390x,
    Arch::ScmpArchParisc,
    Arch::ScmpArchParisc64,
    Arch::ScmpArchRiscv64,
];

/// Both programs, over all numbers of the profile's architectures and of one that it does not name. Where arguments are
/// compared, with values at the borders of the compares. Returns the number of instructions, ours and theirs.
///
/// `apart`: libseccomp compiles for one architecture at a time. Among its programs for small profiles are some that never
/// load the number and look for it in the architecture (2.5.4): these are passed over.
fn same_on(oracle: &Oracle, profile: &LinuxSeccomp, native: Arch, apart: bool, random: &mut Random) -> (usize, usize) {
    let ours = compile_for(profile, native).unwrap().program;
    let theirs = oracle.compile(profile, native);
    let read = rules::Rules::read(profile).unwrap();
    let mut architectures: Vec<_> = profile.architectures().iter().flatten().copied().collect();
    architectures.push(native);
    let interesting = values(profile);
    for name in &architectures {
        let architecture = Architecture::of(*name).unwrap();
        let theirs = if apart { oracle.compile(&alone(profile, *name), machine_of(*name)) } else { theirs.clone() };
        let last = read.last(&architecture).filter(|_| read.guards_unknown);
        let compared: BTreeSet<u32> = compared(profile, &architecture);
        for number in all_numbers(&architecture) {
            // x86_64's that are really x32's are looked at there, if it is named.
            let of_x32 = architecture.audit == Arch::ScmpArchX86_64 as u32 && number >= super::X32;
            if of_x32 != (*name == Arch::ScmpArchX32) && architectures.contains(&Arch::ScmpArchX32) {
                continue;
            }
            let killed = of_x32 && !architectures.contains(&Arch::ScmpArchX32);
            for _ in 0..if compared.contains(&number) { 30 } else { 2 } {
                let arguments = std::array::from_fn(|_| random.pick(&interesting));
                let big_endian = architecture.is_big_endian();
                let call = Call { number, architecture: architecture.audit, arguments, big_endian };
                let unknown =
                    last.is_some_and(|last| number > last || number == 0 && architecture.zero_means_unknown());
                let (their_verdict, _, looked) = run(&theirs, &call);
                // No word about a call can come of not looking at its number.
                if apart && !looked {
                    continue;
                }
                let expected = if unknown && !killed { rules::UNKNOWN_CALL } else { their_verdict };
                let verdict = run(&ours, &call).0;
                assert_eq!(verdict, expected, "{call:x?} of {name}\n{}", about(profile, &architecture, number));
            }
        }
    }
    let call = Call { number: 1, architecture: 0x1234_5678, arguments: [0; 6], big_endian: false };
    assert_eq!(run(&ours, &call).0, 0);
    assert_eq!(run(&theirs, &call).0, 0);
    (ours.len(), theirs.len())
}

fn same(oracle: &Oracle, profile: &LinuxSeccomp, native: Arch, random: &mut Random) -> (usize, usize) {
    same_on(oracle, profile, native, false, random)
}

fn alone(profile: &LinuxSeccomp, name: Arch) -> LinuxSeccomp {
    let mut alone = profile.clone();
    alone.set_architectures(Some(vec![name]));
    alone
}

/// x32 is no machine of its own.
fn machine_of(name: Arch) -> Arch {
    if name == Arch::ScmpArchX32 { Arch::ScmpArchX86_64 } else { name }
}

/// The rules that speak of a call.
fn about(profile: &LinuxSeccomp, architecture: &Architecture, number: u32) -> String {
    let speaks = |name: &String| {
        architecture.number(name) == Some(number)
            || architecture.multiplexed(name).is_some_and(|(through, _)| through == number)
    };
    let calls = profile.syscalls().iter().flatten().filter(|call| call.names().iter().any(speaks));
    let action = profile.default_action();
    calls.fold(format!("default {action}"), |text, call| text + "\n" + &serde_json::to_string(call).unwrap())
}

fn all_numbers(architecture: &Architecture) -> Vec<u32> {
    let first = architecture.number("read").unwrap() & !0xff;
    let begin = if architecture.audit & 0xff == 8 { first / 1000 * 1000 } else { first };
    let mut numbers: Vec<u32> = (begin..begin + 600).chain(0xf_0000..0xf_0010).collect();
    numbers.extend([
        1000,
        3999,
        4000,
        10000,
        0x3fff_ffff,
        0x4000_0000,
        0x4000_0001,
        0x7fff_ffff,
        0xffff_fffe,
        u32::MAX,
    ]);
    numbers
}

/// Numbers of calls of which arguments are compared, with those that they go through.
fn compared(profile: &LinuxSeccomp, architecture: &Architecture) -> BTreeSet<u32> {
    let calls = profile.syscalls().iter().flatten();
    let names = |name: &String| {
        let through = architecture.multiplexed(name).map(|(number, _)| number);
        [architecture.number(name), through].into_iter().flatten()
    };
    let socket_call = [architecture.number("socketcall"), architecture.number("ipc")].into_iter().flatten();
    calls
        .filter(|call| call.args().is_some())
        .flat_map(|call| call.names())
        .flat_map(names)
        .chain(socket_call)
        .collect()
}

/// Around what the profile compares with, and the borders of words.
fn values(profile: &LinuxSeccomp) -> Vec<u64> {
    let arguments = profile.syscalls().iter().flatten().flat_map(|call| call.args().iter().flatten());
    let mut values: Vec<u64> = arguments.flat_map(|one| [one.value(), one.value_two().unwrap_or(0)]).collect();
    for value in values.clone() {
        values.extend([value.wrapping_sub(1), value.wrapping_add(1), value ^ (1 << 32), value & 0xffff_ffff, !value]);
    }
    values.extend([0, 1, 2, 0xffff_ffff, 1 << 31, 1 << 32, (1 << 32) + 1, u64::MAX, 1 << 63]);
    values.sort_unstable();
    values.dedup();
    values
}

/// The table of numbers, name for name.
#[test]
fn numbers_are_those_of_libseccomp() {
    let oracle = Oracle::open();
    let mut compared = 0;
    for name in COMMON {
        let architecture = Architecture::of(name).unwrap();
        for (call, _) in numbers::NUMBERS {
            let theirs = oracle.number(name, call);
            match (u32::try_from(theirs).ok(), architecture.number(call), architecture.multiplexed(call)) {
                (Some(theirs), ours, _) => assert_eq!(ours, Some(theirs), "{call} on {name}"),
                // −101 is the first call of `socketcall`, −201 of `ipc`.
                (None, _, Some((_, through))) => assert_eq!(u64::from(theirs.unsigned_abs()) % 100, through, "{call}"),
                // Not there, or newer than libseccomp.
                (None, ours, None) => {
                    let newer = architecture.number("set_mempolicy_home_node").unwrap();
                    let own = ["uretprobe", "uprobe", "riscv_hwprobe"].contains(&call);
                    assert!(own || ours.is_none_or(|ours| ours > newer), "{call} on {name}: {theirs} {ours:?}");
                }
            }
            compared += 1;
        }
    }
    assert!(compared > 9000);
}

#[test]
fn docker_s_profile_of_debian_decides_as_libseccomp_does() {
    let (oracle, mut random) = (Oracle::open(), Random(1));
    for text in [profiles::DOCKER, profiles::DOCKER_ALL] {
        let profile: LinuxSeccomp = serde_json::from_str(text).unwrap();
        same(&oracle, &profile, Arch::ScmpArchX86_64, &mut random);
    }
}

/// The worst call costs no more than twice the steps of the depth of a tree over all boundaries.
#[test]
fn a_call_takes_few_steps() {
    let profile: LinuxSeccomp = serde_json::from_str(profiles::DOCKER).unwrap();
    let oracle = Oracle::open();
    let ours = compile_for(&profile, Arch::ScmpArchX86_64).unwrap().program;
    let theirs = oracle.compile(&profile, Arch::ScmpArchX86_64);
    let mut worst = (0, 0);
    for number in 0..=450 {
        let call = Call { number, architecture: 0xc000_003e, arguments: [0; 6], big_endian: false };
        worst = (worst.0.max(run(&ours, &call).1), worst.1.max(run(&theirs, &call).1));
    }
    eprintln!(
        "worst call: {} steps, libseccomp {}; {} and {} instructions",
        worst.0,
        worst.1,
        ours.len(),
        theirs.len()
    );
    assert!(worst.0 <= 16 && worst.0 <= worst.1, "{worst:?}");
    assert!(ours.len() < theirs.len());
}

#[test]
fn random_profiles_decide_as_libseccomp_does() {
    let (oracle, mut random) = (Oracle::open(), Random(0x5eed));
    for _ in 0..100 {
        let native = random.pick(&COMMON);
        if native == Arch::ScmpArchX32 {
            continue; // No machine is that alone.
        }
        let profile = profiles::random(&oracle, native, true, &mut random);
        same_on(&oracle, &profile, native, true, &mut random);
    }
}

/// What libseccomp has its own way with: rules with several conditions, several rules and actions of one call. There the
/// specification's words are the measure, written down in the plainest way.
#[test]
fn rules_are_alternatives_in_their_order() {
    let (oracle, mut random) = (Oracle::open(), Random(0xa11));
    let mut decided = 0;
    for _ in 0..150 {
        let native =
            random.pick(&[Arch::ScmpArchX86_64, Arch::ScmpArchAarch64, Arch::ScmpArchArm, Arch::ScmpArchMips64]);
        let profile = profiles::random(&oracle, native, false, &mut random);
        let program = compile_for(&profile, native).unwrap().program;
        let architecture = Architecture::of(native).unwrap();
        let interesting = values(&profile);
        for number in compared(&profile, &architecture) {
            for _ in 0..40 {
                let arguments = std::array::from_fn(|_| random.pick(&interesting));
                let big_endian = architecture.is_big_endian();
                let call = Call { number, architecture: architecture.audit, arguments, big_endian };
                let expected = profiles::plainly(&profile, &architecture, &call);
                assert_eq!(run(&program, &call).0, expected, "{call:x?}\n{}", about(&profile, &architecture, number));
                decided += 1;
            }
        }
    }
    assert!(decided > 20_000, "{decided}");
}

/// Whether an argument and a value are so to each other.
type Holds = fn(u64, u64) -> bool;

/// Every operator with every value at a border, against the operator itself.
#[test]
fn compares_hold_at_the_borders() {
    let borders = [0, 1, 2, 0xffff_fffe, 0xffff_ffff, 1 << 32, (1 << 32) + 1, 1 << 63, u64::MAX - 1, u64::MAX];
    let operators: [(LinuxSeccompOperator, Holds); 6] = [
        (LinuxSeccompOperator::ScmpCmpNe, |a, b| a != b),
        (LinuxSeccompOperator::ScmpCmpLt, |a, b| a < b),
        (LinuxSeccompOperator::ScmpCmpLe, |a, b| a <= b),
        (LinuxSeccompOperator::ScmpCmpEq, |a, b| a == b),
        (LinuxSeccompOperator::ScmpCmpGe, |a, b| a >= b),
        (LinuxSeccompOperator::ScmpCmpGt, |a, b| a > b),
    ];
    for native in [Arch::ScmpArchX86_64, Arch::ScmpArchS390x, Arch::ScmpArchX86] {
        let architecture = Architecture::of(native).unwrap();
        let width = if architecture.wide { u64::MAX } else { 0xffff_ffff };
        for (operator, holds) in operators {
            for value in borders {
                let profile = profiles::one_compare(operator, value, None);
                let program = compile_for(&profile, native).unwrap().program;
                for argument in borders {
                    let verdict = run(&program, &call(&architecture, argument)).0;
                    let expected = holds(argument & width, value & width);
                    assert_eq!(verdict == 0x7fff_0000, expected, "{native}: {argument:#x} {operator} {value:#x}");
                }
            }
        }
        for mask in borders {
            for value in borders {
                let profile = profiles::one_compare(LinuxSeccompOperator::ScmpCmpMaskedEq, mask, Some(value));
                let program = compile_for(&profile, native).unwrap().program;
                for argument in borders {
                    let verdict = run(&program, &call(&architecture, argument)).0;
                    let expected = argument & mask & width == value & mask & width;
                    assert_eq!(verdict == 0x7fff_0000, expected, "{native}: {argument:#x} & {mask:#x} == {value:#x}");
                }
            }
        }
    }
}

fn call(architecture: &Architecture, argument: u64) -> Call {
    Call {
        number: architecture.number("keyctl").unwrap(),
        architecture: architecture.audit,
        arguments: [0, 0, argument, 0, 0, 0],
        big_endian: architecture.is_big_endian(),
    }
}
