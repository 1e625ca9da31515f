//! Decisions as a graph: steps of the kernel's filter machine, each made once, and the search tree over numbers.

use std::collections::HashMap;

/// A step of a [`Graph`]. A step's successors were made before it, so they have smaller numbers.
pub(super) type Id = usize;

/// How the machine's register is compared with a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Compare {
    Equal,
    Greater,
    GreaterOrEqual,
    AnyBit,
}

/// What the machine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// Ends with an action (SECCOMP_RET_…).
    Return(u32),
    /// Reads a word of `struct seccomp_data` into the register.
    Load { offset: u32, next: Id },
    /// Keeps some bits of the register.
    Mask { bits: u32, next: Id },
    /// Looks at the register.
    Branch { compare: Compare, value: u32, yes: Id, no: Id },
}

/// Steps, equal ones only once.
#[derive(Default)]
pub(super) struct Graph {
    steps: Vec<Step>,
    known: HashMap<Step, Id>,
}

impl Graph {
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    fn add(&mut self, step: Step) -> Id {
        *self.known.entry(step).or_insert_with(|| {
            self.steps.push(step);
            self.steps.len() - 1
        })
    }

    pub fn end(&mut self, action: u32) -> Id {
        self.add(Step::Return(action))
    }

    pub fn load(&mut self, offset: u32, next: Id) -> Id {
        // Who ends at once, or looks elsewhere at once, need not look.
        let needs_no_word = matches!(self.steps[next], Step::Return(_) | Step::Load { .. });
        if needs_no_word { next } else { self.add(Step::Load { offset, next }) }
    }

    pub fn mask(&mut self, bits: u32, next: Id) -> Id {
        if bits == u32::MAX { next } else { self.add(Step::Mask { bits, next }) }
    }

    pub fn branch(&mut self, compare: Compare, value: u32, yes: Id, no: Id) -> Id {
        if yes == no { yes } else { self.add(Step::Branch { compare, value, yes, no }) }
    }

    /// A balanced tree over ranges of the register's value: each begins at a number and goes to the next one's; the
    /// first begins at 0 and stands apart, so that there is one.
    pub fn search(&mut self, first: Id, rest: &[(u32, Id)]) -> Id {
        match rest {
            [] => first,
            // A single number in the middle of others.
            [(number, inside), (after, around)] if *around == first && after - number == 1 => {
                self.branch(Compare::Equal, *number, *inside, first)
            }
            _ => {
                let middle = rest.len() / 2;
                let (number, high) = rest[middle];
                let no = self.search(first, &rest[..middle]);
                let yes = self.search(high, &rest[middle + 1..]);
                self.branch(Compare::GreaterOrEqual, number, yes, no)
            }
        }
    }
}
