//! Memory for a short life: a start needs a few hundred kilobytes in thousands of small pieces, and is over before it would
//! pay to give any back. musl asks the system for it page by page; the first mebibyte comes from a fixed place here.
//! What is needed beyond that is the system's as usual, so a process that stays does not grow.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

const SIZE: usize = 1024 * 1024;

/// The first mebibyte, of which nothing is given back but the last piece.
pub(crate) struct Arena {
    bytes: UnsafeCell<[u8; SIZE]>,
    used: AtomicUsize,
}

// SAFETY: a piece is given to nobody else: `used` moves past it in one atomic step.
unsafe impl Sync for Arena {}

impl Arena {
    pub(crate) const fn new() -> Self {
        Self { bytes: UnsafeCell::new([0; SIZE]), used: AtomicUsize::new(0) }
    }

    fn start(&self) -> usize {
        self.bytes.get() as usize
    }

    fn is_ours(&self, piece: *mut u8) -> bool {
        (self.start()..self.start() + SIZE).contains(&(piece as usize))
    }

    /// Where a piece begins that has these properties, if there is room.
    fn take(&self, layout: Layout) -> Option<usize> {
        let mut at = 0;
        let fits = |used: usize| {
            at = (self.start() + used).next_multiple_of(layout.align()) - self.start();
            at.checked_add(layout.size()).filter(|end| *end <= SIZE)
        };
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(at)
    }
}

// SAFETY: pieces of the arena are aligned, lie inside of it and do not overlap; all others are the system allocator's.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.take(layout) {
            // SAFETY: the piece lies inside of the array.
            Some(at) => unsafe { self.bytes.get().cast::<u8>().add(at) },
            // SAFETY: the caller's promise is passed on.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        if !self.is_ours(piece) {
            // SAFETY: it came from there, with this layout.
            return unsafe { System.dealloc(piece, layout) };
        }
        // The last piece can be used again: strings that grow do not eat up the arena.
        let at = piece as usize - self.start();
        let _ = self.used.compare_exchange(at + layout.size(), at, Ordering::Relaxed, Ordering::Relaxed);
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !self.is_ours(piece) {
            // SAFETY: it came from there, with this layout.
            return unsafe { System.realloc(piece, layout, size) };
        }
        let at = piece as usize - self.start();
        let longer = at.checked_add(size).filter(|end| *end <= SIZE);
        if let Some(end) = longer
            && self.used.compare_exchange(at + layout.size(), end, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            return piece;
        }
        // SAFETY: the layout is valid, by the caller's promise about `size`; both pieces are at least as long as what is
        // copied, and do not overlap.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                std::ptr::copy_nonoverlapping(piece, new, layout.size().min(size));
                self.dealloc(piece, layout);
            }
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_do_not_overlap_grow_in_place_and_end_at_the_systems() {
        static ARENA: Arena = Arena::new();
        let arena = &ARENA;
        let layout = |size, align| Layout::from_size_align(size, align).unwrap_or(Layout::new::<u8>());
        // SAFETY: every piece is used as long as it is there, with the layout that it was made with.
        unsafe {
            let one = arena.alloc(layout(10, 1));
            let two = arena.alloc(layout(8, 64));
            assert!(arena.is_ours(one) && arena.is_ours(two));
            assert_eq!(two as usize % 64, 0);
            assert!(two as usize >= one as usize + 10);
            two.write_bytes(7, 8);
            let longer = arena.realloc(two, layout(8, 64), 4000);
            assert_eq!(longer, two, "the last piece grows where it is");
            let moved = arena.realloc(one, layout(10, 1), 5000);
            assert!(moved as usize >= longer as usize + 4000, "another one moves");
            assert_eq!(std::slice::from_raw_parts(longer, 8), [7; 8]);
            let large = arena.alloc(layout(SIZE, 1));
            assert!(!arena.is_ours(large), "what has no room comes from the system");
            let large = arena.realloc(large, layout(SIZE, 1), 2 * SIZE);
            arena.dealloc(large, layout(2 * SIZE, 1));
            arena.dealloc(moved, layout(5000, 1));
            assert_eq!(arena.alloc(layout(5000, 1)), moved, "the last piece is used again");
        }
    }
}
