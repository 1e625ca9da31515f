//! What is to know of each architecture: how the kernel names it to a filter, how wide its arguments are, which numbers
//! its system calls have, and which of them go through one call for many (`socketcall`, `ipc`).

use oci_spec::runtime::Arch;

use super::numbers::{NONE, NUMBERS};

/// A column of [`NUMBERS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    X86,
    X86_64,
    X32,
    Arm,
    Aarch64,
    Mips,
    Mips64,
    Mips64N32,
    Ppc,
    Ppc64,
    S390,
    S390x,
    Parisc,
    Parisc64,
    Riscv64,
    Loongarch64,
}

/// One architecture that a profile may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Architecture {
    pub(super) name: Arch,
    /// `AUDIT_ARCH_…`: what stands in `seccomp_data.arch`. x32 shares x86_64's.
    pub(super) audit: u32,
    pub(super) column: Column,
    /// What is added to all numbers of the table.
    base: u32,
    /// Arguments have 64 bits. x32 and n32 count as 32, as they do for libseccomp.
    pub(super) wide: bool,
}

/// Where the numbers of x32 begin: bit 30 tells them from those of x86_64.
pub(super) const X32: u32 = 0x4000_0000;

/// Of `AUDIT_ARCH_…`: little-endian.
const LITTLE_ENDIAN: u32 = 0x4000_0000;

impl Architecture {
    /// `None` for those of which the numbers are not known here (and to no libseccomp before 2.6).
    pub(super) fn of(name: Arch) -> Option<Self> {
        let name = if name == Arch::ScmpArchNative { native()? } else { name };
        let (column, base, wide) = match name {
            Arch::ScmpArchX86 => (Column::X86, 0, false),
            Arch::ScmpArchX86_64 => (Column::X86_64, 0, true),
            Arch::ScmpArchX32 => (Column::X32, X32, false),
            Arch::ScmpArchArm => (Column::Arm, 0, false),
            Arch::ScmpArchAarch64 => (Column::Aarch64, 0, true),
            Arch::ScmpArchMips | Arch::ScmpArchMipsel => (Column::Mips, 4000, false),
            Arch::ScmpArchMips64 | Arch::ScmpArchMipsel64 => (Column::Mips64, 5000, true),
            Arch::ScmpArchMips64n32 | Arch::ScmpArchMipsel64n32 => (Column::Mips64N32, 6000, false),
            Arch::ScmpArchPpc => (Column::Ppc, 0, false),
            Arch::ScmpArchPpc64 | Arch::ScmpArchPpc64le => (Column::Ppc64, 0, true),
            Arch::ScmpArchS390 => (Column::S390, 0, false),
            Arch::ScmpArchS390x => (Column::S390x, 0, true),
            Arch::ScmpArchParisc => (Column::Parisc, 0, false),
            Arch::ScmpArchParisc64 => (Column::Parisc64, 0, true),
            Arch::ScmpArchRiscv64 => (Column::Riscv64, 0, true),
            Arch::ScmpArchLoongarch64 => (Column::Loongarch64, 0, true),
            Arch::ScmpArchNative | Arch::ScmpArchM68k | Arch::ScmpArchSh | Arch::ScmpArchSheb => return None,
        };
        // The enum's values are libseccomp's tokens, which are the kernel's but for x32.
        let audit = if name == Arch::ScmpArchX32 { Arch::ScmpArchX86_64 } else { name } as u32;
        Some(Self { name, audit, column, base, wide })
    }

    /// The high word of an argument comes first.
    pub(super) fn is_big_endian(&self) -> bool {
        self.audit & LITTLE_ENDIAN == 0
    }

    /// The number of a call that this architecture has.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        let row = NUMBERS.binary_search_by(|(known, _)| (*known).cmp(name)).ok()?;
        match NUMBERS[row].1[self.column as usize] {
            NONE => None,
            private if private >= 0x7000 => Some(0xf_0000 + u32::from(private.unsigned_abs()) - 0x7000),
            number => Some(self.base + u32::from(number.unsigned_abs())),
        }
    }

    /// The call through which `name` goes as well, and its first argument then: a program of i386 opens a socket by
    /// `socketcall(1, …)` as often as by `socket`.
    pub(super) fn multiplexed(&self, name: &str) -> Option<(u32, u64)> {
        match self.column {
            Column::X86 | Column::Mips | Column::Ppc | Column::Ppc64 | Column::S390 | Column::S390x => {}
            _ => return None,
        }
        let place = |calls: &[&str]| calls.iter().position(|one| *one == name);
        let (through, call) = match place(&SOCKET_CALLS) {
            Some(place) => ("socketcall", place + 1),
            None => ("ipc", IPC_CALLS.iter().find(|(one, _)| *one == name)?.1),
        };
        Some((self.number(through)?, call as u64))
    }

    /// s390 makes calls with large numbers through number 0, and one that the kernel does not know keeps that number.
    pub(super) fn zero_means_unknown(&self) -> bool {
        matches!(self.column, Column::S390 | Column::S390x)
    }
}

/// linux/net.h: SYS_SOCKET is 1.
const SOCKET_CALLS: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

/// linux/ipc.h.
const IPC_CALLS: [(&str, usize); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// What this program was built for.
pub(super) fn native() -> Option<Arch> {
    let little = cfg!(target_endian = "little");
    Some(match std::env::consts::ARCH {
        "x86_64" if cfg!(target_pointer_width = "32") => Arch::ScmpArchX32,
        "x86_64" => Arch::ScmpArchX86_64,
        "x86" => Arch::ScmpArchX86,
        "aarch64" => Arch::ScmpArchAarch64,
        "arm" => Arch::ScmpArchArm,
        "riscv64" => Arch::ScmpArchRiscv64,
        "loongarch64" => Arch::ScmpArchLoongarch64,
        "powerpc64" if little => Arch::ScmpArchPpc64le,
        "powerpc64" => Arch::ScmpArchPpc64,
        "powerpc" => Arch::ScmpArchPpc,
        "s390x" => Arch::ScmpArchS390x,
        "mips64" if little => Arch::ScmpArchMipsel64,
        "mips64" => Arch::ScmpArchMips64,
        "mips" if little => Arch::ScmpArchMipsel,
        "mips" => Arch::ScmpArchMips,
        _ => return None,
    })
}
