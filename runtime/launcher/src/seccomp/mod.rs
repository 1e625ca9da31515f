//! The seccomp compiler: `linux.seccomp` of a bundle (runtime-spec, config-linux.md, "Seccomp") becomes a program of
//! classic BPF that the kernel runs at every system call.
//!
//! It decides what runc decides on top of libseccomp (`rules`), with a program of another form (`program`): per
//! architecture one balanced tree over the numbers, in which neighbours with the same answer are one. Compiled programs
//! are kept by the hash of their profile (`cache`), for most containers have the same one.
//!
//! Which architecture a call belongs to is looked at first; one that the profile does not name is killed, as with
//! libseccomp. The machine's own is always in. x32 has x86_64's name and is told by bit 30 of the number. Others are
//! only in if the profile names them: whoever writes it (docker, podman, our engine) lists those that belong together.
//!
//! **Calls newer than the profile.** A profile that forbids by default was written when some last system call existed.
//! Libraries try newer calls first and go back to older ones on `ENOSYS`; on `EPERM` they give up. So, like runc, calls
//! with a number above the largest that the profile names (in any rule) are answered with `ENOSYS` instead of the
//! default action, unless that is ALLOW, LOG or TRACE. On s390 number 0, which unknown calls end as, is as well.

mod architecture;
mod cache;
mod default;
mod error;
mod filter;
mod numbers;
mod program;
mod rules;
#[cfg(test)]
mod tests;

use oci_spec::runtime::{Arch, LinuxSeccomp};

use architecture::{Architecture, X32};
use program::{Section, Segment};
use rules::{Behaviour, KILL, Rules, UNKNOWN_CALL};

pub use cache::cached;
pub use default::default_profile;
pub use error::SeccompError;
pub use filter::{Features, Filter, features};

/// A profile as a filter for this machine.
///
/// # Errors
/// What cannot be meant: see [`SeccompError`]. Names of system calls that no architecture knows are passed over.
pub fn compile(profile: &LinuxSeccomp) -> Result<Filter, SeccompError> {
    compile_for(profile, architecture::native().ok_or(SeccompError::Native)?)
}

fn compile_for(profile: &LinuxSeccomp, native: Arch) -> Result<Filter, SeccompError> {
    let rules = Rules::read(profile)?;
    let native = Architecture::of(native).ok_or(SeccompError::Native)?;
    let mut architectures = vec![native];
    for name in profile.architectures().iter().flatten().filter(|name| **name != Arch::ScmpArchNative) {
        let architecture = Architecture::of(*name).ok_or(SeccompError::Architecture(*name))?;
        if architecture.is_big_endian() != native.is_big_endian() {
            return Err(SeccompError::ByteOrder(*name));
        }
        if !architectures.contains(&architecture) {
            architectures.push(architecture);
        }
    }
    let mut sections: Vec<Section> = Vec::new();
    for architecture in &architectures {
        if !sections.iter().any(|section| section.audit == architecture.audit) {
            let segments = segments(&rules, architecture.audit, &architectures);
            sections.push(Section { audit: architecture.audit, segments });
        }
    }
    let program = program::assemble(&sections, native.is_big_endian())?;
    Ok(Filter::new(program, profile.flags().as_deref().unwrap_or_default(), rules.notifies))
}

/// What happens at all numbers of what the kernel calls one architecture.
fn segments(rules: &Rules<'_>, audit: u32, architectures: &[Architecture]) -> Vec<Segment> {
    let named = |name| architectures.iter().find(|one| one.name == name);
    let mut line = Line(Vec::new());
    if audit != Arch::ScmpArchX86_64 as u32 {
        for architecture in architectures.iter().filter(|one| one.audit == audit) {
            line.lay(rules, architecture, 0);
        }
        return line.0;
    }
    match named(Arch::ScmpArchX86_64) {
        Some(architecture) => line.lay(rules, architecture, 0),
        None => line.put(0, Behaviour::Always(KILL)),
    }
    match named(Arch::ScmpArchX32) {
        Some(architecture) => line.lay(rules, architecture, X32),
        None => {
            line.put(X32, Behaviour::Always(KILL));
            // A tracer that skips a call gives it the number -1: no reason to kill.
            line.put(u32::MAX, Behaviour::Always(rules.default));
        }
    }
    line.0
}

/// Segments in the order of their numbers, no two neighbours with the same behaviour.
struct Line(Vec<Segment>);

impl Line {
    fn lay(&mut self, rules: &Rules<'_>, architecture: &Architecture, first: u32) {
        let default = || Behaviour::Always(rules.default);
        self.put(first, default());
        if rules.guards_unknown && architecture.zero_means_unknown() {
            self.put(first, Behaviour::Always(UNKNOWN_CALL));
            self.put(first + 1, default());
        }
        for (number, behaviour) in rules.on(architecture) {
            self.put(number, behaviour);
            self.put(number + 1, default());
        }
        if rules.guards_unknown
            && let Some(last) = rules.last(architecture)
        {
            self.put(last + 1, Behaviour::Always(UNKNOWN_CALL));
        }
    }

    /// From `first` on. What was said of `first` before no longer counts.
    fn put(&mut self, first: u32, behaviour: Behaviour) {
        if self.0.last().is_some_and(|last| last.first == first) {
            self.0.pop();
        }
        if self.0.last().is_none_or(|last| last.behaviour != behaviour) {
            self.0.push(Segment { first, behaviour });
        }
    }
}
