//! Runs a program as the kernel does: `seccomp_run_filters` over classic BPF, for the instructions that seccomp takes.

use crate::seccomp::program::Instruction;

/// What a filter sees of a system call (`struct seccomp_data`).
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) number: u32,
    pub(super) architecture: u32,
    pub(super) arguments: [u64; 6],
    pub(super) big_endian: bool,
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.architecture,
            16..64 if offset.is_multiple_of(4) => {
                let argument = self.arguments[(offset as usize - 16) / 8];
                let high = (offset.is_multiple_of(8)) == self.big_endian;
                if high { (argument >> 32) as u32 } else { argument as u32 }
            }
            _ => panic!("a word at {offset}"),
        }
    }
}

/// The verdict, how many instructions it took, and whether the number was looked at on the way.
pub(super) fn run(program: &[Instruction], call: &Call) -> (u32, usize, bool) {
    let (mut accumulator, mut at, mut looked) = (0u32, 0usize, false);
    for step in 1.. {
        let Instruction { code, yes, no, value } = program[at];
        at += 1;
        let mut jump = |holds: bool| at += usize::from(if holds { yes } else { no });
        match code {
            0x20 => {
                accumulator = call.word(value);
                looked |= value == 0;
            }
            0x54 => accumulator &= value,
            0x05 => at += value as usize,
            0x15 => jump(accumulator == value),
            0x25 => jump(accumulator > value),
            0x35 => jump(accumulator >= value),
            0x45 => jump(accumulator & value != 0),
            0x06 => return (value, step, looked),
            other => panic!("instruction {other:#x}"),
        }
    }
    unreachable!()
}
