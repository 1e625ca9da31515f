//! What a profile decides: its rules, checked, and from them the decision for every number of every architecture.

use std::collections::BTreeMap;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator as Operator, LinuxSyscall,
};

use super::SeccompError;
use super::architecture::{Architecture, Names, X32_BIT, multiplexed};
use super::tree::{Compare, Graph, Id};

/// SECCOMP_RET_KILL_THREAD, what a call of an architecture that the profile does not name gets.
const KILL: u32 = 0;
/// SECCOMP_RET_ERRNO with ENOSYS.
pub(super) const NO_SUCH_CALL: u32 = 0x5_0000 | libc::ENOSYS as u32;
/// Where `struct seccomp_data` has the number, the architecture and the arguments.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// A profile, checked.
pub(super) struct Rules {
    default: u32,
    /// Whether calls that are newer than the profile are shown as such.
    newer_fail: bool,
    architectures: Vec<Architecture>,
    rules: Vec<Rule>,
    /// All names that stand in the profile, with or without effect.
    named: Vec<String>,
    notifies: bool,
}

/// One look at an argument.
#[derive(Clone, Copy)]
struct Condition {
    index: usize,
    operator: Operator,
    /// The bits that are looked at: all of them, but for MASKED_EQ.
    mask: u64,
    value: u64,
}

/// One system call, and what happens to it if all conditions hold.
#[derive(Clone)]
struct Rule {
    name: String,
    action: u32,
    conditions: Vec<Condition>,
}

/// All rules of one number.
#[derive(Default)]
struct Call {
    always: Option<u32>,
    sometimes: Vec<(Vec<Condition>, u32)>,
}

impl Rules {
    pub fn of(profile: &LinuxSeccomp) -> Result<Self, SeccompError> {
        let default = action(profile.default_action(), profile.default_errno_ret())?;
        let syscalls = profile.syscalls().as_deref().unwrap_or_default();
        let notifies = syscalls.iter().any(|rule| rule.action() == LinuxSeccompAction::ScmpActNotify);
        if profile.default_action() == LinuxSeccompAction::ScmpActNotify {
            return Err(SeccompError::Notify("as default action"));
        }
        let mut rules = Vec::new();
        for syscall in syscalls {
            add(&mut rules, syscall, default)?;
        }
        let mut architectures = vec![Architecture::native()];
        for arch in profile.architectures().iter().flatten() {
            let architecture = Architecture::find(*arch).ok_or(SeccompError::Architecture(*arch))?;
            if !architectures.contains(&architecture) {
                architectures.push(architecture);
            }
        }
        Ok(Self {
            default,
            // A tracer answers for new calls itself, and to allow or to log is no refusal.
            newer_fail: !matches!(
                profile.default_action(),
                LinuxSeccompAction::ScmpActAllow | LinuxSeccompAction::ScmpActLog | LinuxSeccompAction::ScmpActTrace
            ),
            architectures,
            rules,
            named: syscalls.iter().flat_map(LinuxSyscall::names).cloned().collect(),
            notifies,
        })
    }

    pub fn notifies(&self) -> bool {
        self.notifies
    }

    /// The whole decision: by architecture, then by number, then by arguments.
    pub fn decide(&self, graph: &mut Graph) -> Result<Id, SeccompError> {
        let names = Names::new();
        let mut decision = graph.end(KILL);
        // The machine's own is asked for first, so it is put in front last.
        for architecture in self.architectures.iter().rev() {
            let x32 = self.architectures.iter().find(|one| one.arch == Arch::ScmpArchX32);
            let ranges = match (architecture.arch, x32) {
                // Both have one name in the kernel: decided together, where x86_64 is.
                (Arch::ScmpArchX32, _) if self.has_x86_64() => continue,
                (Arch::ScmpArchX32, _) => self.x86_64(graph, &names, None, Some(*architecture)),
                (Arch::ScmpArchX86_64, x32) => self.x86_64(graph, &names, Some(*architecture), x32.copied()),
                _ => self.numbers(graph, &names, *architecture, 0),
            };
            let (_, first) = ranges[0];
            let tree = graph.search(first, &ranges[1..]);
            let tree = graph.load(NUMBER, tree);
            decision = graph.branch(Compare::Equal, architecture.audit(), tree, decision);
        }
        Ok(graph.load(ARCHITECTURE, decision))
    }

    fn has_x86_64(&self) -> bool {
        self.architectures.iter().any(|one| one.arch == Arch::ScmpArchX86_64)
    }

    /// Numbers of x86_64 and of x32, which begin at [`X32_BIT`].
    fn x86_64(
        &self,
        graph: &mut Graph,
        names: &Names,
        x86_64: Option<Architecture>,
        x32: Option<Architecture>,
    ) -> Vec<(u32, Id)> {
        let killed = graph.end(KILL);
        let mut ranges = match x86_64 {
            Some(architecture) => self.numbers(graph, names, architecture, 0),
            None => vec![(0, killed)],
        };
        match x32 {
            Some(architecture) => ranges.extend(self.numbers(graph, names, architecture, X32_BIT)),
            // -1 is what a tracer sets to skip a call: no call, so it is not killed.
            None => ranges.extend([(X32_BIT, killed), (u32::MAX, graph.end(self.default))]),
        }
        ranges.dedup_by_key(|(_, decision)| *decision);
        ranges
    }

    /// Ranges of numbers from `start` on, neighbours with one decision joined.
    fn numbers(&self, graph: &mut Graph, names: &Names, architecture: Architecture, start: u32) -> Vec<(u32, Id)> {
        let default = graph.end(self.default);
        let mut ranges = vec![(start, default)];
        for (number, call) in self.calls(names, architecture) {
            let decision = decision(graph, &call, self.default, architecture);
            // A number that is decided alone ends where the next begins.
            if ranges.last().is_some_and(|(last, _)| *last == number) {
                ranges.pop();
            }
            ranges.push((number, decision));
            ranges.push((number.saturating_add(1), default));
        }
        let largest = self.named.iter().filter_map(|name| names.number(name, architecture)).max();
        if let Some(largest) = largest.filter(|_| self.newer_fail) {
            let newer = graph.end(NO_SUCH_CALL);
            ranges.retain(|(number, _)| *number <= largest);
            ranges.push((largest + 1, newer));
            if architecture.shows_unknown_as_zero() {
                ranges.retain(|(number, _)| *number > 0);
                let second = ranges.first().is_none_or(|(number, _)| *number > 1).then_some((1, default));
                ranges.splice(0..0, [(0, newer)].into_iter().chain(second));
            }
        }
        ranges.dedup_by_key(|(_, decision)| *decision);
        ranges
    }

    /// The rules, by number.
    fn calls(&self, names: &Names, architecture: Architecture) -> BTreeMap<u32, Call> {
        let mut calls: BTreeMap<u32, Call> = BTreeMap::new();
        let mut add = |name: &str, conditions: Vec<Condition>, action: u32| {
            let Some(number) = names.number(name, architecture) else { return };
            let call = calls.entry(number).or_default();
            if conditions.is_empty() {
                call.always.get_or_insert(action);
            } else {
                call.sometimes.push((conditions, action));
            }
        };
        for Rule { name, action, conditions } in &self.rules {
            if let Some((whole, operation)) = multiplexed(name).filter(|_| architecture.multiplexed) {
                let mut others: Vec<_> = conditions.iter().filter(|one| one.index != 0).copied().collect();
                others.insert(0, Condition::equal(0, operation.into()));
                add(whole, others, *action);
            }
            add(name, conditions.clone(), *action);
        }
        calls
    }
}

impl Condition {
    fn equal(index: usize, value: u64) -> Self {
        Self { index, operator: Operator::ScmpCmpEq, mask: u64::MAX, value }
    }

    fn of(argument: &LinuxSeccompArg) -> Self {
        let (index, operator) = (argument.index(), argument.op());
        match operator {
            // Bits outside of the mask count for nothing, as with libseccomp.
            Operator::ScmpCmpMaskedEq => {
                let mask = argument.value();
                Self { index, operator, mask, value: argument.value_two().unwrap_or(0) & mask }
            }
            _ => Self { index, operator, mask: u64::MAX, value: argument.value() },
        }
    }
}

/// SECCOMP_RET_… of an action.
fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32, SeccompError> {
    let returns_errno = matches!(action, LinuxSeccompAction::ScmpActErrno | LinuxSeccompAction::ScmpActTrace);
    match errno {
        Some(errno) if returns_errno && errno > 0xFFFF => Err(SeccompError::ErrnoRange(errno)),
        Some(_) if !returns_errno => Err(SeccompError::ErrnoUnused(action)),
        _ => Ok(action.as_u32(errno)),
    }
}

/// Adds the rules that one entry of a profile stands for.
fn add(rules: &mut Vec<Rule>, syscall: &LinuxSyscall, default: u32) -> Result<(), SeccompError> {
    let action = action(syscall.action(), syscall.errno_ret())?;
    let arguments = syscall.args().as_deref().unwrap_or_default();
    for name in syscall.names() {
        if name.is_empty() {
            return Err(SeccompError::EmptyName);
        }
        if name == "write" && syscall.action() == LinuxSeccompAction::ScmpActNotify {
            return Err(SeccompError::Notify("for the write syscall"));
        }
        if let Some(argument) = arguments.iter().find(|argument| argument.index() > 5) {
            return Err(SeccompError::ArgumentIndex { name: name.clone(), index: argument.index() });
        }
        if action == default {
            continue;
        }
        let rule = |arguments: &[LinuxSeccompArg]| Rule {
            name: name.clone(),
            action,
            // Without a bit to look at a condition always holds.
            conditions: arguments.iter().map(Condition::of).filter(|condition| condition.mask != 0).collect(),
        };
        let mut seen = [false; 6];
        if arguments.iter().any(|argument| std::mem::replace(&mut seen[argument.index()], true)) {
            rules.extend(arguments.chunks(1).map(rule));
        } else {
            rules.push(rule(arguments));
        }
    }
    Ok(())
}

/// What happens to one call.
fn decision(graph: &mut Graph, call: &Call, default: u32, architecture: Architecture) -> Id {
    if let Some(action) = call.always {
        return graph.end(action);
    }
    let mut next = graph.end(default);
    for (conditions, action) in call.sometimes.iter().rev() {
        let no = next;
        let mut yes = graph.end(*action);
        for condition in conditions.iter().rev() {
            yes = compare(graph, condition, yes, no, architecture);
        }
        next = yes;
    }
    next
}

/// Looks at one argument, in halves of 32 bits.
fn compare(graph: &mut Graph, condition: &Condition, yes: Id, no: Id, architecture: Architecture) -> Id {
    let Condition { index, operator, mask, value } = *condition;
    // Those that are the opposite of another.
    let (yes, no) = match operator {
        Operator::ScmpCmpNe | Operator::ScmpCmpLt | Operator::ScmpCmpLe => (no, yes),
        _ => (yes, no),
    };
    let (low, high) = if architecture.is_little_endian() { (0, 4) } else { (4, 0) };
    let place = ARGUMENTS + 8 * index as u32;
    // Truncated on purpose: a half each.
    let (low_value, high_value, low_mask, high_mask) =
        (value as u32, (value >> 32) as u32, mask as u32, (mask >> 32) as u32);
    let inner = match operator {
        Operator::ScmpCmpGt | Operator::ScmpCmpLe => graph.branch(Compare::Greater, low_value, yes, no),
        Operator::ScmpCmpGe | Operator::ScmpCmpLt => graph.branch(Compare::GreaterOrEqual, low_value, yes, no),
        _ => equals(graph, low_mask, low_value, yes, no),
    };
    let lower = graph.load(place + low, inner);
    if !architecture.is_64_bit() {
        return lower;
    }
    let outer = match operator {
        Operator::ScmpCmpEq | Operator::ScmpCmpNe | Operator::ScmpCmpMaskedEq => {
            equals(graph, high_mask, high_value, lower, no)
        }
        _ => {
            let same = graph.branch(Compare::Equal, high_value, lower, no);
            graph.branch(Compare::Greater, high_value, yes, same)
        }
    };
    // Without bits to look at in this half the other half is all.
    if outer == lower { lower } else { graph.load(place + high, outer) }
}

/// Whether the register has a value in the bits of a mask.
fn equals(graph: &mut Graph, mask: u32, value: u32, yes: Id, no: Id) -> Id {
    match (mask, value) {
        (0, _) => yes,
        (bits, 0) if bits != u32::MAX => graph.branch(Compare::AnyBit, bits, no, yes),
        (bits, value) => {
            let branch = graph.branch(Compare::Equal, value, yes, no);
            graph.mask(bits, branch)
        }
    }
}
