//! From the words of a profile to what shall happen at each system call of one architecture.
//!
//! Where a call has several rules, this does what runc does on top of libseccomp:
//! - a rule whose action is the default one says nothing new and is passed over, as are names that are unknown;
//! - a rule without arguments stands for the whole call: it replaces those with arguments that came before it, and what
//!   comes after it changes nothing;
//! - rules with arguments are alternatives, the first that matches decides (libseccomp sorts them by their arguments,
//!   which is the same as long as no two of them match at once and differ);
//! - the conditions of a rule must all hold, unless two of them look at one argument: then each is a rule of its own.

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall};

use super::architecture::Architecture;
use super::error::SeccompError;

/// What the kernel is told to do: SECCOMP_RET_… with its data.
pub(super) type Verdict = u32;

/// SECCOMP_RET_KILL_THREAD: also for calls of an architecture that the profile does not name.
pub(super) const KILL: Verdict = 0;
/// SECCOMP_RET_ERRNO of `ENOSYS`.
pub(super) const UNKNOWN_CALL: Verdict = ERRNO | libc::ENOSYS as u32;

const ERRNO: Verdict = 0x0005_0000;
const TRACE: Verdict = 0x7ff0_0000;

/// A compare with one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Condition {
    /// 0 to 5.
    pub(super) argument: u8,
    /// All 64 bits are compared, else the low 32.
    pub(super) wide: bool,
    pub(super) compare: Compare,
}

/// How, and with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Compare {
    /// The argument's bits under `mask` are `value`.
    Equal {
        mask: u64,
        value: u64,
    },
    NotEqual(u64),
    Greater(u64),
    GreaterOrEqual(u64),
    Less(u64),
    LessOrEqual(u64),
}

/// All conditions hold, then the verdict.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Rule {
    pub(super) conditions: Vec<Condition>,
    pub(super) verdict: Verdict,
}

/// What happens at a system call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Behaviour {
    Always(Verdict),
    /// The first rule that matches, else the verdict.
    When(Vec<Rule>, Verdict),
}

/// A profile's rules in their order, one name each, checked.
pub(super) struct Rules<'a> {
    pub(super) default: Verdict,
    /// The calls of the profile that this one knows are all that it knows: later ones are answered with `ENOSYS`.
    pub(super) guards_unknown: bool,
    pub(super) notifies: bool,
    names: Vec<&'a str>,
    rules: Vec<(&'a str, Rule)>,
}

impl<'a> Rules<'a> {
    pub(super) fn read(profile: &'a LinuxSeccomp) -> Result<Self, SeccompError> {
        let action = profile.default_action();
        if action == LinuxSeccompAction::ScmpActNotify {
            return Err(SeccompError::DefaultNotify);
        }
        let default = verdict(action, profile.default_errno_ret())?;
        let guards_unknown = !permits(action) && default != UNKNOWN_CALL;
        let mut read = Self { default, guards_unknown, notifies: false, names: Vec::new(), rules: Vec::new() };
        for call in profile.syscalls().iter().flatten() {
            read.add(call)?;
        }
        Ok(read)
    }

    fn add(&mut self, call: &'a LinuxSyscall) -> Result<(), SeccompError> {
        let verdict = verdict(call.action(), call.errno_ret())?;
        for name in call.names() {
            let alternatives = alternatives(name, call.args().as_deref().unwrap_or_default())?;
            if call.action() == LinuxSeccompAction::ScmpActNotify {
                // By `sendmsg` whoever answers gets the descriptor; runc, which refuses `write`, uses that one.
                if name == "write" || name == "sendmsg" {
                    return Err(SeccompError::Notify(name.clone()));
                }
                self.notifies = true;
            }
            self.names.push(name);
            if verdict != self.default {
                let rules = alternatives.into_iter().map(|conditions| (name.as_str(), Rule { conditions, verdict }));
                self.rules.extend(rules);
            }
        }
        Ok(())
    }

    /// What happens at each call of an architecture that any rule speaks of, by number.
    pub(super) fn on(&self, architecture: &Architecture) -> BTreeMap<u32, Behaviour> {
        let mut calls = BTreeMap::new();
        for (name, rule) in &self.rules {
            if let Some((number, call)) = architecture.multiplexed(name) {
                self.put(&mut calls, number, through(rule, call, architecture.wide));
            }
            if let Some(number) = architecture.number(name) {
                let conditions = rule.conditions.iter().map(|one| one.of_width(architecture.wide)).collect();
                self.put(&mut calls, number, Rule { conditions, verdict: rule.verdict });
            }
        }
        calls
    }

    fn put(&self, calls: &mut BTreeMap<u32, Behaviour>, number: u32, rule: Rule) {
        let behaviour = calls.entry(number).or_insert_with(|| Behaviour::When(Vec::new(), self.default));
        match behaviour {
            Behaviour::Always(_) => {}
            Behaviour::When(..) if rule.conditions.is_empty() => *behaviour = Behaviour::Always(rule.verdict),
            Behaviour::When(rules, _) if rules.contains(&rule) => {}
            Behaviour::When(rules, _) => rules.push(rule),
        }
    }

    /// The largest number of all names of the profile, with those of rules that say nothing new: its author knew them.
    pub(super) fn last(&self, architecture: &Architecture) -> Option<u32> {
        let through = self.names.iter().filter_map(|name| Some(architecture.multiplexed(name)?.0));
        self.names.iter().filter_map(|name| architecture.number(name)).chain(through).max()
    }
}

/// A rule for a call that goes through another one. What the first argument tells there is which call it is; the call's
/// own arguments are somewhere in memory, where no filter can look.
fn through(rule: &Rule, call: u64, wide: bool) -> Rule {
    let which = Condition { argument: 0, wide, compare: Compare::Equal { mask: u64::MAX, value: call } };
    let others = rule.conditions.iter().filter(|one| one.argument != 0).copied();
    let conditions = std::iter::once(which).chain(others.map(|one| one.of_width(wide))).collect();
    Rule { conditions, verdict: rule.verdict }
}

impl Condition {
    fn read(name: &str, argument: &LinuxSeccompArg) -> Result<Self, SeccompError> {
        let index = argument.index();
        let wrong = || SeccompError::Argument { syscall: name.to_owned(), index };
        let number = u8::try_from(index).ok().filter(|number| *number < 6).ok_or_else(wrong)?;
        let value = argument.value();
        let compare = match argument.op() {
            LinuxSeccompOperator::ScmpCmpEq => Compare::Equal { mask: u64::MAX, value },
            // Here `value` is the mask. Docker's profile counts on a second value of 0 where none is given.
            LinuxSeccompOperator::ScmpCmpMaskedEq => {
                Compare::Equal { mask: value, value: argument.value_two().unwrap_or(0) & value }
            }
            LinuxSeccompOperator::ScmpCmpNe => Compare::NotEqual(value),
            LinuxSeccompOperator::ScmpCmpGt => Compare::Greater(value),
            LinuxSeccompOperator::ScmpCmpGe => Compare::GreaterOrEqual(value),
            LinuxSeccompOperator::ScmpCmpLt => Compare::Less(value),
            LinuxSeccompOperator::ScmpCmpLe => Compare::LessOrEqual(value),
        };
        Ok(Self { argument: number, wide: true, compare })
    }

    /// For an architecture with arguments of 32 bits only the low words count.
    fn of_width(self, wide: bool) -> Self {
        Self { wide, ..self }
    }
}

/// The conditions of one rule of the profile: one list of all, or several of one each.
fn alternatives(name: &str, arguments: &[LinuxSeccompArg]) -> Result<Vec<Vec<Condition>>, SeccompError> {
    if name.is_empty() {
        return Err(SeccompError::EmptyName);
    }
    let conditions: Vec<_> = arguments.iter().map(|one| Condition::read(name, one)).collect::<Result<_, _>>()?;
    let same = |one: &Condition| conditions.iter().filter(|other| other.argument == one.argument).count() > 1;
    Ok(match conditions.iter().any(same) {
        true => conditions.into_iter().map(|one| vec![one]).collect(),
        false => vec![conditions],
    })
}

/// Whoever permits or traces by default wants new system calls to work.
fn permits(action: LinuxSeccompAction) -> bool {
    use LinuxSeccompAction::{ScmpActAllow, ScmpActLog, ScmpActTrace};
    matches!(action, ScmpActAllow | ScmpActLog | ScmpActTrace)
}

fn verdict(action: LinuxSeccompAction, errno: Option<u32>) -> Result<Verdict, SeccompError> {
    let data = errno.unwrap_or(libc::EPERM as u32) & 0xffff;
    let plain = match action {
        LinuxSeccompAction::ScmpActErrno => return Ok(ERRNO | data),
        LinuxSeccompAction::ScmpActTrace => return Ok(TRACE | data),
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => KILL,
        LinuxSeccompAction::ScmpActKillProcess => 0x8000_0000,
        LinuxSeccompAction::ScmpActTrap => 0x0003_0000,
        LinuxSeccompAction::ScmpActNotify => 0x7fc0_0000,
        LinuxSeccompAction::ScmpActLog => 0x7ffc_0000,
        LinuxSeccompAction::ScmpActAllow => 0x7fff_0000,
    };
    // "When the action doesn't support an errno, the runtime MUST print an error and fail." (config-linux.md)
    if errno.is_some() { Err(SeccompError::Errno(action)) } else { Ok(plain) }
}
