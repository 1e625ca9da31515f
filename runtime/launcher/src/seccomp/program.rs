//! Writes a graph of decisions down as the kernel's instructions (linux/filter.h).

use super::SeccompError;
use super::tree::{Compare, Graph, Id, Step};

/// `struct sock_filter`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    pub code: u16,
    /// How many instructions are passed over if the comparison holds.
    pub yes: u8,
    /// The same if it does not.
    pub no: u8,
    pub value: u32,
}

pub(super) const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
pub(super) const MASK: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
pub(super) const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
pub(super) const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
pub(super) const GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
pub(super) const GREATER_OR_EQUAL: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
pub(super) const ANY_BIT: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
pub(super) const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// BPF_MAXINSNS.
pub(super) const MOST: usize = 4096;

/// The program that begins with a step.
pub(super) fn assemble(graph: &Graph, root: Id) -> Result<Vec<Instruction>, SeccompError> {
    let steps = graph.steps();
    let mut needed = vec![false; steps.len()];
    needed[root] = true;
    for id in (0..=root).rev() {
        if needed[id] {
            successors(steps[id]).into_iter().flatten().for_each(|next| needed[next] = true);
        }
    }
    let mut writer = Writer { steps, backwards: Vec::new(), places: vec![0; steps.len()] };
    for id in (0..=root).filter(|id| needed[*id]) {
        writer.write(id);
    }
    let mut program = writer.backwards;
    program.reverse();
    if program.len() > MOST { Err(SeccompError::TooLarge(program.len())) } else { Ok(program) }
}

fn successors(step: Step) -> [Option<Id>; 2] {
    match step {
        Step::Return(_) => [None, None],
        Step::Load { next, .. } | Step::Mask { next, .. } => [Some(next), None],
        Step::Branch { yes, no, .. } => [Some(yes), Some(no)],
    }
}

/// Writes from the end: jumps only go forwards, so where they lead stands already.
struct Writer<'a> {
    steps: &'a [Step],
    backwards: Vec<Instruction>,
    /// Where a step stands, or the latest instruction that does the same.
    places: Vec<usize>,
}

impl Writer<'_> {
    fn write(&mut self, id: Id) {
        let (code, yes, no, value) = match self.steps[id] {
            Step::Return(action) => (RETURN, 0, 0, action),
            Step::Load { offset, next } => {
                self.follow(next);
                (LOAD, 0, 0, offset)
            }
            Step::Mask { bits, next } => {
                self.follow(next);
                (MASK, 0, 0, bits)
            }
            Step::Branch { compare, value, yes, no } => {
                // One less than a jump reaches: a stepping stone for the other side may come between.
                self.approach(yes, 254);
                self.approach(no, 255);
                let code = match compare {
                    Compare::Equal => EQUAL,
                    Compare::Greater => GREATER,
                    Compare::GreaterOrEqual => GREATER_OR_EQUAL,
                    Compare::AnyBit => ANY_BIT,
                };
                // Both fit: `approach` has seen to it.
                (code, self.distance(yes) as u8, self.distance(no) as u8, value)
            }
        };
        self.places[id] = self.backwards.len();
        self.backwards.push(Instruction { code, yes, no, value });
    }

    /// How many instructions lie between the one that is written next and a step.
    fn distance(&self, id: Id) -> usize {
        self.backwards.len() - self.places[id] - 1
    }

    fn follow(&mut self, id: Id) {
        self.approach(id, 0);
    }

    /// Makes sure that a step is at most so far away: by its copy if it is an end, by a jump to it otherwise.
    fn approach(&mut self, id: Id, most: usize) {
        let distance = self.distance(id);
        if distance > most {
            let (code, value) = match self.steps[id] {
                Step::Return(action) => (RETURN, action),
                _ => (JUMP, distance as u32),
            };
            self.places[id] = self.backwards.len();
            self.backwards.push(Instruction { code, yes: 0, no: 0, value });
        }
    }
}
