//! The rules for devices as a BPF program, which is how cgroup v2 has them (`BPF_PROG_TYPE_CGROUP_DEVICE`).
//!
//! The kernel asks it about every use of a device; 1 allows it. The last rule that matches decides, each kind of use for
//! itself, so the program asks the rules from the last to the first and keeps the uses that are still to be decided.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use super::{Kind, Rule};
use crate::cgroups::CgroupError;

/// An instruction as the kernel has it (`struct bpf_insn`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(in crate::cgroups) struct Instruction {
    pub(in crate::cgroups) code: u8,
    /// Destination in the lower four bits, source in the upper.
    pub(in crate::cgroups) registers: u8,
    pub(in crate::cgroups) offset: i16,
    pub(in crate::cgroups) value: i32,
}

// Codes of the instructions (linux/bpf_common.h, linux/bpf.h), named after what they do.
pub(in crate::cgroups) const LOAD_WORD: u8 = 0x61;
pub(in crate::cgroups) const AND: u8 = 0x54;
pub(in crate::cgroups) const SHIFT_RIGHT: u8 = 0x74;
pub(in crate::cgroups) const SET: u8 = 0xb4;
pub(in crate::cgroups) const COPY: u8 = 0xbc;
pub(in crate::cgroups) const JUMP_IF_EQUAL: u8 = 0x16;
pub(in crate::cgroups) const JUMP_IF_NOT_EQUAL: u8 = 0x56;
pub(in crate::cgroups) const EXIT: u8 = 0x95;

// Registers: the answer, the question (`struct bpf_cgroup_dev_ctx`) and later scratch, and what the question says.
const ANSWER: u8 = 0;
const QUESTION: u8 = 1;
const KIND: u8 = 2;
const USES: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

fn instruction(code: u8, to: u8, from: u8, offset: i16, value: u32) -> Instruction {
    Instruction { code, registers: from << 4 | to, offset, value: value.cast_signed() }
}

/// Compiles rules.
pub(in crate::cgroups) fn compile(rules: &[Rule]) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD_WORD, KIND, QUESTION, 0, 0),
        instruction(COPY, USES, KIND, 0, 0),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, USES, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, QUESTION, 4, 0),
        instruction(LOAD_WORD, MINOR, QUESTION, 8, 0),
    ];
    for rule in rules.iter().rev() {
        program.extend(compile_rule(rule));
    }
    program.extend(answer(false));
    program
}

fn answer(allow: bool) -> [Instruction; 2] {
    [instruction(SET, ANSWER, 0, 0, u32::from(allow)), instruction(EXIT, 0, 0, 0, 0)]
}

fn compile_rule(rule: &Rule) -> Vec<Instruction> {
    let mut tests = Vec::new();
    if let Some(kind) = rule.scope.kind {
        // BPF_DEVCG_DEV_BLOCK, BPF_DEVCG_DEV_CHAR.
        tests.push((KIND, if kind == Kind::Block { 1 } else { 2 }));
    }
    tests.extend(rule.scope.major.map(|major| (MAJOR, major)));
    tests.extend(rule.scope.minor.map(|minor| (MINOR, minor)));
    let mut decision = if rule.allow {
        // What it allows is decided; the rest is for the rules before it.
        vec![instruction(AND, USES, 0, 0, !rule.scope.access), instruction(JUMP_IF_NOT_EQUAL, USES, 0, 2, 0)]
    } else {
        vec![
            instruction(COPY, QUESTION, USES, 0, 0),
            instruction(AND, QUESTION, 0, 0, rule.scope.access),
            instruction(JUMP_IF_EQUAL, QUESTION, 0, 2, 0),
        ]
    };
    decision.extend(answer(rule.allow));
    let length = tests.len() + decision.len();
    // A test that fails jumps behind the rule.
    let tested = tests.into_iter().enumerate().map(|(index, (register, value))| {
        let behind = i16::try_from(length - index - 1).unwrap_or(i16::MAX);
        instruction(JUMP_IF_NOT_EQUAL, register, 0, behind, value)
    });
    tested.chain(decision).collect()
}

// Commands and numbers of bpf(2) (linux/bpf.h).
const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_DETACH: libc::c_long = 9;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const PROG_QUERY: libc::c_long = 16;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// Programs of cgroups above and of others in the same one count too.
const ALLOW_MULTI: u32 = 2;
/// What our programs are called: those of others, such as systemd's, are left alone.
const NAME: [u8; 16] = *b"cove_devices\0\0\0\0";

#[derive(Default)]
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[derive(Default)]
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
}

#[derive(Default)]
#[repr(C)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

#[derive(Default)]
#[repr(C)]
struct Id {
    id: u32,
    next: u32,
    flags: u32,
}

#[derive(Default)]
#[repr(C)]
struct Object {
    program: u32,
    length: u32,
    address: u64,
}

/// The beginning of `struct bpf_prog_info`, up to the name.
#[derive(Default)]
#[repr(C)]
struct Program {
    before: [u64; 8],
    name: [u8; 16],
}

/// Calls bpf(2). `A` must be the part of `union bpf_attr` that belongs to the command, and what it points to must live.
#[allow(unsafe_code)]
fn bpf<A>(command: libc::c_long, attributes: &mut A) -> io::Result<i32> {
    let size = size_of::<A>();
    // SAFETY: the kernel reads and writes `size` bytes at `attributes`, which is as large and ours alone. What it
    // contains pointers to is owned by the callers below for longer than the call takes.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

/// Takes a descriptor that bpf(2) has just given.
#[allow(unsafe_code)]
fn owned(descriptor: i32) -> OwnedFd {
    // SAFETY: the kernel made it for this call and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

fn raw(descriptor: impl AsFd) -> u32 {
    descriptor.as_fd().as_raw_fd().cast_unsigned()
}

/// Sets the rules of an open cgroup of version 2, in the place of those that were set before.
pub(in crate::cgroups) fn set_v2(folder: impl AsFd, rules: &[Rule]) -> Result<(), CgroupError> {
    let failed = |step| move |source| CgroupError::DeviceProgram { step, source };
    let program = load(&compile(rules)).map_err(failed("load"))?;
    let before = ours(&folder).map_err(failed("query"))?;
    let target = raw(&folder);
    let mut attach = Attach { target, program: raw(&program), kind: ATTACH_CGROUP_DEVICE, ..Attach::default() };
    attach.flags = ALLOW_MULTI;
    // Both are asked for a moment, and only what both allow is allowed: there is none without rules.
    bpf(PROG_ATTACH, &mut attach).map_err(failed("attach"))?;
    for old in before {
        let mut detach = Attach { target, program: raw(&old), kind: ATTACH_CGROUP_DEVICE, ..Attach::default() };
        bpf(PROG_DETACH, &mut detach).map_err(failed("detach"))?;
    }
    Ok(())
}

fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    let mut attributes = Load {
        kind: TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).unwrap_or(u32::MAX),
        instructions: program.as_ptr() as u64,
        license: c"Apache".as_ptr() as u64,
        name: NAME,
        ..Load::default()
    };
    bpf(PROG_LOAD, &mut attributes).map(owned)
}

/// The programs of ours that a cgroup has.
fn ours(folder: impl AsFd) -> io::Result<Vec<OwnedFd>> {
    // The kernel has no more than 64 on a cgroup.
    let mut ids = [0_u32; 64];
    let mut query = Query { target: raw(folder), kind: ATTACH_CGROUP_DEVICE, ..Query::default() };
    query.ids = ids.as_mut_ptr() as u64;
    query.count = 64;
    bpf(PROG_QUERY, &mut query)?;
    let mut ours = Vec::new();
    for id in ids.iter().take(query.count as usize) {
        let program = owned(bpf(PROG_GET_FD_BY_ID, &mut Id { id: *id, ..Id::default() })?);
        let mut info = Program::default();
        let address = std::ptr::from_mut(&mut info) as u64;
        let length = u32::try_from(size_of::<Program>()).unwrap_or(0);
        bpf(OBJ_GET_INFO_BY_FD, &mut Object { program: raw(&program), length, address })?;
        if info.name == NAME {
            ours.push(program);
        }
    }
    Ok(ours)
}
