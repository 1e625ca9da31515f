//! The program: first the architecture, then a balanced tree over the number, then compares of arguments.
//!
//! It is written from its end to its beginning, for a jump of BPF only goes forwards: what it leads to is then there
//! already and its distance is known. Conditional jumps reach 255 instructions. What is further away is reached by an
//! unconditional one beside the jump, and a verdict is simply written once more.

use std::collections::HashMap;

use super::error::SeccompError;
use super::rules::{Behaviour, Compare, Condition, KILL, Verdict};

/// `struct sock_filter` of linux/filter.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) yes: u8,
    pub(super) no: u8,
    pub(super) value: u32,
}

/// BPF_LD | BPF_W | BPF_ABS: a word of `struct seccomp_data`.
pub(super) const LOAD: u16 = 0x20;
/// BPF_ALU | BPF_AND | BPF_K.
pub(super) const AND: u16 = 0x54;
/// BPF_JMP | BPF_JA.
pub(super) const JUMP: u16 = 0x05;
/// BPF_JMP | BPF_JEQ | BPF_K.
pub(super) const IF_EQUAL: u16 = 0x15;
/// BPF_JMP | BPF_JGT | BPF_K.
pub(super) const IF_GREATER: u16 = 0x25;
/// BPF_JMP | BPF_JGE | BPF_K.
pub(super) const IF_NOT_LESS: u16 = 0x35;
/// BPF_RET | BPF_K.
pub(super) const RETURN: u16 = 0x06;

/// Where `struct seccomp_data` (linux/seccomp.h) has the number, the architecture and the first argument.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// BPF_MAXINSNS.
const LIMIT: usize = 4096;

/// From this number on, until the next segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) first: u32,
    pub(super) behaviour: Behaviour,
}

/// All numbers that the kernel may give together with one `AUDIT_ARCH_…`; the first segment begins at 0.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) audit: u32,
    pub(super) segments: Vec<Segment>,
}

/// The program for these architectures, most likely one first.
pub(super) fn assemble(sections: &[Section], big_endian: bool) -> Result<Vec<Instruction>, SeccompError> {
    let mut writer = Writer { written: Vec::new(), verdicts: HashMap::new(), blocks: HashMap::new(), big_endian };
    let mut otherwise = writer.verdict(KILL);
    for section in sections.iter().rev() {
        let tree = writer.tree(&section.segments);
        let begin = writer.then(LOAD, NUMBER, tree);
        otherwise = writer.branch(IF_EQUAL, section.audit, begin, otherwise);
    }
    writer.then(LOAD, ARCHITECTURE, otherwise);
    if writer.written.len() > LIMIT {
        return Err(SeccompError::TooLong(writer.written.len()));
    }
    writer.written.reverse();
    Ok(writer.written)
}

/// An instruction that is written: its place, counted from the end of the program.
type Label = usize;

struct Writer<'a> {
    /// The last instruction first.
    written: Vec<Instruction>,
    /// The nearest instruction that returns it.
    verdicts: HashMap<Verdict, Label>,
    /// The nearest compares for it.
    blocks: HashMap<&'a Behaviour, Label>,
    big_endian: bool,
}

impl<'a> Writer<'a> {
    fn write(&mut self, code: u16, yes: u8, no: u8, value: u32) -> Label {
        self.written.push(Instruction { code, yes, no, value });
        self.written.len() - 1
    }

    /// How many instructions lie between the next one to be written and this one.
    fn distance(&self, label: Label) -> usize {
        self.written.len() - label - 1
    }

    fn verdict(&mut self, verdict: Verdict) -> Label {
        if let Some(label) = self.verdicts.get(&verdict)
            && self.distance(*label) < 200
        {
            return *label;
        }
        let label = self.write(RETURN, 0, 0, verdict);
        self.verdicts.insert(verdict, label);
        label
    }

    /// The label, or one that leads to it and is reached even after `more` further instructions.
    fn near(&mut self, label: Label, more: usize) -> Label {
        if self.distance(label) + more <= usize::from(u8::MAX) {
            return label;
        }
        match self.written[label] {
            Instruction { code: RETURN, value, .. } => self.verdict(value),
            _ => {
                let distance = self.distance(label);
                self.write(JUMP, 0, 0, distance as u32)
            }
        }
    }

    /// A jump on what the accumulator is.
    fn branch(&mut self, code: u16, value: u32, yes: Label, no: Label) -> Label {
        let yes = self.near(yes, 1);
        let no = self.near(no, 0);
        // Both are at most 255: `near` saw to it, and at most one instruction came between.
        let (yes, no) = (self.distance(yes) as u8, self.distance(no) as u8);
        self.write(code, yes, no, value)
    }

    /// An instruction that does not jump, and what follows it.
    fn then(&mut self, code: u16, value: u32, next: Label) -> Label {
        let distance = self.distance(next);
        if distance > 0 {
            self.write(JUMP, 0, 0, distance as u32);
        }
        self.write(code, 0, 0, value)
    }

    /// A search for the number, which is in the accumulator, in halves.
    fn tree(&mut self, segments: &'a [Segment]) -> Label {
        match segments {
            [] => self.verdict(KILL),
            [one] => self.behaviour(&one.behaviour),
            [before, one, after] if before.behaviour == after.behaviour && after.first == one.first + 1 => {
                let others = self.behaviour(&before.behaviour);
                let one_itself = self.behaviour(&one.behaviour);
                self.branch(IF_EQUAL, one.first, one_itself, others)
            }
            _ => {
                let (low, high) = segments.split_at(segments.len() / 2);
                let from = high[0].first;
                let high = self.tree(high);
                let low = self.tree(low);
                self.branch(IF_NOT_LESS, from, high, low)
            }
        }
    }

    fn behaviour(&mut self, behaviour: &'a Behaviour) -> Label {
        let (rules, otherwise) = match behaviour {
            Behaviour::Always(verdict) => return self.verdict(*verdict),
            Behaviour::When(rules, otherwise) => (rules, *otherwise),
        };
        // Several calls with the same rules share them.
        if let Some(label) = self.blocks.get(behaviour) {
            return *label;
        }
        let mut next = self.verdict(otherwise);
        for rule in rules.iter().rev() {
            let mut matched = self.verdict(rule.verdict);
            for condition in rule.conditions.iter().rev() {
                matched = self.condition(*condition, matched, next);
            }
            next = matched;
        }
        self.blocks.insert(behaviour, next);
        next
    }

    fn condition(&mut self, condition: Condition, yes: Label, no: Label) -> Label {
        match condition.compare {
            Compare::Equal { mask, value } => self.equal(condition, mask, value, yes, no),
            Compare::NotEqual(value) => self.equal(condition, u64::MAX, value, no, yes),
            Compare::Greater(value) => self.greater(condition, IF_GREATER, value, yes, no),
            Compare::GreaterOrEqual(value) => self.greater(condition, IF_NOT_LESS, value, yes, no),
            Compare::Less(value) => self.greater(condition, IF_NOT_LESS, value, no, yes),
            Compare::LessOrEqual(value) => self.greater(condition, IF_GREATER, value, no, yes),
        }
    }

    fn equal(&mut self, condition: Condition, mask: u64, value: u64, yes: Label, no: Label) -> Label {
        let words: &[bool] = if condition.wide { &[false, true] } else { &[false] };
        let mut next = yes;
        for &high in words {
            let (mask, value) = (word(mask, high), word(value, high));
            if mask == 0 {
                continue;
            }
            next = self.branch(IF_EQUAL, value, next, no);
            if mask != u32::MAX {
                next = self.then(AND, mask, next);
            }
            next = self.then(LOAD, self.place(condition.argument, high), next);
        }
        next
    }

    /// `code` compares the low words; of wide arguments the high ones decide before.
    fn greater(&mut self, condition: Condition, code: u16, value: u64, yes: Label, no: Label) -> Label {
        let low = self.branch(code, word(value, false), yes, no);
        let low = self.then(LOAD, self.place(condition.argument, false), low);
        if !condition.wide {
            return low;
        }
        // For the opposite compares `yes` and `no` are exchanged, so a greater word leads to `yes` in all of them.
        let equal = self.branch(IF_EQUAL, word(value, true), low, no);
        let high = self.branch(IF_GREATER, word(value, true), yes, equal);
        self.then(LOAD, self.place(condition.argument, true), high)
    }

    fn place(&self, argument: u8, high: bool) -> u32 {
        ARGUMENTS + 8 * u32::from(argument) + if high == self.big_endian { 0 } else { 4 }
    }
}

fn word(value: u64, high: bool) -> u32 {
    (if high { value >> 32 } else { value & 0xffff_ffff }) as u32
}
