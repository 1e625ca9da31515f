//! libseccomp, used as runc does.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, FromRawFd};

use libloading::{Library, Symbol};
use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator};

use crate::seccomp::program::{Instruction, RETURN};

/// `struct scmp_arg_cmp`.
#[repr(C)]
struct Compare {
    argument: c_uint,
    operator: c_int,
    a: u64,
    b: u64,
}

pub(super) struct Oracle(Library);

impl Oracle {
    pub(super) fn open() -> Self {
        // SAFETY: libseccomp does nothing when it is loaded.
        Self(unsafe { Library::new("libseccomp.so.2") }.expect("the tests of seccomp need libseccomp.so.2"))
    }

    fn function<T>(&self, name: &str) -> Symbol<'_, T> {
        // SAFETY: each caller writes the type that seccomp.h has.
        unsafe { self.0.get(name.as_bytes()) }.unwrap()
    }

    /// Negative for a call that the architecture does not have as such.
    pub(super) fn number(&self, architecture: Arch, name: &str) -> i32 {
        type Resolve = unsafe extern "C" fn(u32, *const c_char) -> c_int;
        let name = CString::new(name).unwrap();
        // SAFETY: seccomp.h's type, a string that ends with NUL.
        unsafe { self.function::<Resolve>("seccomp_syscall_resolve_name_arch")(architecture as u32, name.as_ptr()) }
    }

    /// Whether a rule on this name comes to the call of this name on other architectures: rules are added by numbers of
    /// this machine, and calls that it does not have share some of their stand-ins.
    pub(super) fn is_translated(&self, name: &str) -> bool {
        type Name = unsafe extern "C" fn(u32, c_int) -> *mut c_char;
        let number = self.number(Arch::ScmpArchX86_64, name);
        // SAFETY: seccomp.h's type; the answer is null or a string that the caller frees.
        unsafe {
            let found = self.function::<Name>("seccomp_syscall_resolve_num_arch")(Arch::ScmpArchX86_64 as u32, number);
            let same = !found.is_null() && CStr::from_ptr(found).to_bytes() == name.as_bytes();
            libc::free(found.cast());
            same
        }
    }

    /// The program for the profile, on a machine of this architecture.
    pub(super) fn compile(&self, profile: &LinuxSeccomp, native: Arch) -> Vec<Instruction> {
        type Init = unsafe extern "C" fn(u32) -> *mut c_void;
        type OfArchitecture = unsafe extern "C" fn(*mut c_void, u32) -> c_int;
        type Attribute = unsafe extern "C" fn(*mut c_void, c_uint, u32) -> c_int;
        type Add = unsafe extern "C" fn(*mut c_void, u32, c_int, c_uint, *const Compare) -> c_int;
        type Export = unsafe extern "C" fn(*const c_void, c_int) -> c_int;
        type Release = unsafe extern "C" fn(*mut c_void);
        type Resolve = unsafe extern "C" fn(*const c_char) -> c_int;
        let default = action(profile.default_action(), profile.default_errno_ret());
        let calls = profile.syscalls().clone().unwrap_or_default();
        // SAFETY: the types are those of seccomp.h, the context lives from init to release, all pointers are to what
        // lives longer than the call.
        unsafe {
            let context = self.function::<Init>("seccomp_init")(default);
            assert!(!context.is_null());
            let own = Arch::ScmpArchX86_64;
            if native != own {
                assert_eq!(self.function::<OfArchitecture>("seccomp_arch_remove")(context, own as u32), 0);
                assert_eq!(self.function::<OfArchitecture>("seccomp_arch_add")(context, native as u32), 0);
            }
            for architecture in profile.architectures().iter().flatten() {
                let added = self.function::<OfArchitecture>("seccomp_arch_add")(context, *architecture as u32);
                assert!(added == 0 || added == -libc::EEXIST, "{architecture}: {added}");
            }
            if calls.iter().map(|call| call.names().len()).sum::<usize>() > 32 {
                // SCMP_FLTATR_CTL_OPTIMIZE: the binary tree.
                assert_eq!(self.function::<Attribute>("seccomp_attr_set")(context, 8, 2), 0);
            }
            for call in &calls {
                let then = action(call.action(), call.errno_ret());
                if then == default {
                    continue;
                }
                for name in call.names() {
                    let text = CString::new(name.as_str()).unwrap();
                    let number = self.function::<Resolve>("seccomp_syscall_resolve_name")(text.as_ptr());
                    if number == -1 {
                        continue;
                    }
                    let compares: Vec<_> = call.args().iter().flatten().map(compare).collect();
                    let mut indices: Vec<_> = compares.iter().map(|one| one.argument).collect();
                    indices.sort_unstable();
                    indices.dedup();
                    let each = if indices.len() < compares.len() { 1 } else { compares.len().max(1) };
                    let add = self.function::<Add>("seccomp_rule_add_array");
                    let mut rules: Vec<&[Compare]> = compares.chunks(each).collect();
                    if rules.is_empty() {
                        rules.push(&[]);
                    }
                    for rule in rules {
                        let added = add(context, then, number, rule.len() as c_uint, rule.as_ptr());
                        assert!(added == 0 || added == -libc::EEXIST, "{name}: {added}");
                    }
                }
            }
            let mut file = File::from_raw_fd(libc::memfd_create(c"program".as_ptr(), 0));
            assert_eq!(self.function::<Export>("seccomp_export_bpf")(context, file.as_raw_fd()), 0);
            self.function::<Release>("seccomp_release")(context);
            let mut bytes = Vec::new();
            file.rewind().unwrap();
            file.read_to_end(&mut bytes).unwrap();
            let swapped = (native as u32) & 0x4000_0000 == 0;
            bytes.as_chunks::<8>().0.iter().map(|bytes| instruction(*bytes, swapped)).collect()
        }
    }
}

/// For a machine of the other byte order libseccomp writes in that order.
fn instruction([a, b, yes, no, c, d, e, f]: [u8; 8], swapped: bool) -> Instruction {
    let (code, value) = (u16::from_ne_bytes([a, b]), u32::from_ne_bytes([c, d, e, f]));
    match swapped {
        // Of the verdicts it turns some and leaves others as they are.
        true if code.swap_bytes() == RETURN && is_verdict(value) => Instruction { code: RETURN, yes, no, value },
        true => Instruction { code: code.swap_bytes(), yes, no, value: value.swap_bytes() },
        false => Instruction { code, yes, no, value },
    }
}

fn is_verdict(value: u32) -> bool {
    let kind = value & 0xffff_0000;
    value == 0 || value == 0x8000_0000 || [0x3_0000, 0x5_0000, 0x7ff0_0000, 0x7ffc_0000, 0x7fff_0000].contains(&kind)
}

pub(super) fn action(action: LinuxSeccompAction, errno: Option<u32>) -> u32 {
    let data = errno.unwrap_or(1) & 0xffff;
    match action {
        LinuxSeccompAction::ScmpActErrno => 0x0005_0000 | data,
        LinuxSeccompAction::ScmpActTrace => 0x7ff0_0000 | data,
        other => other.into(),
    }
}

fn compare(argument: &LinuxSeccompArg) -> Compare {
    let two = argument.value_two().unwrap_or(0);
    let b = if argument.op() == LinuxSeccompOperator::ScmpCmpMaskedEq { two } else { 0 };
    Compare { argument: argument.index() as c_uint, operator: argument.op() as c_int, a: argument.value(), b }
}
