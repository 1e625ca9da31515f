//! Which devices a container may use: the rules of `linux.resources.devices` and what the specification always allows.
//!
//! Everything is denied first, whatever the rules say of it, as with runc: a rule that is left out cannot open a device.
//! `program` compiles the rules for version 2.

pub(super) mod program;

use std::fmt;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use super::CgroupError;
use super::folder::Folder;

/// Uses of a device as bits: those of the kernel's `BPF_DEVCG_ACC_*`.
pub(super) const MKNOD: u32 = 1;
pub(super) const READ: u32 = 2;
pub(super) const WRITE: u32 = 4;
const ALL: u32 = MKNOD | READ | WRITE;

/// Block or character device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Block,
    Character,
}

/// Devices and uses of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scope {
    /// `None` for both.
    pub(super) kind: Option<Kind>,
    /// `None` for any.
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    pub(super) access: u32,
}

/// A rule: the last one that matches a use decides about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) allow: bool,
    pub(super) scope: Scope,
}

impl Scope {
    const EVERYTHING: Scope = Scope { kind: None, major: None, minor: None, access: ALL };

    const fn new(kind: Kind, major: Option<u32>, minor: Option<u32>, access: u32) -> Scope {
        Scope { kind: Some(kind), major, minor, access }
    }

    /// Whether all devices of `other` are among these, whatever the uses.
    fn covers(&self, other: &Scope) -> bool {
        let covers = |own: Option<u32>, other: Option<u32>| own.is_none() || own == other;
        (self.kind.is_none() || self.kind == other.kind)
            && covers(self.major, other.major)
            && covers(self.minor, other.minor)
    }

    /// Whether some device and use is in both.
    fn overlaps(&self, other: &Scope) -> bool {
        let meets = |own: Option<u32>, other: Option<u32>| own.is_none() || other.is_none() || own == other;
        (self.kind.is_none() || other.kind.is_none() || self.kind == other.kind)
            && meets(self.major, other.major)
            && meets(self.minor, other.minor)
            && self.access & other.access != 0
    }

    fn has_devices_of(&self, other: &Scope) -> bool {
        (self.kind, self.major, self.minor) == (other.kind, other.major, other.minor)
    }
}

/// As the files of version 1 have it: `c 1:3 rwm`.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            None => 'a',
            Some(Kind::Block) => 'b',
            Some(Kind::Character) => 'c',
        };
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
        write!(f, "{kind} {}:{} ", number(self.major), number(self.minor))?;
        let letters = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
        letters.iter().filter(|(bit, _)| self.access & bit != 0).try_for_each(|(_, letter)| write!(f, "{letter}"))
    }
}

/// What every container may do: make any node, and use the devices that the specification supplies (config-linux.md,
/// "Default Devices"; 5:2 and 136 are the terminals).
const DEFAULTS: [Scope; 10] = [
    Scope::new(Kind::Character, None, None, MKNOD),
    Scope::new(Kind::Block, None, None, MKNOD),
    Scope::new(Kind::Character, Some(1), Some(3), ALL),
    Scope::new(Kind::Character, Some(1), Some(8), ALL),
    Scope::new(Kind::Character, Some(1), Some(7), ALL),
    Scope::new(Kind::Character, Some(5), Some(0), ALL),
    Scope::new(Kind::Character, Some(1), Some(5), ALL),
    Scope::new(Kind::Character, Some(1), Some(9), ALL),
    Scope::new(Kind::Character, Some(136), None, ALL),
    Scope::new(Kind::Character, Some(5), Some(2), ALL),
];

/// All rules of a container, in order: everything denied, its own, the defaults.
pub(super) fn rules(given: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>, CgroupError> {
    let mut rules = vec![Rule { allow: false, scope: Scope::EVERYTHING }];
    for rule in given {
        rules.push(parse(rule)?);
    }
    rules.extend(DEFAULTS.map(|scope| Rule { allow: true, scope }));
    Ok(rules)
}

fn parse(rule: &LinuxDeviceCgroup) -> Result<Rule, CgroupError> {
    let invalid = |reason| CgroupError::DeviceRule { rule: written(rule), reason };
    let kind = match rule.typ() {
        None | Some(LinuxDeviceType::A) => None,
        Some(LinuxDeviceType::B) => Some(Kind::Block),
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(Kind::Character),
        Some(LinuxDeviceType::P) => return Err(invalid("its type is none of a, b and c")),
    };
    let number = |number: Option<i64>| match number {
        None | Some(-1) => Ok(None),
        Some(number) => u32::try_from(number).map(Some).map_err(|_| invalid("its number is no device number")),
    };
    let letters = rule.access().as_deref().unwrap_or_default();
    if letters.is_empty() {
        return Err(invalid("device access field cannot be empty: give some of r, w and m"));
    }
    let mut access = 0;
    for letter in letters.chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            _ => return Err(invalid("its access has other letters than r, w and m")),
        };
    }
    let scope = Scope { kind, major: number(rule.major())?, minor: number(rule.minor())?, access };
    Ok(Rule { allow: rule.allow(), scope })
}

/// A rule as it was given, for messages.
fn written(rule: &LinuxDeviceCgroup) -> String {
    let kind = rule.typ().map_or("a".to_owned(), |kind| kind.as_str().to_owned());
    let number = |number: Option<i64>| number.map_or("*".to_owned(), |number| number.to_string());
    let access = rule.access().as_deref().unwrap_or_default();
    let verb = if rule.allow() { "allow" } else { "deny" };
    format!("`{verb} {kind} {}:{} {access}`", number(rule.major()), number(rule.minor()))
}

/// What version 1 can hold: one answer for everything, and exceptions from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exceptions {
    pub(super) allow_others: bool,
    pub(super) exceptions: Vec<Scope>,
}

impl Exceptions {
    /// Brings rules into that form. An exception from an exception is refused: the kernel would ignore it without a word.
    pub(super) fn of(rules: &[Rule]) -> Result<Exceptions, CgroupError> {
        let mut all = Exceptions { allow_others: false, exceptions: Vec::new() };
        for rule in rules {
            if rule.scope == Scope::EVERYTHING {
                all = Exceptions { allow_others: rule.allow, exceptions: Vec::new() };
                continue;
            }
            let kinds = match rule.scope.kind {
                Some(kind) => vec![kind],
                // To the kernel "a" is everything at once, whatever numbers follow.
                None => vec![Kind::Block, Kind::Character],
            };
            for kind in kinds {
                all.add(Rule { allow: rule.allow, scope: Scope { kind: Some(kind), ..rule.scope } })?;
            }
        }
        Ok(all)
    }

    fn add(&mut self, rule: Rule) -> Result<(), CgroupError> {
        if rule.allow != self.allow_others {
            match self.exceptions.iter_mut().find(|scope| scope.has_devices_of(&rule.scope)) {
                Some(scope) => scope.access |= rule.scope.access,
                None => self.exceptions.push(rule.scope),
            }
            return Ok(());
        }
        for scope in &mut self.exceptions {
            if rule.scope.covers(scope) {
                scope.access &= !rule.scope.access;
            } else if rule.scope.overlaps(scope) {
                let verb = if rule.allow { "allow" } else { "deny" };
                let rule = format!("`{verb} {}`", rule.scope);
                return Err(CgroupError::DeviceException { rule, other: format!("`{scope}`") });
            }
        }
        self.exceptions.retain(|scope| scope.access != 0);
        Ok(())
    }

    /// Reads `devices.list`. With everything allowed, the kernel does not tell the exceptions.
    fn parse(list: &str) -> Exceptions {
        let mut found = Exceptions { allow_others: false, exceptions: Vec::new() };
        for line in list.lines() {
            let mut fields = line.split([' ', ':']);
            let (kind, major, minor) = (fields.next(), fields.next(), fields.next());
            let letters = fields.next().unwrap_or_default();
            let number = |field: Option<&str>| field.and_then(|field| field.parse().ok());
            let bit = |(letter, bit): (char, u32)| if letters.contains(letter) { bit } else { 0 };
            let access = [('r', READ), ('w', WRITE), ('m', MKNOD)].into_iter().map(bit).sum();
            let kind = match kind {
                Some("b") => Kind::Block,
                Some("c") => Kind::Character,
                _ => {
                    found.allow_others = true;
                    continue;
                }
            };
            found.exceptions.push(Scope { kind: Some(kind), major: number(major), minor: number(minor), access });
        }
        found
    }

    /// What is written to a new cgroup, and to which of the two files.
    pub(super) fn lines(&self) -> Vec<(&'static str, String)> {
        let (everything, exception) =
            if self.allow_others { ("devices.allow", "devices.deny") } else { ("devices.deny", "devices.allow") };
        let mut lines = vec![(everything, "a".to_owned())];
        lines.extend(self.exceptions.iter().map(|scope| (exception, scope.to_string())));
        lines
    }

    /// What is written to a cgroup that has other exceptions, without denying for a moment what stays allowed.
    fn changes(&self, current: &Exceptions) -> Vec<(&'static str, String)> {
        if self.allow_others || current.allow_others {
            return self.lines();
        }
        let mut lines = Vec::new();
        for scope in &self.exceptions {
            if !current.exceptions.contains(scope) {
                lines.push(("devices.allow", scope.to_string()));
            }
        }
        for scope in &current.exceptions {
            let kept = self.exceptions.iter().find(|kept| kept.has_devices_of(scope)).map_or(0, |kept| kept.access);
            let gone = Scope { access: scope.access & !kept, ..*scope };
            if gone.access != 0 {
                lines.push(("devices.deny", gone.to_string()));
            }
        }
        lines
    }
}

/// Sets the rules of a cgroup of version 1. `is_new`: nothing is in it yet.
pub(super) fn set_v1(folder: &Folder, rules: &[Rule], is_new: bool) -> Result<(), CgroupError> {
    let wanted = Exceptions::of(rules)?;
    let lines = if is_new { wanted.lines() } else { wanted.changes(&Exceptions::parse(&folder.read("devices.list")?)) };
    folder.write_lines(&lines)
}

/// Whether the rules allow every use of every device.
pub(super) fn allow_everything(rules: &[Rule]) -> bool {
    Exceptions::of(rules).is_ok_and(|all| all.allow_others && all.exceptions.is_empty())
}
