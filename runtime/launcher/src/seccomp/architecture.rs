//! Architectures: how the kernel names them to a filter, and what number a system call has on each.

use oci_spec::runtime::Arch;

use super::numbers::{ARM_PRIVATE, COLUMNS, NAMES, NUMBERS};

/// One of a profile's architectures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Architecture {
    pub arch: Arch,
    /// Its column of the table of numbers.
    column: usize,
    /// What stands before all of its numbers.
    base: u32,
    /// Whether sockets and System V IPC have one call each for everything.
    pub multiplexed: bool,
}

/// The bit that tells calls of x32 from those of x86_64.
pub(super) const X32_BIT: u32 = 1 << 30;

const TABLE: [Architecture; 22] = [
    row(Arch::ScmpArchX86, 0, 0, true),
    row(Arch::ScmpArchX86_64, 1, 0, false),
    row(Arch::ScmpArchX32, 2, X32_BIT, false),
    row(Arch::ScmpArchArm, 3, 0, false),
    row(Arch::ScmpArchAarch64, 4, 0, false),
    row(Arch::ScmpArchMips, 5, 4000, true),
    row(Arch::ScmpArchMipsel, 5, 4000, true),
    row(Arch::ScmpArchMips64, 6, 5000, false),
    row(Arch::ScmpArchMipsel64, 6, 5000, false),
    row(Arch::ScmpArchMips64n32, 7, 6000, false),
    row(Arch::ScmpArchMipsel64n32, 7, 6000, false),
    row(Arch::ScmpArchPpc, 8, 0, true),
    row(Arch::ScmpArchPpc64, 9, 0, true),
    row(Arch::ScmpArchPpc64le, 9, 0, true),
    row(Arch::ScmpArchS390, 10, 0, true),
    row(Arch::ScmpArchS390x, 11, 0, true),
    row(Arch::ScmpArchParisc, 12, 0, false),
    row(Arch::ScmpArchParisc64, 13, 0, false),
    row(Arch::ScmpArchRiscv64, 14, 0, false),
    row(Arch::ScmpArchLoongarch64, 15, 0, false),
    row(Arch::ScmpArchM68k, COLUMNS - 1, 0, true),
    NATIVE,
];

/// What this program was built for.
const NATIVE: Architecture = if cfg!(target_arch = "x86_64") {
    row(Arch::ScmpArchX86_64, 1, 0, false)
} else if cfg!(target_arch = "aarch64") {
    row(Arch::ScmpArchAarch64, 4, 0, false)
} else if cfg!(target_arch = "riscv64") {
    row(Arch::ScmpArchRiscv64, 14, 0, false)
} else if cfg!(target_arch = "loongarch64") {
    row(Arch::ScmpArchLoongarch64, 15, 0, false)
} else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
    row(Arch::ScmpArchPpc64le, 9, 0, true)
} else if cfg!(target_arch = "s390x") {
    row(Arch::ScmpArchS390x, 11, 0, true)
} else if cfg!(target_arch = "arm") {
    row(Arch::ScmpArchArm, 3, 0, false)
} else if cfg!(target_arch = "x86") {
    row(Arch::ScmpArchX86, 0, 0, true)
} else {
    panic!("seccomp's numbers of this architecture are not chosen yet")
};

const fn row(arch: Arch, column: usize, base: u32, multiplexed: bool) -> Architecture {
    Architecture { arch, column, base, multiplexed }
}

impl Architecture {
    /// The one that this program was built for.
    pub fn native() -> Self {
        NATIVE
    }

    /// By the specification's name; not all that it names are known.
    pub fn find(arch: Arch) -> Option<Self> {
        if arch == Arch::ScmpArchNative { Some(NATIVE) } else { TABLE.into_iter().find(|known| known.arch == arch) }
    }

    /// All that are known.
    pub fn all() -> impl Iterator<Item = Arch> {
        TABLE[..TABLE.len() - 1].iter().map(|known| known.arch)
    }

    /// What a filter sees: AUDIT_ARCH_… of linux/audit.h. The specification's numbers are those, but for x32.
    pub fn audit(self) -> u32 {
        if self.arch == Arch::ScmpArchX32 { Arch::ScmpArchX86_64 as u32 } else { self.arch as u32 }
    }

    /// Whether arguments have 64 bits. x32 and n32 say no: their registers have, their programs' words have not.
    pub fn is_64_bit(self) -> bool {
        self.arch as u32 & 0xA000_0000 == 0x8000_0000
    }

    /// Whether the lower half of an argument comes first.
    pub fn is_little_endian(self) -> bool {
        self.arch as u32 & 0x4000_0000 != 0
    }

    /// Whether the kernel shows system calls that it lacks as number 0.
    pub fn shows_unknown_as_zero(self) -> bool {
        matches!(self.arch, Arch::ScmpArchS390 | Arch::ScmpArchS390x)
    }
}

/// All names of system calls, for looking up.
pub(super) struct Names(Vec<&'static str>);

impl Names {
    pub fn new() -> Self {
        Self(NAMES.split(' ').collect())
    }

    /// The number of a call, if this architecture has it.
    pub fn number(&self, name: &str, architecture: Architecture) -> Option<u32> {
        if architecture.arch == Arch::ScmpArchArm
            && let Some((_, number)) = ARM_PRIVATE.iter().find(|(private, _)| *private == name)
        {
            return Some(*number);
        }
        let row = self.0.binary_search(&name).ok()?;
        let number = u32::try_from(NUMBERS[row][architecture.column]).ok()?;
        Some(number + architecture.base)
    }
}

/// The call that takes this one's place, and the number of the operation there (linux/net.h, linux/ipc.h).
pub(super) fn multiplexed(name: &str) -> Option<(&'static str, u32)> {
    const SOCKET: [&str; 20] = [
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
    const IPC: [(&str, u32); 12] = [
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
    if let Some((_, operation)) = (1..).zip(SOCKET).map(|(number, call)| (call, number)).find(|(call, _)| *call == name)
    {
        return Some(("socketcall", operation));
    }
    IPC.iter().find(|(call, _)| *call == name).map(|(_, operation)| ("ipc", *operation))
}
