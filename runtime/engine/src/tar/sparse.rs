//! Maps of sparse files: which parts of the file the archive holds.

use super::number::decimal;
use super::{BLOCK, Problem};

/// A part of a file that has data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// Extents must come in order, must not overlap, must end within the file, and must be all of the stored data. All but
/// the last one must be whole blocks: GNU tar looks for each at the beginning of a block, Go right after the one before.
pub(super) fn check(map: &[Extent], size: u64, stored: u64) -> Result<(), Problem> {
    let (mut end, mut total) = (0_u64, 0_u64);
    for extent in map {
        if extent.offset < end || extent.length > 0 && !total.is_multiple_of(BLOCK as u64) {
            return Err(Problem::SparseMap);
        }
        end = extent.offset.checked_add(extent.length).ok_or(Problem::SparseMap)?;
        // No overflow: the extents do not overlap and end below 2^64.
        total += extent.length;
    }
    // File offsets are signed to the kernel.
    let fits = end <= size && total == stored && i64::try_from(size).is_ok();
    if fits { Ok(()) } else { Err(Problem::SparseMap) }
}

/// The map of formats 0.0 and 0.1: `offset,length,offset,length`.
pub(super) fn parse_list(text: &[u8], map: &mut Vec<Extent>) -> Result<(), Problem> {
    if text.is_empty() {
        return Ok(());
    }
    let mut numbers = text.split(|byte| *byte == b',').map(|text| decimal(text).ok_or(Problem::SparseMap));
    while let Some(offset) = numbers.next() {
        let length = numbers.next().ok_or(Problem::SparseMap)??;
        map.push(Extent { offset: offset?, length });
    }
    Ok(())
}

/// The map of format 1.0, which comes before the data: a count, then offset and length of each extent, a line each.
#[derive(Debug, Default)]
pub(super) struct Lines {
    line: Vec<u8>,
    expected: Option<u64>,
    offset: Option<u64>,
}

impl Lines {
    /// Takes in a block; tells whether the map is complete.
    pub(super) fn take(&mut self, block: &[u8; BLOCK], map: &mut Vec<Extent>) -> Result<bool, Problem> {
        for byte in block {
            if self.is_complete(map) {
                break;
            }
            if *byte != b'\n' {
                // Go reads lines of any length, but no number is longer than this.
                if self.line.len() == 20 {
                    return Err(Problem::SparseMap);
                }
                self.line.push(*byte);
                continue;
            }
            let value = decimal(&self.line).ok_or(Problem::SparseMap)?;
            self.line.clear();
            match (self.expected, self.offset.take()) {
                (None, _) => self.expected = Some(value),
                (Some(_), None) => self.offset = Some(value),
                (Some(_), Some(offset)) => map.push(Extent { offset, length: value }),
            }
        }
        Ok(self.is_complete(map))
    }

    fn is_complete(&self, map: &[Extent]) -> bool {
        self.expected == Some(map.len() as u64) && self.offset.is_none()
    }
}
